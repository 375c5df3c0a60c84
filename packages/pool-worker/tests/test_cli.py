"""pool_worker.cli: the flags."""

import sys

import pytest

from pool_worker import __version__, cli


def test_no_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"pool-worker {__version__} is installed"
    assert any(line.startswith("pool-protocol ") for line in lines)
    assert any(line.startswith("wire protocol ") for line in lines)
    assert any(line.startswith(f"Python {sys.version.split()[0]}") for line in lines)
    assert any(line.startswith("cloudpickle ") for line in lines)


@pytest.mark.parametrize("flag", ["--version", "--help"])
def test_information(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([flag])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith("pool-worker" if flag == "--version" else "usage: pool-worker")
    if flag == "--help":
        assert "--launch" in out and "--start-method" in out and "exit status" in out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--unknown"], "--unknown"),
        (["extra"], "extra"),
        (["--start-method", "magic", "--launch"], "magic"),
        (["--start-method", "fork"], "--launch"),
        (["--start-method"], "--start-method"),
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
