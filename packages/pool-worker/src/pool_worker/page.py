"""The page that a worker shares with its supervisor: who is to blame, and what was finished.

Eight 64-bit words, then the area in which results wait until the kernel has them. Every page is a
slice of one file without a name; the supervisor reads and writes it with system calls and maps
nothing, so that a thousand workers cost it nothing and none of them inherits another's page.

The worker stores, the supervisor looks only when the worker is dead or stopped, so the order of
the stores is all that matters:

- ``STARTED`` is stored before the mark is looked at, and it never goes back: what is not above it
  was started. A task above ``SKIP_FROM`` and not above ``SKIP_TO`` is passed over.
- ``DONE`` follows when the worker runs dry, after the results went out.
- ``START_NS`` is stored before ``STARTED`` and ``LIMIT_NS`` after it, so that at no moment a new
  task seems to have run since the old one's start.
- ``END`` moves after the bytes are in the area, and goes to 0 after the kernel has them all: a
  result can be delivered twice, but not lost. It counts from the start of the page; 0: empty.
"""

import mmap
import os
import struct
from typing import Final, NamedTuple

STARTED: Final = 0
ITEM: Final = 1
START_NS: Final = 2
LIMIT_NS: Final = 3
SKIP_FROM: Final = 4
SKIP_TO: Final = 5
DONE: Final = 6
END: Final = 7

_WORDS = struct.Struct("=8Q")
_MARK = struct.Struct("=2Q")
#: Where the area begins, in bytes: beside the words, so that tiny results touch one page only.
AREA: Final = _WORDS.size
#: The size of the whole page, in bytes; a multiple of every usual page size.
SIZE: Final = 128 * 1024


class Words(NamedTuple):
    """The words as they were at one moment."""

    started: int
    item: int
    start_ns: int
    limit_ns: int
    skip_from: int
    skip_to: int
    done: int
    end: int

    @property
    def skipping(self) -> bool:
        """True when ``started`` is a task that was taken back and is being passed over."""
        return self.skip_from < self.started <= self.skip_to

    @property
    def running(self) -> int:
        """The dispatch id of the task to blame for a death now; 0: none."""
        return 0 if self.skipping or self.done == self.started else self.started

    @property
    def last_started(self) -> int:
        """The highest dispatch id that was really started."""
        return self.skip_from if self.skipping else self.started

    def overdue(self, now_ns: int) -> bool:
        """True when a call has run past its limit."""
        return bool(self.limit_ns) and now_ns - self.start_ns > self.limit_ns


class Page:
    """A worker's own page, mapped."""

    def __init__(self, fd: int, slot: int) -> None:
        self.map = mmap.mmap(fd, SIZE, offset=slot * SIZE)
        self.bytes = memoryview(self.map)
        self.words = self.bytes[:AREA].cast("Q")


class Pages:
    """The supervisor's side of every page."""

    def __init__(self) -> None:
        self.fd = _file()
        self._count = 0
        self._free: list[int] = []

    def take(self) -> int:
        """A slot with an empty page. Raises OSError."""
        if self._free:
            slot = self._free.pop()
        else:
            slot = self._count
            # Refused by a limit of the size of files (``ulimit -f``).
            os.ftruncate(self.fd, (slot + 1) * SIZE)
            self._count += 1
        os.pwrite(self.fd, bytes(_WORDS.size), slot * SIZE)
        return slot

    def close(self) -> None:
        """No worker is left."""
        os.close(self.fd)

    def give_back(self, slot: int) -> None:
        """Nobody maps this slot any more."""
        self._free.append(slot)

    def read(self, slot: int) -> Words:
        """The words of a page."""
        return Words._make(_WORDS.unpack(os.pread(self.fd, _WORDS.size, slot * SIZE)))

    def gathered(self, slot: int, words: Words) -> bytes:
        """The results that lay in the area when the words were read, as frames."""
        size = max(0, min(words.end, SIZE) - AREA)
        return os.pread(self.fd, size, slot * SIZE + AREA)

    def mark(self, slot: int, skip_from: int, skip_to: int) -> None:
        """Let the worker pass over what was taken back. The worker must be stopped."""
        os.pwrite(self.fd, _MARK.pack(skip_from, skip_to), slot * SIZE + 8 * SKIP_FROM)


def _file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("pool-worker")
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
