"""Taking the results of a map: chunk by chunk, the errors among them, and its time limit."""

from collections.abc import Callable, Iterator
from typing import Any, Never, Self

from pool_client.mapping.flow import Flow, Part


class Taker:
    """What a front end does between two waits. ``clock`` gives nanoseconds.

    ``flawed``: some of the results that were given last are a `Failure`.
    """

    def __init__(self, flow: Flow, timeout: float | None, clock: Callable[[], int]) -> None:
        self._flow = flow
        self._timeout = timeout
        self._clock = clock
        self.deadline: int | None = None
        if timeout is not None and timeout < LONGEST:
            self.deadline = clock() + int(max(timeout, 0.0) * 1e9)
        self._merges = flow.policy.automatic
        self._count = 0
        self.flawed = False

    def begin(self) -> None:
        """The results that were given are taken.

        Past the time limit what was read is still given as far as it is finished, but no more is
        read, or an input without end would never meet its limit.
        """
        if self.deadline is not None and self._clock() >= self.deadline:
            self._flow.expired = True
        self._flow.count_taken(self._count)
        self._count = 0
        self.flawed = False

    def take(self) -> list[Any] | None:
        """The results that are there, of one chunk or several; None if there are none yet.

        In the place of an item that failed is a `Failure`.
        """
        part = self._flow.take()
        if part is None:
            return None
        values = self._unpack(part)
        # Explicit bounds are kept exactly, so there each chunk makes room for itself.
        if part.count < FEW and self._merges:
            self._take_more(values)
        return values

    def _take_more(self, values: list[Any]) -> None:
        """Small chunks are given together."""
        nbytes = 0
        while len(values) < FEW and nbytes < MERGED_BYTES:
            part = self._flow.take()
            if part is None:
                return
            assert part.delivery is not None
            nbytes += part.delivery.nbytes
            values += self._unpack(part)

    def _unpack(self, part: Part) -> list[Any]:
        assert part.delivery is not None
        self._count += part.count
        try:
            result = part.delivery.result()
        except Exception as error:
            self.flawed = True
            return [Failure(error)] * part.count
        if not result.failed:
            return result.values
        self.flawed = True
        values = result.values.copy()
        for place in result.failed:
            values[place] = Failure(values[place])
        return values

    def over(self) -> bool:
        """Whether there is nothing more to come. Raises the error of the inputs."""
        flow = self._flow
        finished = flow.finished
        # In this order: whoever closes it drops what is out and ends the inputs, with an error.
        if flow.closed:
            return True
        if not finished:
            return False
        error, flow.error = flow.error, None
        if error is not None:
            try:
                raise error
            finally:
                # The error has this frame in its traceback: no circle, or it keeps results alive.
                del error
        return True

    def seconds_left(self) -> float | None:
        """How long may be waited. Raises TimeoutError."""
        if self.deadline is None:
            return None
        seconds = (self.deadline - self._clock()) / 1e9
        if seconds <= 0:
            raise TimeoutError(f"map was not finished within its timeout of {self._timeout:g} s")
        return seconds


#: Timeouts of at least so many seconds are none.
LONGEST = 1e9
#: Chunks with fewer items are given together, up to so many, and so many bytes.
FEW = 256
MERGED_BYTES = 1 << 20


class Failure:
    """Stands in the place of an item that failed."""

    __slots__ = ("_error", "_traceback")

    def __init__(self, error: BaseException) -> None:
        if isinstance(error, StopIteration | StopAsyncIteration):
            # Raised by an iterator, it would be taken for the end.
            name = type(error).__name__
            replaced = RuntimeError(f"the function raised {name}")
            replaced.__cause__ = error
            error = replaced
        self._error = error
        self._traceback = error.__traceback__

    def throw(self) -> Never:
        """Raise the item's exception."""
        # Items that failed together have one exception: its traceback must not grow with each.
        error = BaseException.with_traceback(self._error, self._traceback)
        del self
        try:
            raise error
        finally:
            del error


class Raising:
    """Iterates over results with failures among them: raises these in their places, and goes on.

    Several threads may use it at a time.
    """

    __slots__ = ("_values",)

    def __init__(self, values: list[Any]) -> None:
        self._values = iter(values)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        value = next(self._values)
        if type(value) is not Failure:
            return value
        del self
        try:
            value.throw()
        finally:
            del value

    def __length_hint__(self) -> int:
        """How many items are left."""
        return self._values.__length_hint__()  # type: ignore[attr-defined, no-any-return]


def iterate(values: list[Any], flawed: bool) -> Iterator[Any]:
    """An iterator over results, which knows how many are left: in C, unless there are failures."""
    return Raising(values) if flawed else iter(values)
