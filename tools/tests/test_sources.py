"""What is read from sources, on small packages made for each test."""

from pathlib import Path
from textwrap import dedent

import pytest

from tools.sources import Module, find_cycles, read_package


def read(tmp_path: Path, **sources: str) -> dict[str, Module]:
    """Write a package named ``thing`` and read it; ``__`` in names stands for a folder."""
    folder = tmp_path / "thing"
    for name, text in {"init": "", **sources}.items():
        parts = name.split("__")
        path = folder.joinpath(
            *parts[:-1], f"{'__init__' if parts[-1] == 'init' else parts[-1]}.py"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
    return {module.name: module for module in read_package(folder)}


def test_names_and_lines(tmp_path: Path) -> None:
    modules = read(tmp_path, a="x = 1\ny = 2\n", sub__init="", sub__b="z = 3\n", tests__c="")
    assert set(modules) == {"thing", "thing.a", "thing.sub", "thing.sub.b"}
    assert modules["thing.a"].lines == 2


def test_functions_are_measured(tmp_path: Path) -> None:
    source = '''
    class Box:
        def put(self, item: int, *, twice: bool) -> None:
            """Put."""
            def inner(a, /, b: int, *rest, **more):
                return a
        @staticmethod
        def make(size): ...
        async def open(self) -> None: ...
    '''
    found = {function.name: function for function in read(tmp_path, a=source)["thing.a"].functions}
    assert set(found) == {f"thing.a.Box.{name}" for name in ("put", "put.inner", "make", "open")}
    put = found["thing.a.Box.put"]
    assert (put.lines, put.parameters, put.unannotated) == (4, 3, ())
    inner = found["thing.a.Box.put.inner"]
    assert inner.parameters == 2
    assert set(inner.unannotated) == {"a", "rest", "more", "return"}
    assert found["thing.a.Box.make"].unannotated == ("size", "return")


@pytest.mark.parametrize(
    "source",
    [
        "import asyncio",
        "from asyncio import sleep",
        "import asyncio.events as events",
        "if True:\n    import asyncio",
        "try:\n    import asyncio\nexcept ImportError:\n    pass",
        "try:\n    pass\nexcept ImportError:\n    import asyncio",
        "class A:\n    import asyncio",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    import asyncio",
    ],
)
def test_imports_of_io_are_seen(tmp_path: Path, source: str) -> None:
    assert read(tmp_path, a=source)["thing.a"].io == {"asyncio"}


@pytest.mark.parametrize(
    "source",
    [
        "import os, struct",
        "from thing import socket",
        "def late():\n    import asyncio",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import asyncio",
    ],
)
def test_what_does_no_io(tmp_path: Path, source: str) -> None:
    assert read(tmp_path, a=source, socket="")["thing.a"].io == frozenset()


def test_imports_of_siblings_are_resolved(tmp_path: Path) -> None:
    modules = read(
        tmp_path,
        init="from thing.a import x",
        a="from . import b\nfrom thing import c\nfrom .sub import name\nfrom .sub.d import y",
        b="import thing.c\nimport os\nfrom thing import x",
        c="",
        sub__init="name = 1",
        sub__d="from ..b import z\nfrom . import d",
    )
    assert modules["thing"].imports == {"thing.a"}
    assert modules["thing.a"].imports == {"thing.b", "thing.c", "thing.sub", "thing.sub.d"}
    assert modules["thing.b"].imports == {"thing.c", "thing"}
    assert modules["thing.sub.d"].imports == {"thing.b"}


def test_cycles_are_found() -> None:
    edges = {"a": "b", "b": "c", "c": "ad", "d": "e", "e": "d", "f": "a", "g": "x"}
    graph = {name: frozenset(others) for name, others in edges.items()}
    assert find_cycles(graph) == [["a", "b", "c"], ["d", "e"]]
    assert find_cycles({"a": frozenset("b"), "b": frozenset()}) == []


def test_marks_are_found_in_comments_only(tmp_path: Path) -> None:
    ignore, later = "# type: " + "ignore[x]", "# TO" + "DO: later"
    source = f'a = 1  {ignore}\nb = "{ignore}"\n{later}\nc = 3  # a remark\n'
    assert read(tmp_path, a=source)["thing.a"].marks == (1, 3)


def test_a_source_that_is_no_python_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SyntaxError):
        read(tmp_path, a="def (")
