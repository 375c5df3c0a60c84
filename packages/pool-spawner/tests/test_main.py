"""The command line of the skeleton: help, version, and the one line that it cannot serve yet."""

import subprocess
import sys

import pytest

from pool_spawner import __version__
from pool_spawner.__main__ import main


def run_module(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m pool_spawner`` as a user would.

    Args:
        arguments: What follows the module's name on the command line.

    Returns:
        The finished process, with its output as text.
    """
    command = [sys.executable, "-m", "pool_spawner", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_without_arguments_it_says_in_one_line_that_it_cannot_serve() -> None:
    done = run_module()
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "cannot serve yet" in done.stderr


def test_help_says_what_it_will_be() -> None:
    done = run_module("--help")
    assert done.returncode == 0
    assert "pool-worker" in done.stdout
    assert "cannot serve yet" in " ".join(done.stdout.split())


def test_version() -> None:
    done = run_module("--version")
    assert (done.returncode, done.stdout) == (0, f"pool-spawner {__version__}\n")


def test_an_unknown_flag_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--no-such-flag"])
    assert raised.value.code == 2
    assert "--no-such-flag" in capsys.readouterr().err


def test_main_returns_the_exit_code_of_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().out == ""
