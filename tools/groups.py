"""Programs that end together with everything they started in their process group."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Any, Never

from tools.bootstrap import ROOT

GRACE = 30.0
"""Seconds that an interrupted program has for tidying up: tests remove their containers."""

_PAUSE = 0.05


@contextlib.contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a program in a group of its own, which ends with the block.

    Args:
        command: The program and its arguments; it runs in the repository's root.
        options: More for ``subprocess.Popen``.

    Yields:
        The program. If it runs at the end of the block, its group is interrupted, as by Ctrl-C,
        and killed once the program has ended or ``GRACE`` is over.
    """
    nothing = subprocess.DEVNULL
    program = subprocess.Popen(command, cwd=ROOT, stdin=nothing, start_new_session=True, **options)
    try:
        yield program
    finally:
        if program.poll() is None:
            _end(program)


def run(command: Sequence[str], limit: float) -> int | None:
    """Run a program, for so long at most.

    Args:
        command: The program and its arguments.
        limit: How many seconds it may take.

    Returns:
        Its exit code; None if it took longer and was ended.
    """
    with started(command) as program, contextlib.suppress(subprocess.TimeoutExpired):
        return program.wait(limit)
    return None


def _end(program: "subprocess.Popen[bytes]") -> None:
    """Interrupt a program's group, then kill it."""
    if os.name == "nt":
        program.kill()
        program.wait()
        return
    os.killpg(program.pid, signal.SIGINT)
    deadline = time.monotonic() + GRACE
    # Not collected before its group is killed: nobody else can have the group's number until then.
    look = os.WEXITED | os.WNOHANG | os.WNOWAIT
    try:
        while time.monotonic() < deadline and os.waitid(os.P_PID, program.pid, look) is None:
            time.sleep(_PAUSE)
    finally:  # also when whoever waits for it is interrupted once more
        os.killpg(program.pid, signal.SIGKILL)
        program.wait()


def tidy_when_ended() -> None:
    """Let signals that end this program do so as exceptions, so that its groups end too."""
    for name in ("SIGTERM", "SIGHUP"):
        if number := getattr(signal, name, None):
            signal.signal(number, _exit)


def _exit(number: int, _: object) -> Never:
    raise SystemExit(128 + number)
