"""The script part of noxfile.py, as far as it can be shown without installing anything."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools import bootstrap


def test_the_settings_of_pip_are_translated(tmp_path: Path) -> None:
    listing = (
        "global.index-url='https://mirror.example/simple'\n"
        "install.extra-index-url='https://a.example https://b.example'\n"
        f":env:.find-links='{tmp_path} {tmp_path}/missing https://c.example/files'\n"
        "global.cert='/certificates.crt'\n"
        "global.timeout='60'\n"
    )
    assert bootstrap.uv_settings(listing, {}) == {
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "UV_INDEX": "https://a.example https://b.example",
        "UV_FIND_LINKS": f"{tmp_path},https://c.example/files",
        "SSL_CERT_FILE": "/certificates.crt",
    }


def test_what_the_environment_says_is_left_alone() -> None:
    assert bootstrap.uv_settings("global.cert='/a'", {"SSL_CERT_FILE": "/b"}) == {}


def test_no_settings_are_needed() -> None:
    assert bootstrap.uv_settings("", {}) == {}


def test_the_environment_is_made_once() -> None:
    first = bootstrap.environment({"PATH": "/somewhere"})
    assert first["PATH"].endswith("/somewhere")
    assert first["UV_PYTHON_DOWNLOADS"] == "never"
    assert bootstrap.environment(first) == {}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["check"], ["-m", "tools.check"]),
        (["check", "lint"], ["-m", "tools.check", "lint"]),
        (["demo"], ["-m", "nox", "--session", "demo"]),
        (["bench", "--quick"], ["-m", "nox", "--session", "bench", "--", "--quick"]),
        (["bench", "--", "-q"], ["-m", "nox", "--session", "bench", "--", "-q"]),
        (
            ["-s", "tests-3.12", "--", "-k", "foo"],
            ["-m", "nox", "-s", "tests-3.12", "--", "-k", "foo"],
        ),
        (["-l"], ["-m", "nox", "-l"]),
    ],
)
def test_arguments_become_a_command(arguments: list[str], expected: list[str]) -> None:
    assert bootstrap.command("python", arguments) == ["python", *expected]


def test_a_complete_environment_is_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []

    def create(folder: Path, **_: object) -> None:
        python = bootstrap.program(folder)
        python.parent.mkdir(parents=True)
        python.touch()

    def call(command: list[str]) -> int:
        calls.append(command)
        return 0

    monkeypatch.setattr(bootstrap.venv, "create", create)
    monkeypatch.setattr(bootstrap.subprocess, "call", call)
    folder = tmp_path / "place"
    python = bootstrap.ensure_environment(folder)
    assert python == bootstrap.program(folder)
    assert bootstrap.ensure_environment(folder) == python
    assert len(calls) == 1
    assert set(bootstrap.REQUIREMENTS) < set(calls[0])
    monkeypatch.setattr(bootstrap, "REQUIREMENTS", ("nox>=9999",))
    bootstrap.ensure_environment(folder)
    assert len(calls) == 2


def test_a_failed_installation_says_so_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap.venv, "create", lambda folder, **_: folder.mkdir())
    monkeypatch.setattr(bootstrap.subprocess, "call", lambda _: 1)
    for _ in range(2):
        with pytest.raises(SystemExit, match="could not install nox"):
            bootstrap.ensure_environment(tmp_path / "place")


def test_a_python_without_venv_is_told_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(folder: Path, **_: object) -> None:
        raise subprocess.CalledProcessError(1, "ensurepip")

    monkeypatch.setattr(bootstrap.venv, "create", create)
    with pytest.raises(SystemExit, match="python3-venv"):
        bootstrap.ensure_environment(tmp_path / "place")


def test_help_needs_no_environment() -> None:
    command = [sys.executable, "-I", str(bootstrap.ROOT / "noxfile.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "demo" in done.stdout
    assert "check" in done.stdout


def test_without_arguments_it_shows_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert bootstrap.main([]) == 2
    assert "usage" in capsys.readouterr().err
