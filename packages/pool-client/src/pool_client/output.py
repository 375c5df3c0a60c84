"""What tasks print on other hosts, and into the streams of a notebook: line by line, in order.

A thread prints: a terminal that stands still, or the reader of a pipe that has stopped reading,
must not stop the engine. What it has printed is acknowledged, and a supervisor sends no more than
it may have unacknowledged, so a flood is bounded from end to end.
"""

import asyncio
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby

from pool_client.side_thread import SideThread
from pool_protocol.messages import Output

logger = logging.getLogger("pool_client")

#: Seconds without any progress after which what is still to be printed is not waited for.
PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Printed:
    """Something to be printed, and who wants to know when it is."""

    host: str
    local: bool
    message: Output
    taken: Callable[[int], None]


class Printer:
    """Prints to whatever ``sys.stdout`` and ``sys.stderr`` are at the time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = SideThread("pool-output")
        self._queue: deque[Printed] = deque()
        self._asked = False
        self._pieces = 0

    def __repr__(self) -> str:
        return f"<Printer {len(self._queue)} waiting, {self._pieces} printed>"

    def take(self, host: str, local: bool, message: Output, taken: Callable[[int], None]) -> None:
        """Print what a worker has printed. On the loop; never waits.

        Args:
            host: The name of the worker's host.
            local: Whether that is this machine: then nothing is put in front of the lines.
            message: The lines.
            taken: Called on the loop with the number of bytes, once they are printed.
        """
        self._queue.append(Printed(host, local, message, taken))
        if not self._asked:
            self._asked = True
            self._thread.submit(self._print)

    async def drain(self) -> None:
        """Wait until all that was taken is printed, or nothing moves; then the thread ends."""
        self._thread.close()
        printed = asyncio.wrap_future(self._thread.submit(_nothing))
        pieces = -1
        while not printed.done() and pieces != self._pieces:
            pieces = self._pieces
            await asyncio.wait((printed,), timeout=PATIENCE)
        if not printed.done():
            printed.cancel()
            logger.warning("standard output or error takes nothing; not waiting for it any more")

    # -- in the thread

    def _print(self) -> None:
        # In this order: `take` looks at the flag after it has put something into the queue.
        self._asked = False
        pieces = [self._queue.popleft() for _ in range(len(self._queue))]
        for number, group in groupby(pieces, lambda piece: piece.message.stream):
            printed = list(group)
            write(number, "".join(map(text, printed)))
            self._pieces += len(printed)
            with suppress(RuntimeError):  # the loop is closed, and nobody wants to know
                self._loop.call_soon_threadsafe(_acknowledge, printed)


def _acknowledge(printed: Iterable[Printed]) -> None:
    for taken, pieces in groupby(printed, lambda piece: piece.taken):
        nbytes = sum(len(piece.message.blob) for piece in pieces)
        if nbytes:
            taken(nbytes)


def _nothing() -> None:
    """Comes after everything that was asked before."""


def text(printed: Printed) -> str:
    """What is to be printed for a message: whole lines."""
    message = printed.message
    prefix = f"[{printed.host} {message.worker}] "
    lines = ""
    if message.dropped:
        many = "line" if message.dropped == 1 else "lines"
        lines = f"{prefix}… {message.dropped} {many} dropped\n"
    blob = bytes(message.blob)
    if not blob:
        return lines
    body = blob.decode("utf-8", "backslashreplace").removesuffix("\n")
    if not printed.local:
        body = prefix + body.replace("\n", "\n" + prefix)
    return f"{lines}{body}\n"


def write(number: int, lines: str) -> None:
    """Write to the current standard output (1) or error (2). Never raises.

    A stream that is closed, broken or not there loses what is written to it.
    """
    stream = sys.stdout if number == 1 else sys.stderr
    _untie(stream)
    try:
        try:
            stream.write(lines)
        except UnicodeEncodeError:
            encoding = stream.encoding or "ascii"
            stream.write(lines.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except Exception as error:  # it may be None, or anything that a program has put there
        logger.debug("what tasks have printed is lost: %s", error)


def _untie(stream: object) -> None:
    """Let what this thread prints in a notebook appear under the cell that runs.

    ipykernel 6 shows what a thread prints under the cell that ran when the thread was started, or
    an earlier one whose number it has inherited; this thread prints for all cells.
    """
    for name in ("_thread_to_parent", "_thread_to_parent_header"):
        ties = getattr(stream, name, None)
        if isinstance(ties, dict):
            ties.pop(threading.get_ident(), None)
