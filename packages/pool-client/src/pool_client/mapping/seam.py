"""What a map needs of the engine: chunks go down, deliveries come back.

The function, the star flag and the options of the tasks are bound in the ``Chunks`` object.
"""

from collections.abc import Callable, Collection, Coroutine
from typing import Any, NamedTuple, Protocol


class ChunkResult(NamedTuple):
    """What came back for a chunk."""

    values: list[Any]
    """One for each item, in order; where an item failed, the exception to raise."""
    failed: Collection[int]
    """The indexes of the items that failed; usually empty."""
    nanos: int
    """Service time of the whole chunk in the worker."""


class Delivery(Protocol):
    """A finished chunk, still packed."""

    @property
    def nanos(self) -> int:
        """Service time of the whole chunk in the worker, known without unpacking it."""

    @property
    def nbytes(self) -> int:
        """Size of the packed result."""

    def result(self) -> ChunkResult:
        """Unpack it, in the thread of the consumer. May raise: then the whole chunk failed."""


class ChunkHandle(Protocol):
    """A chunk that was submitted."""

    @property
    def nbytes(self) -> int:
        """Size of the packed chunk."""

    def cancel(self) -> bool:
        """Withdraw the chunk; True if it was not sent, and then ``done`` is not called.

        May be called from any thread, and from a finalizer.
        """


class Chunks(Protocol):
    """Where chunks are submitted."""

    @property
    def workers(self) -> int:
        """How many workers the pool has now, at least 1."""

    @property
    def delay(self) -> float:
        """The round trip to a worker, on average, in ns; 0 if they are all on this machine."""

    def submit_chunk(self, items: list[Any], done: Callable[[Delivery], None]) -> ChunkHandle:
        """Pack a chunk in this thread and queue it. ``done`` is called once, from any thread."""


#: Run a coroutine on the loop where async inputs belong, and call the function after it, on that
#: loop; also if it is cancelled before it begins. What is returned cancels it, from any thread, and
#: also from a finalizer.
Spawn = Callable[[Coroutine[Any, Any, None], Callable[[], None]], Callable[[], object]]
