"""pool_client.__main__: the module runs as a program."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from support import wait_until

import pool_client


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-P", "-m", "pool_client", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        stdin=subprocess.DEVNULL,
    )


def test_version() -> None:
    """It says its version."""
    assert run("--version").stdout == f"pool-client {pool_client.__version__}\n"


def test_check() -> None:
    """A real check; nothing but progress on standard error."""
    done = run("check", "local/1")
    assert done.returncode == 0, done.stderr
    assert "local/1  ok" in done.stdout
    assert done.stderr == "local/1: starting workers\nlocal/1: measuring\nlocal/1: ok\n"


def test_bad_arguments() -> None:
    """Status 2, in one line."""
    done = run("check")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


def test_interrupted(tmp_path: Path) -> None:
    """Ctrl-C while a host does not answer: no traceback, and nothing is left."""
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\nexec sleep 1000\n")
    ssh.chmod(0o755)
    words = ["check", "ssh://node1", "--ssh-command", str(ssh)]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "pool_client", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until((tmp_path / "called").exists)
    os.kill(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, "")
    assert "Traceback" not in errors
