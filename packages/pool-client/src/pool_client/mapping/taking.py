"""Taking the results of a map: chunk by chunk, the errors among them, and its time limit."""

from collections.abc import Callable
from typing import Any

from pool_client.mapping.flow import Flow, Part
from pool_client.mapping.seam import ChunkResult


class Taker:
    """What a front end does between two waits. ``clock`` gives nanoseconds."""

    def __init__(self, flow: Flow, timeout: float | None, clock: Callable[[], int]) -> None:
        self._flow = flow
        self._timeout = timeout
        self._clock = clock
        self.deadline: int | None = None
        if timeout is not None and timeout < LONGEST:
            self.deadline = clock() + int(max(timeout, 0.0) * 1e9)
        self._merges = flow.policy.automatic
        self._count = 0
        self._error: BaseException | None = None

    def begin(self) -> None:
        """The results that were given are taken. Raises the error that comes after them.

        Past the time limit what was read is still given as far as it is finished, but no more is
        read, or an input without end would never meet its limit.
        """
        if self.deadline is not None and self._clock() >= self.deadline:
            self._flow.expired = True
        self._flow.count_taken(self._count)
        self._count = 0
        self._raise()

    def take(self) -> list[Any] | None:
        """The results that are there, of one chunk or several; None if there are none yet.

        Raises the error that comes first.
        """
        part = self._flow.take()
        if part is None:
            return None
        values = self._unpack(part)
        # Explicit bounds are kept exactly, so there each chunk makes room for itself.
        if part.count < FEW and self._merges and self._error is None:
            self._take_more(values)
        if not values:
            self._raise()
        return values

    def _take_more(self, values: list[Any]) -> None:
        """Small chunks are given together."""
        nbytes = 0
        while len(values) < FEW and nbytes < MERGED_BYTES and self._error is None:
            part = self._flow.take()
            if part is None:
                return
            assert part.delivery is not None
            nbytes += part.delivery.nbytes
            try:
                values += self._unpack(part)
            except BaseException as error:
                self._error = error

    def _unpack(self, part: Part) -> list[Any]:
        assert part.delivery is not None
        self._count += part.count
        result = part.delivery.result()
        if not result.failed:
            return result.values
        values, self._error = outcome(result, self._flow.ordered)
        return values

    def over(self) -> bool:
        """Whether there is nothing more to come. Raises the error of the inputs."""
        flow = self._flow
        if flow.closed:
            return True
        if not flow.finished:
            return False
        self._error, flow.error = flow.error, None
        self._raise()
        return True

    def seconds_left(self) -> float | None:
        """How long may be waited. Raises TimeoutError."""
        if self.deadline is None:
            return None
        seconds = (self.deadline - self._clock()) / 1e9
        if seconds <= 0:
            raise TimeoutError(f"map was not finished within its timeout of {self._timeout:g} s")
        return seconds

    def _raise(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                # The error has this frame in its traceback: no circle, or it keeps results alive.
                del error


#: Timeouts of at least so many seconds are none.
LONGEST = 1e9
#: Chunks with fewer items are given together, up to so many, and so many bytes.
FEW = 256
MERGED_BYTES = 1 << 20


def outcome(result: ChunkResult, ordered: bool) -> tuple[list[Any], BaseException]:
    """The results of a chunk with errors to hand over, and the exception to raise after them.

    In order, those before the first failed item; as completed, all of the chunk's good ones.
    """
    values, failed = result.values, result.failed
    first = min(failed)
    if ordered:
        return values[:first], values[first]
    return [value for place, value in enumerate(values) if place not in failed], values[first]
