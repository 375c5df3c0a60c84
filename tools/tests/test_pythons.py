"""Which Pythons are found, in folders made for each test."""

import os
import sys
from pathlib import Path

import pytest

from tools.pythons import Python, find, probe, pyenv_folders, search_path


def make_program(path: Path, script: str) -> Path:
    """Write an executable shell script, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def make_python(folder: Path, full: str, level: str = "final", kind: str = "cpython") -> Path:
    """Write a program that answers as a Python of that version would."""
    minor = ".".join(full.split(".")[:2])
    return make_program(folder / f"python{minor}", f"echo {kind} {full} {level}")


def make_versions(root: Path, *versions: str) -> list[Path]:
    """Make the folders in which pyenv keeps these versions."""
    folders = [root / "versions" / version / "bin" for version in versions]
    for folder in folders:
        folder.mkdir(parents=True)
    return folders


def test_pyenv_folders_are_found_through_its_root_and_the_newest_is_first(tmp_path: Path) -> None:
    folders = make_versions(tmp_path, "3.11.7", "3.9.1", "3.13.0", "2.7.18", "pypy3.10")
    assert pyenv_folders({"PYENV_ROOT": str(tmp_path)}) == [folders[2], folders[0]]


@pytest.mark.parametrize("variable", ["HOME", "PATH"])
def test_pyenv_folders_are_found_without_its_root(tmp_path: Path, variable: str) -> None:
    root = tmp_path / ".pyenv"
    folders = make_versions(root, "3.12.1")
    environ = {"HOME": str(tmp_path)} if variable == "HOME" else {"PATH": str(root / "shims")}
    assert pyenv_folders(environ) == folders


def test_pyenv_folders_are_found_beside_its_program(tmp_path: Path) -> None:
    folders = make_versions(tmp_path, "3.12.1")
    make_program(tmp_path / "bin" / "pyenv", "exit 0")
    assert pyenv_folders({"PATH": str(tmp_path / "bin")}) == folders


def test_without_pyenv_there_are_no_folders() -> None:
    assert pyenv_folders({}) == []


def test_the_versions_go_before_the_shims_and_this_python_before_them(tmp_path: Path) -> None:
    (folder,) = make_versions(tmp_path, "3.12.1")
    shims = str(tmp_path / "shims")
    path = search_path({"PATH": shims, "PYENV_ROOT": str(tmp_path)})
    assert path.split(os.pathsep) == [str(Path(sys.executable).parent), str(folder), shims]
    assert search_path({"PATH": path, "PYENV_ROOT": str(tmp_path)}) == path


def test_a_probe_tells_the_version_of_this_python() -> None:
    python = probe(Path(sys.executable))
    assert python
    assert python.full == ".".join(map(str, sys.version_info[:3]))


@pytest.mark.parametrize(
    "script",
    [
        "exit 127",
        "echo nonsense",
        "echo cpython 3.10.13 final",
        "echo cpython 3.15.0 alpha",
        "echo pypy 3.11.9 final",
    ],
)
def test_a_probe_refuses_what_is_no_released_cpython(tmp_path: Path, script: str) -> None:
    assert probe(make_program(tmp_path / "python3.11", script)) is None


def test_a_probe_of_a_missing_program_finds_nothing(tmp_path: Path) -> None:
    assert probe(tmp_path / "python3.11") is None


def test_a_shim_that_fails_does_not_hide_the_python_behind_it(tmp_path: Path) -> None:
    make_program(tmp_path / "shims" / "python3.12", "exit 127")
    real = make_python(tmp_path / "real", "3.12.1")
    old = make_python(tmp_path / "real", "3.11.7")
    path = os.pathsep.join(map(str, (tmp_path / "shims", tmp_path / "missing", tmp_path / "real")))
    assert find(path) == [Python("3.11", "3.11.7", old), Python("3.12", "3.12.1", real)]


def test_the_first_of_a_version_counts_and_virtual_environments_do_not(tmp_path: Path) -> None:
    make_python(tmp_path / "venv" / "bin", "3.13.2")
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    first = make_python(tmp_path / "a", "3.13.0")
    make_python(tmp_path / "b", "3.13.1")
    folders = (tmp_path / "venv" / "bin", tmp_path / "a", tmp_path / "b")
    assert [python.path for python in find(os.pathsep.join(map(str, folders)))] == [first]


def test_versions_are_ordered_as_numbers(tmp_path: Path) -> None:
    for full in ("3.100.0", "3.11.7", "3.14.0"):
        make_python(tmp_path, full)
    assert [python.minor for python in find(str(tmp_path))] == ["3.11", "3.14", "3.100"]


def test_the_name_for_tox() -> None:
    assert Python("3.12", "3.12.1", Path("python3.12")).tox_name == "py312"
