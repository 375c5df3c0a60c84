"""Modules that only the client has: found, loaded, inspected, explained, not asked for in vain."""

import importlib
import importlib.resources
import importlib.util
import inspect
import json
import linecache
import os
import pickle
import pkgutil
import subprocess
import sys
import textwrap
import threading
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from driver import PATIENCE
from service_client import ServiceClient

from pool_worker import remote_modules
from pool_worker.remote_modules import ClientFinder, ClientLoader, install
from pool_worker.services import ServiceError

FOLDER = "/home/me/project/"


def path(name: str) -> str:
    """``a__b`` is the file ``a/b.py``, ``a__init`` is ``a/__init__.py``."""
    parts = ["__init__" if part == "init" else part for part in name.split("__")]
    return "/".join(parts) + ".py"


class Modules:
    """A client with some modules, by the paths of their files; counts what it is asked."""

    def __init__(self, **texts: str) -> None:
        self.files = {path(name): textwrap.dedent(text) for name, text in texts.items()}
        self.asked: list[str] = []
        self.install: dict[str, list[str]] = {}
        self.error: Exception | None = None

    def call(self, service: str, method: str, blob: bytes = b"") -> bytes:
        assert service == "modules"
        if self.error is not None:
            raise self.error
        if method == "find":
            self.asked.append(blob.decode())
            return self._find(blob.decode())
        name, wanted = json.loads(blob)
        folder = name.replace(".", "/") + "/"
        if method == "list":
            names = [file[len(folder) :] for file in self.files if file.startswith(folder)]
            return json.dumps([name for name in names if "/" not in name]).encode()
        if folder + wanted not in self.files:
            raise ServiceError("no such file")
        return self.files[folder + wanted].encode()

    def _find(self, name: str) -> bytes:
        base = name.replace(".", "/")
        found: tuple[str, list[str], str] = ("missing", [], "")
        if f"{base}/__init__.py" in self.files:
            file = f"{base}/__init__.py"
            found = ("package", [FOLDER + file], self.files[file])
        elif f"{base}.py" in self.files:
            found = ("module", [f"{FOLDER}{base}.py"], self.files[f"{base}.py"])
        elif any(file.startswith(base + "/") for file in self.files):
            found = ("namespace", [FOLDER + base], "")
        kind, files, source = found
        wanted = self.install.get(name.partition(".")[0], [])
        reason = "the client finds none either"
        if wanted:
            reason = "the client has it installed"
        head = {"kind": kind, "files": files, "install": wanted, "reason": reason}
        return json.dumps(head).encode() + b"\n" + source.encode()


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[Modules]:
    """The client of a finder that is at work; what was imported is forgotten at the end."""
    monkeypatch.setattr(remote_modules, "_BELIEVED", 1000.0)  # longer than any test
    client = Modules()
    finder = ClientFinder(client, "node1")
    before = dict(sys.modules)
    sys.meta_path.append(finder)  # type: ignore[arg-type]
    try:
        yield client
    finally:
        sys.meta_path.remove(finder)  # type: ignore[arg-type]
        for name in sys.modules.keys() - before.keys():
            del sys.modules[name]
        linecache.clearcache()


def has(client: Modules, **texts: str) -> None:
    client.files.update(Modules(**texts).files)


# Found


def test_module(modules: Modules) -> None:
    """One request, and the module says where it came from."""
    has(modules, own="VALUE = 1\n")
    own = importlib.import_module("own")
    assert own.VALUE == 1
    assert own.__file__ == "client:/home/me/project/own.py"
    assert own.__spec__ is not None and own.__spec__.origin == own.__file__
    assert own.__name__ == "own" and own.__package__ == ""
    importlib.import_module("own")
    assert modules.asked == ["own"]


def test_packages(modules: Modules) -> None:
    """Packages in packages, relative imports, and what ``from`` takes out of them."""
    has(
        modules,
        pkg__init="from . import side\nfrom .inner.leaf import LEAF",
        pkg__side="NAME = __name__",
        pkg__inner__init="",
        pkg__inner__leaf="from ..side import NAME\nLEAF = 'leaf of ' + NAME",
    )
    pkg = importlib.import_module("pkg")
    assert pkg.LEAF == "leaf of pkg.side"
    assert list(pkg.__path__) == ["client:/home/me/project/pkg"]
    assert sys.modules["pkg.inner"].__package__ == "pkg.inner"
    assert modules.asked == ["pkg", "pkg.side", "pkg.inner", "pkg.inner.leaf"]


def test_namespace_package(modules: Modules) -> None:
    """A folder without an ``__init__``."""
    has(modules, space__deep__own="VALUE = 3")
    assert importlib.import_module("space.deep.own").VALUE == 3
    assert sys.modules["space"].__file__ is None


def test_namespace_that_the_host_has_too(modules: Modules, tmp_path: Path) -> None:
    """A namespace package may have parts on both sides."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "theirs.py").write_text("VALUE = 'host'")
    has(modules, shared__ours="VALUE = 'client'")
    sys.path.append(str(tmp_path))
    try:
        assert importlib.import_module("shared.theirs").VALUE == "host"
        assert importlib.import_module("shared.ours").VALUE == "client"
    finally:
        sys.path.remove(str(tmp_path))


def test_circle(modules: Modules) -> None:
    """Modules that import each other."""
    has(modules, one="import two\nA = 1", two="import one\nB = 2")
    assert importlib.import_module("one").two.B == 2


def test_encoding(modules: Modules) -> None:
    """The file's own encoding holds: bytes are sent, not text."""

    class Latin(Modules):
        def call(self, service: str, method: str, blob: bytes = b"") -> bytes:
            head = {"kind": "module", "files": ["/p/own.py"], "install": [], "reason": ""}
            return json.dumps(head).encode() + b"\n# coding: latin-1\r\nNAME = '\xe9'\r\n"

    spec = ClientFinder(Latin(), "h").find_spec("own")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.NAME == "é"
    assert "NAME = 'é'\n" in inspect.getsource(module)


def test_reload(modules: Modules) -> None:
    """What was changed is fetched anew."""
    has(modules, own="VALUE = 1")
    own = importlib.import_module("own")
    has(modules, own="VALUE = 2")
    assert importlib.reload(own).VALUE == 2


def test_pickles(modules: Modules) -> None:
    """A class and a function by reference."""
    has(modules, own="class Point:\n    x = 1\ndef double(x):\n    return 2 * x\n")
    assert pickle.loads(b"cown\nPoint\n.").x == 1
    assert pickle.loads(b"cown\ndouble\n.")(2) == 4


# The host comes first


def test_what_the_host_has_wins(modules: Modules, tmp_path: Path) -> None:
    """The client is not even asked."""
    has(modules, own="VALUE = 'client'", json="VALUE = 'client'")
    (tmp_path / "own.py").write_text("VALUE = 'host'")
    sys.path.append(str(tmp_path))
    try:
        assert importlib.import_module("own").VALUE == "host"
    finally:
        sys.path.remove(str(tmp_path))
    assert modules.asked == []


def test_hidden_module(modules: Modules, tmp_path: Path) -> None:
    """A package of the host's that lacks a module which the client's has: the error names it."""
    has(modules, tests__init="", tests__helper="")
    (tmp_path / "tests").mkdir()
    init = tmp_path / "tests" / "__init__.py"
    init.write_text("")
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(ModuleNotFoundError) as caught:
            importlib.import_module("tests.helper")
    finally:
        sys.path.remove(str(tmp_path))
    assert str(init) in str(caught.value) and "hides the client's" in str(caught.value)


def test_missing_part_of_a_hosts_package(modules: Modules) -> None:
    """One request for the package as a whole, however many of its parts are tried."""
    has(modules, other="")
    for name in ("pytest.none", "pytest.neither", "pytest.nor"):
        with pytest.raises(ModuleNotFoundError) as caught:
            importlib.import_module(name)
        assert str(caught.value) == f"No module named {name!r}"
    assert modules.asked == ["pytest"]


def test_part_that_neither_has(modules: Modules, tmp_path: Path) -> None:
    """Where both have the package and neither has the part, nothing is hidden."""
    has(modules, twin__init="")
    (tmp_path / "twin").mkdir()
    (tmp_path / "twin" / "__init__.py").write_text("")
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(ModuleNotFoundError, match=r"^No module named 'twin\.part'$"):
            importlib.import_module("twin.part")
    finally:
        sys.path.remove(str(tmp_path))


def test_standard_library_is_never_asked_for(modules: Modules) -> None:
    """Not even for the parts that a system has left out, or that never were."""
    for name in ("json.none", "msvcrt", "email.none.more"):
        with pytest.raises(ModuleNotFoundError, match=r"^No module named '[\w.]+'"):
            importlib.import_module(name)
    assert modules.asked == []


def test_finders_behind_it_have_their_turn(modules: Modules) -> None:
    """What another finder has, later in the list, is found."""

    class Last:
        def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
            if name != "theirs":
                return None
            return importlib.machinery.ModuleSpec("theirs", None, is_package=True)

    last = Last()
    sys.meta_path.append(last)  # type: ignore[arg-type]
    try:
        assert importlib.import_module("theirs").__name__ == "theirs"
        with pytest.raises(ModuleNotFoundError, match="on host node1"):
            importlib.import_module("nobodys")
    finally:
        sys.meta_path.remove(last)  # type: ignore[arg-type]


# Missing


def test_what_to_install(modules: Modules) -> None:
    """The text says what, in which version, with which Python and where."""
    modules.install["numbers2"] = ["numbers-two==1.2"]
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module("numbers2.linalg")
    text = str(caught.value)
    assert f"{sys.executable} -m pip install numbers-two==1.2" in text
    assert text.startswith("No module named 'numbers2' on host node1")
    assert text.endswith("on host node1")
    assert caught.value.name == "numbers2"


def test_nowhere(modules: Modules) -> None:
    """The client has none either."""
    with pytest.raises(ModuleNotFoundError, match="'gone' on host node1; the client finds none"):
        importlib.import_module("gone")


def test_missing_part_of_the_clients_package(modules: Modules) -> None:
    """An attribute that is no module is a plain ImportError, as everywhere."""
    has(modules, pkg__init="")
    with pytest.raises(ImportError, match="cannot import name 'nothing' from 'pkg'"):
        exec("from pkg import nothing")


def test_client_cannot_be_asked(modules: Modules) -> None:
    """A lost connection is no reason for more than a missing module."""
    modules.error = ServiceError("the line is dead")
    with pytest.raises(ModuleNotFoundError, match="could not be asked: the line is dead"):
        importlib.import_module("own")


def test_tried_imports_cost_one_request(modules: Modules) -> None:
    """``try: import`` in a loop, also of parts of what is missing."""
    for _ in range(100):
        for name in ("fancy", "fancy.part", "fancy.other"):
            with pytest.raises(ImportError):
                importlib.import_module(name)
    assert modules.asked == ["fancy"]


def test_missing_is_not_for_ever(modules: Modules, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user has written meanwhile is found."""
    with pytest.raises(ImportError):
        importlib.import_module("soon")
    has(modules, soon="VALUE = 1")
    with pytest.raises(ImportError):
        importlib.import_module("soon")
    monkeypatch.setattr(remote_modules, "_BELIEVED", 0.0)
    assert importlib.import_module("soon").VALUE == 1


def test_find_spec_gives_none(modules: Modules) -> None:
    """Those who only look whether something is there get None, not an error."""
    has(modules, own="")
    assert importlib.util.find_spec("gone") is None
    assert importlib.util.find_spec("own") is not None
    finder = ClientFinder(modules, "node1")
    assert finder.find_spec("gone") is None
    assert "own" not in sys.modules
    assert "node1" in repr(finder)


def test_error_in_the_module(modules: Modules) -> None:
    """A module that fails is not left half made, and fails again."""
    has(modules, bad="VALUE = 1\nraise ZeroDivisionError('here')", worse="def f(:\n")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="here"):
            importlib.import_module("bad")
    with pytest.raises(SyntaxError) as caught:
        importlib.import_module("worse")
    assert caught.value.filename == "client:/home/me/project/worse.py"


# Seen from inside


def test_source_is_there(modules: Modules) -> None:
    """Tracebacks show the lines, and ``inspect`` the source."""
    has(modules, own="class Point:\n    pass\n\n\ndef fail():\n    return 1 / 0  # here\n")
    own = importlib.import_module("own")
    with pytest.raises(ZeroDivisionError) as caught:
        own.fail()
    shown = "".join(traceback.format_exception(caught.value))
    assert 'File "client:/home/me/project/own.py", line 6, in fail' in shown
    assert "return 1 / 0  # here" in shown
    assert inspect.getsource(own.fail) == "def fail():\n    return 1 / 0  # here\n"
    assert inspect.getsource(own.Point) == "class Point:\n    pass\n"
    assert inspect.getsource(own).startswith("class Point")
    assert own.__loader__.get_source("own").startswith("class Point")
    assert "own" in repr(own.__loader__)


def packaged(modules: Modules) -> ModuleType:
    has(modules, pkg__init="", pkg__deep__init="")
    modules.files |= {"pkg/table.csv": "1,2", "pkg/deep/more.txt": "more"}
    return importlib.import_module("pkg")


def test_package_data(modules: Modules) -> None:
    """``pkgutil.get_data``, and a path made from ``__file__``."""
    pkg = packaged(modules)
    assert pkgutil.get_data("pkg", "table.csv") == b"1,2"
    assert pkg.__loader__.get_data(os.path.join(pkg.__path__[0], "table.csv")) == b"1,2"
    for name in ("none.csv", "../table.csv"):
        with pytest.raises(OSError, match="no such file"):
            pkgutil.get_data("pkg", name)
    with pytest.raises(OSError, match="is not in"):
        pkg.__loader__.get_data("/etc/passwd")


def test_resources(modules: Modules) -> None:
    """``importlib.resources``: reading, listing, and a file for those who need one."""
    packaged(modules)
    files = importlib.resources.files("pkg")
    assert files.joinpath("table.csv").read_text() == "1,2"
    assert (importlib.resources.files("pkg.deep") / "more.txt").read_bytes() == b"more"
    assert {entry.name for entry in files.iterdir()} == {"__init__.py", "table.csv"}
    assert files.joinpath("table.csv").is_file()
    assert not files.joinpath("none.csv").is_file()
    with importlib.resources.as_file(files.joinpath("table.csv")) as copy:
        assert copy.read_text() == "1,2"
    with pytest.raises(FileNotFoundError):
        files.joinpath("none.csv").read_text()


def test_module_has_no_data(modules: Modules) -> None:
    """A module that is no package has no files beside it."""
    has(modules, own="")
    own = importlib.import_module("own")
    assert own.__loader__.get_resource_reader("own") is None
    assert not own.__loader__.is_package("own")
    with pytest.raises(OSError):
        own.__loader__.get_data("client:/home/me/project/secret.txt")
    reader = remote_modules.PackageData(
        ClientLoader("pkg", "client:/p/pkg/__init__.py", b"", modules)
    )
    with pytest.raises(FileNotFoundError):
        reader.resource_path("table.csv")


# Over a real connection


def test_installed_finder(folder: Path) -> None:
    """At the end of the list; many threads import at once."""
    # In a row, not in a circle: there, threads may see each other's modules half made, as always.
    texts = {f"own{n}": f"import own{n + 1}\nVALUE = {n}" for n in range(7)}
    client = Modules(**texts, own7="VALUE = 7")
    before = dict(sys.modules)

    def answer(line: Any, request: Any) -> bytes:
        return client.call(request.service, request.method, request.blob)

    with ServiceClient(folder, answer) as server:
        finder = install(replace(server.settings, modules=True), 5)
        assert sys.meta_path[-1] is finder
        try:
            values: list[int] = []
            threads = [
                threading.Thread(
                    target=lambda n=n: values.append(importlib.import_module(f"own{n}").VALUE)
                )
                for n in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)
            assert sorted(values) == list(range(8))
            assert len(server.lines) == 1 and server.lines[0].identity.worker == 5
            finder._asks._line.channel.close()  # type: ignore[attr-defined]
        finally:
            sys.meta_path.remove(finder)  # type: ignore[arg-type]
            for name in sys.modules.keys() - before.keys():
                del sys.modules[name]


def test_installing_costs_nothing(folder: Path) -> None:
    """No connection, and nothing heavy is loaded."""
    program = """
        import sys
        from pool_worker.remote_modules import install
        from pool_worker.settings import Settings
        install(Settings("/nowhere", b"12345678", bytes(32)), 1)
        import json, email.message
        print([name for name in ("asyncio", "importlib.resources") if name in sys.modules])
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True
    )
    assert (result.stdout, result.stderr) == ("[]\n", "")
