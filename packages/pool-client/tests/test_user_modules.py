"""The user's own modules on hosts that do not have them, from end to end.

Each test writes a project and runs its main script, whose pool has workers on ``fake://`` hosts:
they share neither its path nor its working directory.
"""

import textwrap
from pathlib import Path

import pytest
from support import run_script

HEAD = """\
import asyncio, os, sys, threading
import fake_remote
from pool_client import Pool
fake_remote.register()
"""

SHAPES = """
    import dataclasses
    import os

    @dataclasses.dataclass
    class Point:
        x: int

    class Wrong(Exception):
        def __init__(self, point):
            super().__init__(point)
            self.point = point

    OFFSET = 0

    def shift(offset):
        global OFFSET
        OFFSET = offset

    def double(point):
        return Point(2 * point.x + OFFSET)

    async def double_later(point):
        return double(point)

    def fail(point):
        raise Wrong(point)

    def where():
        return __file__, os.getcwd()
"""


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))


def run(folder: Path, main: str, files: dict[str, str] | None = None, **options: object) -> str:
    """Run the project's main script; what it printed."""
    project = folder / "project"
    project.mkdir(exist_ok=True)
    write(project, files or {})
    script = folder / "project" / "main.py"
    source = HEAD + textwrap.dedent(main)
    result = run_script(source, as_file=script, cwd=folder, **options)  # type: ignore[arg-type]
    return str(result.stdout)


def test_functions_classes_and_errors(tmp_path: Path) -> None:
    """By reference: functions, classes in arguments and results, errors, initializers."""
    main = """
        import shapes
        from shapes import Point

        with Pool(0, hosts="fake://node1/2", initializer=shapes.shift, initargs=(100,)) as pool:
            assert pool.run(shapes.double, Point(4)) == Point(108)
            assert [p.x for p in pool.map(shapes.double, map(Point, range(50)))] == [
                2 * n + 100 for n in range(50)
            ]
            assert pool.run(shapes.double_later, Point(1)) == Point(102)
            try:
                pool.run(shapes.fail, Point(3))
            except shapes.Wrong as error:
                assert error.point == Point(3)
                place = f'File "client:{shapes.__file__}", line 27, in fail'
                assert place in str(error.__cause__), error.__cause__
                assert "raise Wrong(point)" in str(error.__cause__)
            file, folder = pool.run(shapes.where)
            assert file == "client:" + shapes.__file__
            assert folder != os.getcwd()
            assert pool.run(lambda: shapes.Point(7)) == Point(7)
            print("done")
    """
    assert run(tmp_path, main, {"shapes.py": SHAPES}) == "done\n"


@pytest.mark.parametrize("pickles", ["func_pickle=0", "func_pickle=2, data_pickle=2"])
def test_other_serializers(tmp_path: Path, pickles: str) -> None:
    """Plain pickle for functions, and dill for everything."""
    if "2" in pickles:
        pytest.importorskip("dill")
    main = f"""
        import shapes
        with Pool(0, hosts="fake://node1/1", {pickles}) as pool:
            print(pool.run(shapes.double, shapes.Point(4)))
    """
    assert run(tmp_path, main, {"shapes.py": SHAPES}) == "Point(x=8)\n"


def test_packages(tmp_path: Path) -> None:
    """Packages, packages in them, namespaces, data files, and what is imported inside a task."""
    files = {
        "top/__init__.py": "from .middle.leaf import LEAF",
        "top/middle/__init__.py": "",
        "top/middle/leaf.py": "from .. import side\nLEAF = 'leaf'",
        "top/side.py": "def late():\n    from space.own import VALUE\n    return VALUE",
        "space/own.py": "VALUE = 'namespace'",
        "top/table.csv": "1,2",
        "top/reading.py": """
            import importlib.resources, inspect, pkgutil
            def read():
                return (
                    pkgutil.get_data("top", "table.csv"),
                    importlib.resources.files("top").joinpath("table.csv").read_text(),
                    inspect.getsource(read).splitlines()[0],
                )
        """,
    }
    main = """
        import top.side, top.reading
        with Pool(0, hosts="fake://node1/2") as pool:
            print(pool.run(top.side.late))
            print(*pool.run(top.reading.read))
    """
    assert run(tmp_path, main, files) == "namespace\nb'1,2' 1,2 def read():\n"


def test_many_at_once(tmp_path: Path) -> None:
    """All workers of two hosts, and threads in them, import the same and other modules."""
    files = {f"part{n}.py": f"import part{n + 1}\nVALUE = {n}" for n in range(9)}
    files["part9.py"] = "VALUE = 9"
    main = """
        def load(base):
            import importlib
            values = []
            def one(number):
                values.append(importlib.import_module(f"part{number}").VALUE)
            threads = [threading.Thread(target=one, args=((base + n) % 10,)) for n in range(5)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return len(values)

        with Pool(0, hosts="fake://node1/4 fake://node2/4") as pool:
            assert pool.run_on_all(load, 3) == [5] * 8
            assert list(pool.map(load, range(40), chunksize=1)) == [5] * 40
            print("done")
    """
    assert run(tmp_path, main, files) == "done\n"


def test_asynchronous_tasks_and_pools(tmp_path: Path) -> None:
    """An import in a coroutine, in a task that runs a loop of its own, and in a loop's pool."""
    files = {"own.py": "VALUE = 5", "more.py": "VALUE = 6"}
    main = """
        async def late():
            await asyncio.sleep(0)
            import own
            await asyncio.sleep(0)
            import more
            return own.VALUE, more.VALUE

        async def go():
            async with Pool(0, hosts="fake://node1/1") as pool:
                print(await pool.run_async(late))
                print(await pool.run_async(lambda: asyncio.run(late())))

        asyncio.run(go())
    """
    assert run(tmp_path, main, files) == "(5, 6)\n(5, 6)\n"


def test_forked_child_of_a_task(tmp_path: Path) -> None:
    """A process that a task forks imports by itself; its parent goes on."""
    files = {"own.py": "VALUE = 5", "more.py": "VALUE = 6", "last.py": "VALUE = 7"}
    main = """
        def fork():
            import own
            reader, writer = os.pipe()
            pid = os.fork()
            if not pid:
                import more
                os.write(writer, b"%d" % more.VALUE)
                os._exit(0)
            os.waitpid(pid, 0)
            import last
            return own.VALUE, int(os.read(reader, 10)), last.VALUE

        with Pool(0, hosts="fake://node1/1") as pool:
            print(pool.run(fork))
    """
    assert run(tmp_path, main, files) == "(5, 6, 7)\n"


def test_changed_between_pools(tmp_path: Path) -> None:
    """The next pool gets what is in the file then."""
    main = """
        def value():
            import own
            return own.VALUE

        for number in range(3):
            with open(os.path.join(os.path.dirname(__file__), "own.py"), "w") as file:
                file.write(f"VALUE = {number}")
            with Pool(0, hosts="fake://node1/1") as pool:
                print(pool.run(value))
    """
    assert run(tmp_path, main) == "0\n1\n2\n"


def test_working_directory_and_code_paths(tmp_path: Path) -> None:
    """Both give modules; a folder that is merely on the path does not, and the text says how."""
    write(tmp_path, {"here.py": "VALUE = 'here'"})
    elsewhere = tmp_path.parent / (tmp_path.name + "-elsewhere")
    write(elsewhere, {"away.py": "def value():\n    return 'away'"})
    main = f"""
        import away
        def value():
            import here
            return here.VALUE
        with Pool(0, hosts="fake://node1/1") as pool:
            print(pool.run(value))
            try:
                pool.run(away.value)
            except ModuleNotFoundError as error:
                assert "code_paths=[{str(elsewhere)!r}]" in str(error), error
        with Pool(0, hosts="fake://node1/1", code_paths=[{str(elsewhere)!r}]) as pool:
            print(pool.run(away.value))
    """
    assert run(tmp_path, main, env={"PYTHONPATH": f"{Path(__file__).parent}:{elsewhere}"}) == (
        "here\naway\n"
    )


def installed(folder: Path, name: str, version: str) -> Path:
    """Make it look as if a package was installed for the client."""
    site = folder / "env" / "lib" / "site-packages"
    files = {
        f"{name}/__init__.py": "VALUE = 'installed'",
        f"{name}_dist-{version}.dist-info/METADATA": f"Name: {name}-dist\nVersion: {version}\n",
        f"{name}_dist-{version}.dist-info/top_level.txt": name,
    }
    write(site, files)
    return site


def test_what_to_install_where(tmp_path: Path) -> None:
    """An installed package is never sent; the error names it, its version and the host."""
    site = installed(tmp_path, "gadget", "1.2.3")
    main = """
        import gadget
        assert gadget.VALUE == "installed"
        def use():
            import gadget
        def maybe():
            try:
                import gadget
            except ImportError:
                return "without"
        with Pool(0, hosts="fake://node1/1") as pool:
            try:
                pool.run(use)
            except ModuleNotFoundError as error:
                assert error.name == "gadget"
                print(error)
            print(pool.run(maybe))
    """
    output = run(tmp_path, main, env={"PYTHONPATH": f"{Path(__file__).parent}:{site}"})
    first, second = output.splitlines()
    assert first.startswith("No module named 'gadget' on host node1; the client has it installed")
    assert "-m pip install gadget-dist==1.2.3' on host node1" in first
    assert second == "without"


def test_hosts_own_package_comes_first(tmp_path: Path) -> None:
    """What is installed on the host wins over the client's module of that name."""
    site = installed(tmp_path, "gadget", "1.2.3")
    main = f"""
        def use():
            import gadget
            return gadget.VALUE
        with Pool(0, hosts="fake://node1/1?path={site}") as pool:
            print(pool.run(use))
    """
    assert run(tmp_path, main, {"gadget.py": "VALUE = 'client'"}) == "installed\n"


def test_tried_imports_are_cheap(tmp_path: Path) -> None:
    """An import that is only tried costs one request, not one in each task."""
    main = """
        from pool_client.services.module_service import ModuleService
        asked = []
        answer = ModuleService.answer
        def count(self, method, blob):
            asked.append(bytes(blob).decode())
            return answer(self, method, blob)
        ModuleService.answer = count

        def maybe(number):
            try:
                import fancy.part
            except ImportError:
                return number

        with Pool(0, hosts="fake://node1/1") as pool:
            assert pool.run(lambda: [maybe(n) for n in range(100)]) == list(range(100))
            assert list(pool.map(maybe, range(1000))) == list(range(1000))
        # What is missing is believed for a second; a slow machine may take some for all of them.
        assert set(asked) == {"fancy"} and len(asked) < 100, asked
        print("done")
    """
    assert run(tmp_path, main) == "done\n"


def test_compiled_module_beside_the_script(tmp_path: Path) -> None:
    """It is refused, and the error says why."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "fast.cpython-311-x86_64-linux-gnu.so").write_bytes(b"\x7fELF")
    main = """
        def use():
            import fast
        with Pool(0, hosts="fake://node1/1") as pool:
            try:
                pool.run(use)
            except ModuleNotFoundError as error:
                print(error)
    """
    assert "is compiled" in run(tmp_path, main)


def test_module_over_the_limit(tmp_path: Path) -> None:
    """With ``max_message`` a module may be too large: the error says so, the worker lives."""
    main = """
        def use():
            import large
        with Pool(0, hosts="fake://node1/1", max_message=100_000) as pool:
            try:
                pool.run(use)
            except ImportError as error:
                print(error)
            print(pool.run(abs, -1))
    """
    output = run(tmp_path, main, {"large.py": "#" * 200_000})
    assert "max_message" in output and output.endswith("\n1\n")


def test_worker_dies_while_it_imports(tmp_path: Path) -> None:
    """Its task runs again elsewhere, and imports there."""
    files = {
        "deadly.py": """
            import os, signal
            def once(path):
                try:
                    os.close(os.open(path, os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    return "again"
                from importlib import import_module
                import threading
                threading.Timer(0, os.kill, (os.getpid(), signal.SIGKILL)).start()
                while True:
                    try:
                        import_module("nothing_of_that_name")
                    except ImportError:
                        pass
        """
    }
    main = """
        import deadly
        with Pool(0, hosts="fake://node1/2") as pool:
            print(pool.run(deadly.once, os.path.join(os.getcwd(), "once")))
    """
    assert run(tmp_path, main, files) == "again\n"


def test_local_workers_do_without(tmp_path: Path) -> None:
    """They have the client's path; no connection for services is opened, nothing is loaded."""
    main = """
        import own
        def use():
            import own
            return own.VALUE, "pool_worker.remote_modules" in sys.modules
        with Pool(1) as pool:
            print(pool.run(use), "pool_client.services.service_links" in sys.modules)
    """
    assert run(tmp_path, main, {"own.py": "VALUE = 5"}) == "(5, False) False\n"
