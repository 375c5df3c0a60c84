"""Which of the client's modules are found, and which of them are given away."""

import os
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from pool_client.services.modules import MISSING, MODULE, NAMESPACE, PACKAGE, Finder, script_folder


def write(folder: Path, **texts: str) -> Path:
    """Write files whose names have ``__`` for ``/``; they all end in ``.py``."""
    for name, text in texts.items():
        file = folder / (name.replace("__", "/") + ".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def package(folder: Path, name: str, text: str = "") -> Path:
    """Write a package with nothing but its ``__init__``."""
    made = folder / name
    made.mkdir(parents=True)
    (made / "__init__.py").write_text(text)
    return made


def finder(*roots: Path, path: tuple[Path, ...] = (), installed: tuple[Path, ...] = ()) -> Finder:
    return Finder(map(str, roots), lambda top: [str(place) for place in path], map(str, installed))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder for the user's own modules."""
    made = tmp_path / "root"
    made.mkdir()
    return made


# What is found


def test_module(root: Path) -> None:
    """A module is given away as it is in the file, byte for byte, with its path."""
    (root / "own.py").write_bytes(b"# -*- coding: latin-1 -*-\nNAME = '\xe9'\r\n")
    found = finder(root).find("own")
    assert (found.kind, found.files) == (MODULE, (str(root / "own.py"),))
    assert found.source == (root / "own.py").read_bytes()


def test_package_and_its_modules(root: Path) -> None:
    """Packages, packages in them, and modules of both."""
    package(package(root, "outer", "A = 1"), "inner", "B = 2")
    write(root, outer__inner__leaf="C = 3")
    found = finder(root)
    assert found.find("outer").kind == PACKAGE
    assert found.find("outer.inner").source == b"B = 2"
    assert found.find("outer.inner.leaf").files == (str(root / "outer/inner/leaf.py"),)


def test_namespace_of_several_folders(tmp_path: Path) -> None:
    """A namespace package is the folders that it has below all roots."""
    one, two = write(tmp_path / "one", ns__a="A = 1"), write(tmp_path / "two", ns__b="B = 2")
    found = finder(one, two)
    assert found.find("ns").kind == NAMESPACE
    assert found.find("ns").files == (str(one / "ns"), str(two / "ns"))
    assert found.find("ns.b").source == b"B = 2"


def test_package_wins_over_namespace(tmp_path: Path) -> None:
    """A folder without an ``__init__`` counts only where nothing else has the name."""
    one, two = write(tmp_path / "one", own__a=""), tmp_path / "two"
    package(two, "own", "here = 2")
    assert finder(one, two).find("own").source == b"here = 2"


def test_package_wins_over_module(root: Path) -> None:
    """As in an import."""
    write(root, own="module = 1")
    package(root, "own", "package = 1")
    assert finder(root).find("own").source == b"package = 1"


def test_clients_own_order(tmp_path: Path) -> None:
    """Where the client itself would look first, there it is found first."""
    one, two = write(tmp_path / "one", own="here = 1"), write(tmp_path / "two", own="here = 2")
    assert finder(one, two, path=(two, one)).find("own").source == b"here = 2"
    assert finder(one, two).find("own").source == b"here = 1"


def test_below_a_root(root: Path) -> None:
    """A folder of the client's path that lies below a root is as good as the root."""
    write(root, lib__own="here = 1")
    assert finder(root, path=(root / "lib",)).find("own").source == b"here = 1"
    assert finder(root).find("own").kind == MISSING


def test_read_anew(root: Path) -> None:
    """Nothing is remembered: the next pool gets what is in the file then."""
    write(root, own="version = 1")
    found = finder(root)
    assert found.find("own").source == b"version = 1"
    write(root, own="version = 2")
    assert found.find("own").source == b"version = 2"


def test_nowhere(root: Path) -> None:
    """What is nowhere, and a part that a package has not."""
    package(root, "own")
    for name in ("other", "own.other", "own.other.more", "other.own"):
        found = finder(root).find(name)
        assert (found.kind, found.installed) == (MISSING, False)
        assert "finds none either" in found.reason


def test_module_is_no_package(root: Path) -> None:
    """Nothing is found below a module."""
    write(root, own="", own__sub="")
    assert finder(root).find("own.sub").kind == MISSING


# What is not given away


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "..own", "own.", "a..b", "../own", "/etc/passwd", "own/sub", "o-w", "a b"],
)
def test_names_that_are_none(root: Path, name: str) -> None:
    """Only identifiers are looked for."""
    write(root, own="")
    (root.parent / "own.py").write_text("outside = 1")
    found = finder(root).find(name)
    assert found.kind == MISSING
    assert "no module's name" in found.reason


def test_standard_library(root: Path) -> None:
    """A name of the standard library's is never looked for."""
    write(root, json="mine = 1", email__own="")
    for name in ("json", "email.own", "os.path"):
        assert "belongs to Python" in finder(root).find(name).reason


def test_installed_folder_below_a_root(root: Path) -> None:
    """A virtual environment in the working directory gives nothing away."""
    site = write(root / "env" / "lib" / "python3.11" / "site-packages", thing="", pkg__sub="")
    package(site, "regular")
    found = finder(root, path=(root, site))
    for name in ("thing", "pkg", "regular"):
        assert found.find(name).installed, name
    # Not even as a namespace.
    (root / "env" / "pyvenv.cfg").write_text("")
    assert finder(root).find("env.lib").kind == MISSING


def test_working_directory_is_an_installed_folder(root: Path) -> None:
    """A root inside of one is no root."""
    site = write(root / "site-packages", thing="")
    assert finder(site).find("thing").installed
    write(site / "deep", thing="")
    assert finder(site / "deep").find("thing").installed


def test_named_installed_folder(root: Path) -> None:
    """Folders that Python says to be installed ones count, whatever they are called."""
    write(root, lib__thing="", own="")
    found = finder(root, path=(root / "lib",), installed=(root / "lib",))
    assert found.find("thing").installed
    assert found.find("own").kind == MODULE


def test_installed_package_wins_over_a_folder_of_that_name(root: Path) -> None:
    """A folder ``docker`` in the working directory is not the package ``docker``."""
    (root / "docker").mkdir()
    site = root / "site-packages"
    package(site, "docker")
    found = finder(root, path=(root, site)).find("docker")
    assert (found.kind, found.installed) == (MISSING, True)


def test_outside_of_the_roots(tmp_path: Path, root: Path) -> None:
    """The client's own path is no reason to give something away; the text says what is."""
    elsewhere = write(tmp_path / "elsewhere", own="")
    package(elsewhere, "pkg")
    for name in ("own", "pkg"):
        found = finder(root, path=(elsewhere,)).find(name)
        assert (found.kind, found.installed) == (MISSING, False)
        assert f"code_paths=[{str(elsewhere)!r}]" in found.reason


@pytest.mark.parametrize("what", ["module", "package", "folder", "init", "namespace"])
def test_links_out_of_the_roots(tmp_path: Path, root: Path, what: str) -> None:
    """No link leads out, whatever it is a link to."""
    away = tmp_path / "away"
    write(package(away, "own"), sub="secret = 1")
    write(away, own_module="secret = 1", space__sub="secret = 1")
    name = "own"
    if what == "module":
        (root / "own.py").symlink_to(away / "own_module.py")
    elif what == "package":
        (root / "own").symlink_to(away / "own")
        name = "own.sub"
    elif what == "folder":
        package(root, "own")
        (root / "own" / "sub").symlink_to(away / "own")
        name = "own.sub.sub"
    elif what == "init":
        (root / "own").mkdir()
        (root / "own" / "__init__.py").symlink_to(away / "own" / "__init__.py")
    else:
        (root / "own").symlink_to(away / "space")
        name = "own.sub"
    found = finder(root).find(name)
    assert (found.kind, found.source) == (MISSING, b"")
    assert "code_paths" in found.reason


def test_links_within_the_roots(tmp_path: Path, root: Path) -> None:
    """A link from one root into another is fine, and so is a root that is a link."""
    write(tmp_path / "shared", own="here = 1")
    (root / "own.py").symlink_to(tmp_path / "shared" / "own.py")
    assert finder(root, tmp_path / "shared").find("own").source == b"here = 1"
    (tmp_path / "link").symlink_to(tmp_path / "shared")
    assert finder(tmp_path / "link").find("own").source == b"here = 1"


def test_root_is_not_a_prefix_of_a_name(tmp_path: Path) -> None:
    """``/a/root2`` does not lie below ``/a/root``."""
    write(tmp_path / "root2", own="")
    (tmp_path / "root").mkdir()
    found = finder(tmp_path / "root", path=(tmp_path / "root2",)).find("own")
    assert found.kind == MISSING


@pytest.mark.parametrize("end", [".so", ".cpython-399-x86_64-linux-gnu.so", ".abi3.so", ".pyd"])
def test_compiled_modules(root: Path, end: str) -> None:
    """A compiled module is not sent, and the text says that it is one."""
    (root / f"fast{end}").write_bytes(b"\x7fELF")
    found = finder(root).find("fast")
    assert (found.kind, found.installed) == (MISSING, False)
    assert "compiled" in found.reason and f"fast{end}" in found.reason


def test_compiled_module_with_its_source(root: Path) -> None:
    """Where there is source text beside it, that is sent."""
    (root / "fast.so").write_bytes(b"\x7fELF")
    write(root, fast="slow = 1")
    assert finder(root).find("fast").source == b"slow = 1"


def test_compiled_installed_module(root: Path) -> None:
    """An installed one is to be installed, compiled or not."""
    site = root / "site-packages"
    site.mkdir()
    (site / "fast.so").write_bytes(b"\x7fELF")
    assert finder(root, path=(site,)).find("fast").installed


def test_unreadable(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be read is no reason to fail."""
    write(root, own="")

    def fail(self: Path) -> bytes:
        raise PermissionError("no")

    monkeypatch.setattr(Path, "read_bytes", fail)
    found = finder(root).find("own")
    assert found.kind == MISSING and "cannot be read" in found.reason


def test_whole_system_as_root(tmp_path: Path) -> None:
    """Even if the working directory is ``/``, what is installed stays."""
    found = Finder(["/"], lambda top: [*sys.path, str(tmp_path)], [])
    assert found.find("pytest").installed
    write(tmp_path, own="here = 1")
    assert found.find("own").source == b"here = 1"


# Data of packages


@pytest.fixture
def shipped(root: Path) -> Finder:
    """A package with files beside its modules."""
    made = package(root, "own")
    (made / "table.csv").write_text("1,2")
    (made / ".secret").write_text("no")
    (made / "deep").mkdir()
    (made / "deep" / "more.txt").write_text("more")
    (root / "outside.txt").write_text("no")
    (made / "link.txt").symlink_to(root / "outside.txt")
    write(root, plain="")
    return finder(root)


def test_data(shipped: Finder) -> None:
    """Files of a package, also those in folders of it."""
    assert shipped.data("own", "table.csv") == b"1,2"
    assert shipped.data("own", "deep/more.txt") == b"more"
    assert shipped.names("own") == ["__init__.py", "link.txt", "table.csv"]


@pytest.mark.parametrize(
    "path",
    ["../outside.txt", "/etc/passwd", "deep/../../outside.txt", "link.txt", ".secret", "", "none"],
)
def test_data_that_is_not_given_away(shipped: Finder, path: str) -> None:
    """Nothing from outside of the package's folder, and nothing hidden."""
    with pytest.raises(OSError):
        shipped.data("own", path)


@pytest.mark.parametrize("name", ["plain", "none", "json", "..", "pytest"])
def test_data_of_what_is_no_package(shipped: Finder, name: str) -> None:
    """Only packages that are given away themselves have data."""
    with pytest.raises(FileNotFoundError, match="sends no package"):
        shipped.data(name, "table.csv")
    with pytest.raises(FileNotFoundError):
        shipped.names(name)


def test_data_in_an_installed_folder(root: Path) -> None:
    """A folder of installed packages inside of a package keeps its files."""
    site = package(root, "own") / "site-packages"
    site.mkdir()
    (site / "file").write_text("no")
    with pytest.raises(PermissionError):
        finder(root).data("own", "site-packages/file")


# The script's folder


def main(file: str | None, name: str | None = None) -> types.ModuleType:
    made = types.ModuleType("__main__")
    if file is not None:
        made.__file__ = file
    made.__spec__ = ModuleSpec(name, None) if name else None
    return made


@pytest.mark.parametrize(
    ("file", "name", "folder"),
    [
        ("/a/script.py", None, "/a"),
        ("/a/mod.py", "mod", "/a"),
        ("/a/pkg/__main__.py", "pkg.__main__", "/a"),
        ("/a/pkg/sub/tool.py", "pkg.sub.tool", "/a"),
        (None, None, None),
    ],
)
def test_script_folder(file: str | None, name: str | None, folder: str | None) -> None:
    """With ``-m`` it is the folder from which the package was found."""
    assert script_folder(main(file, name)) == folder


def test_script_folder_of_nothing_and_of_a_relative_path() -> None:
    """No main module at all; a relative path is one from here."""
    assert script_folder(None) is None
    assert script_folder(main("script.py")) == os.getcwd()


def test_repr(root: Path) -> None:
    """It says where it looks."""
    assert str(root) in repr(finder(root))
