"""pool_worker.__main__: the module runs as a program."""

import subprocess
import sys


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-P", "-m", "pool_worker", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def test_it_says_that_it_is_installed() -> None:
    done = run()
    assert done.returncode == 0
    assert done.stdout.startswith("pool-worker ")
    assert not done.stderr


def test_a_bad_flag_is_one_line_and_status_2() -> None:
    done = run("--lanch")
    assert done.returncode == 2
    assert not done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert "--lanch" in done.stderr


def test_a_launch_without_settings_says_what_it_is_for() -> None:
    done = run("--launch")
    assert done.returncode == 2
    assert "started by a pool's client" in done.stderr
