"""pool_worker.lifeline: the program while it tries to reach its client."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from credentials import tcp_listener
from driver import PATIENCE
from test_supervisor import settings

PROGRAM = [sys.executable, "-P", "-m", "pool_worker", "--launch"]


@pytest.fixture
def waiting(credential: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """It waits for a TLS handshake that nobody does."""
    with tcp_listener() as listener:
        address = f"tls://127.0.0.1:{listener.getsockname()[1]}"
        with subprocess.Popen(PROGRAM, stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            process.stdin.write(settings(address, credential=str(credential)))
            process.stdin.flush()
            sock, _ = listener.accept()
            with sock:
                yield process
                process.kill()


def test_the_end_of_standard_input(waiting: "subprocess.Popen[bytes]") -> None:
    assert waiting.stdin is not None
    waiting.stdin.write(b"what nobody expects")
    waiting.stdin.flush()
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.2)
    waiting.stdin.close()
    assert waiting.wait(PATIENCE) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals(waiting: "subprocess.Popen[bytes]", number: int) -> None:
    waiting.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.1)
    waiting.send_signal(number)
    assert waiting.wait(PATIENCE) == 0


def test_an_end_that_came_before(credential: Path, folder: Path) -> None:
    """Nothing but the line was ever to come, and nobody listens."""
    with tcp_listener() as listener:
        address = f"tls://127.0.0.1:{listener.getsockname()[1]}"
        line = settings(address, credential=str(credential))
        done = subprocess.run(PROGRAM, input=line, capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, b"")


def test_standard_input_that_cannot_tell(folder: Path) -> None:
    file = folder / "settings"
    file.write_bytes(settings(str(folder / "nothing")))
    with open(file, "rb") as stdin:
        done = subprocess.run(PROGRAM, stdin=stdin, capture_output=True, timeout=PATIENCE)
    assert done.returncode in (0, 1) and b"Traceback" not in done.stderr
    reader, writer = os.pipe()
    os.close(writer)
    done = subprocess.run(PROGRAM, stdin=reader, capture_output=True, timeout=PATIENCE)
    os.close(reader)
    assert done.returncode == 2
