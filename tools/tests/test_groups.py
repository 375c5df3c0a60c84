"""Programs that end together with everything they started."""

import os
import select
import signal
import subprocess
import sys

import pytest

from tools import groups

CHILD = "import time; print('up', flush=True); time.sleep(600)"
PROGRAM = f"""
import signal, subprocess, sys
{{setup}}
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}])
try:
    child.wait()
except KeyboardInterrupt:
    print("tidied", flush=True)
"""
DEAF = "signal.signal(signal.SIGINT, signal.SIG_IGN)"


def start(setup: str = "") -> list[str]:
    """Return a program that waits for a child; the child says when it is there."""
    return [sys.executable, "-c", PROGRAM.format(setup=setup)]


def wait_for_child(reader: int) -> None:
    """Return once the child has said that it is there: in one piece or, unbuffered, in two."""
    said = b""
    while said != b"up\n":
        piece = os.read(reader, 3 - len(said))
        assert piece
        said += piece
        assert b"up\n".startswith(said)


def rest(reader: int) -> bytes:
    """Return what is written to a pipe until the last that has it is gone."""
    with os.fdopen(reader, "rb") as file:
        assert select.select([file], [], [], 100)[0]
        return file.read()


@pytest.fixture
def pipe() -> tuple[int, int]:
    """Return both ends of a pipe, which the test closes."""
    return os.pipe()


@pytest.mark.parametrize(("setup", "said"), [("", b"tidied\n"), (DEAF, b"")])
def test_a_group_ends_with_its_block(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch, setup: str, said: bytes
) -> None:
    """It is interrupted; it is killed, and so are its children, if that does not help."""
    if setup:
        monkeypatch.setattr(groups, "GRACE", 0.2)
    reader, writer = pipe
    with groups.started(start(setup), stdout=writer, stderr=subprocess.DEVNULL) as program:
        os.close(writer)
        wait_for_child(reader)
    assert program.returncode is not None
    # The end of the file comes once the child is gone as well.
    assert rest(reader) == said


def test_what_leaves_the_block_is_raised(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    with pytest.raises(KeyError), groups.started(start(), stdout=writer):
        os.close(writer)
        wait_for_child(reader)
        raise KeyError
    assert rest(reader) == b"tidied\n"


def test_a_program_that_has_ended_is_left_alone() -> None:
    with groups.started([sys.executable, "-c", "raise SystemExit(3)"]) as program:
        program.wait()
    assert program.returncode == 3


def test_a_second_interruption_ends_the_grace(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    reader, writer = pipe
    monkeypatch.setattr(groups.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt), groups.started(start(DEAF), stdout=writer):
        os.close(writer)
        wait_for_child(reader)
    assert rest(reader) == b""


@pytest.mark.parametrize("code", [0, 3])
def test_the_exit_code_of_a_program(code: int) -> None:
    assert groups.run([sys.executable, "-c", f"raise SystemExit({code})"], 100.0) == code


def test_a_program_that_takes_too_long() -> None:
    assert groups.run([sys.executable, "-c", "import time; time.sleep(600)"], 0.1) is None


def test_a_check_that_is_ended_ends_its_groups(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    code = f"""
import sys
from tools import groups
groups.tidy_when_ended()
groups.run({start()!r}, 600)
"""
    check = subprocess.Popen([sys.executable, "-c", code], cwd=groups.ROOT, stdout=writer)
    os.close(writer)
    wait_for_child(reader)
    check.send_signal(signal.SIGTERM)
    assert check.wait(100) == 128 + signal.SIGTERM
    assert rest(reader) == b"tidied\n"
