"""What is looked at where a wheel was installed alone, on a distribution made for each test."""

import sys
from pathlib import Path

import pytest

from tools import installed


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a whole package named ``pool-thing`` in a folder of its own."""
    module = tmp_path / "pool_thing_x"
    module.mkdir()
    (module / "__init__.py").write_text('__version__ = "1.2"\n', encoding="utf-8")
    (module / "__main__.py").write_text("raise SystemExit(0)\n", encoding="utf-8")
    (module / "py.typed").touch()
    information = tmp_path / "pool_thing_x-1.2.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Name: pool-thing-x\nVersion: 1.2\n", encoding="utf-8")
    write_record(tmp_path, "pool_thing_x/__init__.py", f"{information.name}/licenses/LICENSE")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pool_thing_x", raising=False)
    return tmp_path


def write_record(site: Path, *paths: str) -> None:
    """Say which files the package installed."""
    record = site / "pool_thing_x-1.2.dist-info" / "RECORD"
    record.write_text("".join(f"{path},,\n" for path in paths), encoding="utf-8")


@pytest.mark.usefixtures("site")
def test_a_whole_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert installed.main("pool-thing-x") == 0
    assert capsys.readouterr().out == "pool-thing-x 1.2 is whole\n"


def test_each_fault_has_a_line(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (site / "pool_thing_x" / "__init__.py").write_text('__version__ = "1.3"\n', encoding="utf-8")
    (site / "pool_thing_x" / "py.typed").unlink()
    write_record(site, "pool_thing_x/__init__.py", "tests/test_thing.py")
    assert installed.main("pool-thing-x") == 1
    assert capsys.readouterr().err.splitlines() == [
        "pool_thing_x.__version__ is 1.3, not 1.2",
        "pool_thing_x ships no py.typed",
        "pool-thing-x ships no LICENSE",
        "pool-thing-x installs more than itself: tests",
    ]


def test_a_program_that_fails(site: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, script in {"python": "exit 0", "pool-thing-x": "echo broken; exit 3"}.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    monkeypatch.setattr(installed, "PROGRAMS", {"pool-thing-x": []})
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    (fault,) = installed.find_faults("pool-thing-x")
    assert fault == f"{programs / 'pool-thing-x'} exits 3: broken"
