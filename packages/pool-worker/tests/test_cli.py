"""pool_worker.cli: the flags."""

import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from unittest.mock import Mock

import pytest

from pool_protocol import PROTOCOL_VERSION
from pool_worker import __version__, cli, machine
from pool_worker.joining import Wish


def test_no_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"pool-worker {__version__} is installed"
    assert any(line.startswith("pool-protocol ") for line in lines)
    assert f"protocol {PROTOCOL_VERSION}" in lines
    assert any(line.startswith(f"Python {sys.version.split()[0]}") for line in lines)
    assert any(line.startswith("cloudpickle ") for line in lines)


def test_a_module_that_nobody_has_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It lies in some folder of the path; there are no records of its version."""
    (tmp_path / "cloudpickle.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(metadata, "distribution", Mock(side_effect=metadata.PackageNotFoundError))
    assert cli.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"protocol {PROTOCOL_VERSION}" in lines
    assert "cloudpickle, of unknown version" in lines


@pytest.mark.parametrize("flag", ["--version", "--help"])
def test_information(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([flag])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith("pool-worker" if flag == "--version" else "usage: pool-worker")
    if flag == "--help":
        names = ["launch", "connect", "workers", "credential", "host-name", "retry", "start-method"]
        assert all(f"--{name}" in out for name in names) and "exit status" in out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--unknown"], "--unknown"),
        (["extra"], "extra"),
        (["--start-method", "magic", "--launch"], "magic"),
        (["--start-method", "fork"], "--launch"),
        (["--start-method"], "--start-method"),
        (["--connect"], "--connect"),
        (["--connect", "host"], "HOST:PORT"),
        (["--connect", "::1:80"], "brackets"),
        (["--connect", "h:1", "--launch"], "not allowed"),
        (["--connect", "h:1", "-n", "0"], "number of workers"),
        (["--connect", "h:1", "-n", "1.5"], "number of workers"),
        (["--connect", "h:1", "--retry", "-1"], "number of seconds"),
        (["--connect", "h:1", "--retry", "nan"], "number of seconds"),
        (["--connect", "h:1", "--retry", "inf"], "number of seconds"),
        (["-n", "3"], "--connect"),
        (["--credential", "x"], "--connect"),
        (["--launch", "--host-name", "x"], "--connect"),
        (["--retry", "0"], "--connect"),
        (["--vers"], "--vers"),
    ],
)
def test_bad_arguments_give_one_line(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line and "--help" in line


@pytest.mark.parametrize(
    ("arguments", "method"),
    [(["--launch"], None), (["--launch", "--start-method", "spawn"], "spawn")],
)
def test_a_launch(
    arguments: list[str], method: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []

    def launch(start_method: str | None) -> int:
        seen.append(start_method)
        return 7

    monkeypatch.setattr("pool_worker.supervisor.launch", launch)
    assert cli.main(arguments) == 7
    assert seen == [method]


def test_joining(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Wish] = []

    def join(wish: Wish) -> int:
        seen.append(wish)
        return 7

    monkeypatch.setattr("pool_worker.joining.join", join)
    assert cli.main(["--connect", "host:80"]) == 7
    least = Wish("tls://host:80", machine.cpus(), None, socket.gethostname(), None)
    more = ["-n", "3", "--credential", "/c", "--host-name", "me", "--retry", "2.5"]
    cli.main(["--connect", "[::1]:80", *more, "--start-method", "spawn"])
    assert seen == [least, Wish("tls://[::1]:80", 3, "/c", "me", 2.5, "spawn")]


def test_a_launch_loads_nothing_that_it_does_not_need() -> None:
    """A thousand workers wait for it."""
    code = (
        "import sys; sys.argv[1:] = ['--launch']\n"
        "from pool_worker import cli, supervisor\n"
        "supervisor.launch = lambda method: print(*sys.modules)\n"
        "cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    modules = set(done.stdout.split())
    assert not modules & {"argparse", "ssl", "asyncio", "pool_worker.joining"}
