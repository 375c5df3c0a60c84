"""What ends a supervisor while it still tries to reach its client.

It may then wait in the kernel for a minute, with no selector to tell of the end of standard input.
So the kernel is asked to send a signal when something happens there.
"""

import fcntl
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType


@contextmanager
def ends_us() -> Iterator[None]:
    """End the process at the end of standard input, and at SIGTERM and SIGHUP; not at SIGINT.

    When it is over, whoever comes next looks after SIGTERM, SIGHUP and standard input.
    """
    # Ctrl-C is the client's affair; it reaches every process of a terminal.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    signal.signal(signal.SIGIO, _look)
    _ask(True)
    try:
        _look()
        yield
    finally:
        _ask(False)
        signal.signal(signal.SIGIO, signal.SIG_DFL)


def _ask(on: bool) -> None:
    with suppress(OSError):  # not every kind of file can do it
        fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
        flags = fcntl.fcntl(0, fcntl.F_GETFL)
        flags = flags | os.O_ASYNC if on else flags & ~os.O_ASYNC
        fcntl.fcntl(0, fcntl.F_SETFL, flags)


def _look(number: int = 0, frame: FrameType | None = None) -> None:
    while select.select([0], [], [], 0)[0]:
        if not os.read(0, 4096):
            sys.exit(0)


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(0)
