"""The pipes into which workers print.

They are always read, whatever becomes of the lines, so that no task ever waits for long because it
prints; and each time for a moment only, one pipe after the other.
"""

import os
import selectors
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from pool_worker import limits
from pool_worker.lines import LONGEST, Backlog, Stream

#: How long pipes are read without a look at anything else, in seconds.
READ_SLICE = 0.01
#: Bytes that a pipe can hold at most, unless somebody has the right to more (``pipe-max-size``).
_PIPE_SIZE = 1024 * 1024


class Ends(NamedTuple):
    """The descriptors into which a worker prints."""

    out: int
    err: int


class Outputs:
    """The pipes of every worker: two descriptors each, so their limit is raised meanwhile."""

    def __init__(self) -> None:
        limits.raise_soft()
        self.backlog = Backlog()
        self._selector = selectors.DefaultSelector()
        self._pipes: dict[int, list[int]] = {}
        self._streams: dict[int, Stream] = {}
        #: Pipes that have something, and have not had their turn.
        self._ready: deque[int] = deque()

    def __repr__(self) -> str:
        return f"<Outputs of {len(self._pipes)} workers, {self.backlog!r}>"

    def fileno(self) -> int:
        """Readable when a pipe is."""
        return self._selector.fileno()

    @property
    def pressing(self) -> bool:
        """True when there is more to read at once."""
        return bool(self._ready)

    @contextmanager
    def pipes(self, worker: int) -> Iterator[Ends]:
        """The ends for a worker that is started meanwhile. Raises OSError."""
        ends: list[int] = []
        readers = self._pipes[worker] = []
        try:
            for number, _ in enumerate(Ends._fields, 1):
                reader, writer = os.pipe()
                ends.append(writer)
                readers.append(reader)
                self._streams[reader] = Stream(worker, number)
                os.set_blocking(reader, False)
                self._selector.register(reader, selectors.EVENT_READ)
            # Nothing can fail any more once the worker is there.
            yield Ends(*ends)
        except BaseException:
            for reader in self._pipes.pop(worker):
                self._drop(reader)
            raise
        finally:
            _close(ends)

    def read(self) -> None:
        """Read what there is, for a moment."""
        if not self._ready:
            self._ready.extend(key.fd for key, _ in self._selector.select(0))
        deadline = time.monotonic() + READ_SLICE
        while self._ready:
            self._read(self._ready.popleft())
            if time.monotonic() > deadline:
                return

    def _read(self, reader: int) -> int:
        """Read once; how many bytes there were."""
        stream = self._streams.get(reader)
        if stream is None:  # closed since it was found ready
            return 0
        try:
            data = os.read(reader, LONGEST)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if data:
            self.backlog.add(stream, stream.lines.feed(data))
        else:
            self._drop(reader)
        return len(data)

    def finish(self, worker: int) -> None:
        """A worker has ended: read what it had printed, and no more.

        A child process of its tasks may hold the pipes, and may print for ever.
        """
        for reader in self._pipes.pop(worker, ()):
            left = _PIPE_SIZE
            while left > 0 and (count := self._read(reader)):
                left -= count
            if reader in self._streams:
                self._drop(reader)

    def _drop(self, reader: int) -> None:
        stream = self._streams.pop(reader)
        if stream.worker in self._pipes:
            # Its number may soon be another pipe's.
            self._pipes[stream.worker].remove(reader)
        self.backlog.add(stream, stream.lines.finish())
        with suppress(KeyError):  # it could not be watched
            self._selector.unregister(reader)
        os.close(reader)

    def finish_all(self) -> None:
        """Every worker has ended."""
        for worker in list(self._pipes):
            self.finish(worker)

    def close(self) -> None:
        """Close every pipe."""
        self.finish_all()
        self._selector.close()
        limits.restore()


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)
