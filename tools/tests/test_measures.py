"""Each aim, met and missed."""

from pathlib import Path

import pytest

from tools import measures
from tools.measures import Package
from tools.sources import Function, Module


def module(
    name: str,
    lines: int = 100,
    functions: tuple[Function, ...] = (),
    imports: frozenset[str] = frozenset(),
    io: frozenset[str] = frozenset(),
    marks: tuple[int, ...] = (),
) -> Module:
    """Make a module that meets every aim unless told otherwise."""
    return Module(name, lines, functions, imports, io, marks)


def package(*modules: Module, test_lines: int = 10_000, test_files: str = "") -> Package:
    """Make a package with more than enough tests unless told otherwise."""
    return Package("thing", modules, test_lines, frozenset(test_files.split()))


def test_a_module_may_have_400_lines() -> None:
    assert measures.check_sizes(package(module("thing.a", 400))) == []
    (line,) = measures.check_sizes(package(module("thing.a", 401)))
    assert line == "thing.a has 401 lines, more than 400"


@pytest.mark.parametrize(
    ("function", "missed"),
    [
        (Function("thing.a.f", 60, 8, ()), []),
        (Function("thing.a.f", 61, 8, ()), ["thing.a.f has 61 lines, more than 60"]),
        (Function("thing.a.f", 60, 9, ()), ["thing.a.f has 9 parameters, more than 8"]),
        (Function("pool_client.pool.Pool.__init__", 60, 24, ()), []),
        (Function("thing.a.f", 1, 1, ("x", "return")), ["thing.a.f does not annotate x, return"]),
    ],
)
def test_functions(function: Function, missed: list[str]) -> None:
    assert measures.check_sizes(package(module("thing.a", functions=(function,)))) == missed


def test_circles() -> None:
    one = module("thing.a", imports=frozenset({"thing.b"}))
    two = module("thing.b", imports=frozenset({"thing.a"}))
    assert measures.check_imports(package(one, module("thing.b"))) == []
    assert measures.check_imports(package(one, two)) == ["circle of imports: thing.a, thing.b"]


@pytest.mark.parametrize(
    ("name", "pure"),
    [
        ("pool_protocol", True),
        ("pool_protocol.frames", True),
        ("pool_client.scheduling.scheduler", True),
        ("pool_client.scheduling", True),
        ("pool_client.mapping", True),
        ("pool_client.scheduling.policy", True),
        ("pool_client.scheduling_io", False),
        ("pool_client.engine", False),
        ("pool_worker.runner", False),
    ],
)
def test_where_io_may_be_done(name: str, pure: bool) -> None:
    missed = measures.check_imports(package(module(name, io=frozenset({"socket", "asyncio"}))))
    assert missed == ([f"{name} does I/O: it imports asyncio, socket"] if pure else [])


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("thing.a", "test_a.py"),
        ("thing.__main__", "test_main.py"),
        ("thing.launchers.local", "test_local.py"),
        ("thing.launchers.local", "test_launchers_local.py"),
        ("thing", ""),
    ],
)
def test_each_module_has_a_test_file(name: str, file: str) -> None:
    assert measures.check_test_files(package(module(name), test_files=file)) == []


def test_a_module_without_a_test_file() -> None:
    assert measures.check_test_files(package(module("thing.a"), module("thing.tiny", 10))) == [
        "thing.a has no test_a.py"
    ]


def test_tests_are_as_long_as_what_they_test() -> None:
    assert measures.check_test_lines(package(module("thing"), test_lines=100)) == []
    assert measures.check_test_lines(package(module("thing"), test_lines=99)) == [
        "thing has 99 lines of tests for 100 of source"
    ]


@pytest.mark.parametrize(("lines", "met"), [(69, False), (70, True), (160, True), (161, False)])
def test_the_median_module(lines: int, met: bool) -> None:
    missed = measures.check_all([package(module("thing.a", lines), module("thing.tiny", 3))])
    assert (missed == []) is met


def test_half_of_the_modules_do_no_io() -> None:
    busy = module("thing.a", io=frozenset({"socket"}))
    assert measures.check_all([package(busy), package(module("thing.b"))]) == []
    (line,) = measures.check_all([package(busy, busy, module("thing.b"))])
    assert "33% of the modules do no I/O" in line


def test_two_marks_in_a_thousand_lines_are_allowed() -> None:
    rest = [module(f"thing.m{number}") for number in range(9)]
    assert measures.check_all([package(module("thing.a", marks=(1, 2)), *rest)]) == []
    (line,) = measures.check_all([package(module("thing.a", marks=(1, 2, 5)), *rest)])
    assert line.startswith("3.0 marks")
    assert line.endswith("thing.a:1, thing.a:2, thing.a:5")


def write_package(root: Path, source: str, tests: str) -> None:
    """Write a repository of one package with one module, and empty tools."""
    folder = root / "packages" / "pool-thing"
    for path, text in {
        folder / "src" / "pool_thing" / "__init__.py": "",
        folder / "src" / "pool_thing" / "a.py": source,
        folder / "tests" / "test_a.py": tests,
        root / "tools" / "__init__.py": "",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_main_measures_a_repository(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_package(tmp_path, "x = 1\n" * 100, "y = 1\n" * 100)
    assert measures.main(tmp_path) == 0
    out = capsys.readouterr().out
    assert "pool_thing: 1 modules, 100 lines" in out
    assert "0 aims missed" in out


def test_main_prints_each_aim_that_is_missed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_package(tmp_path, "x = 1\n" * 500, "y = 1\n" * 100)
    assert measures.main(tmp_path) == 1
    printed = capsys.readouterr()
    assert "missed: pool_thing.a has 500 lines, more than 400" in printed.err.splitlines()
    assert printed.out.splitlines()[-1] == "3 aims missed"
