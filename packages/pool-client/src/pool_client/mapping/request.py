"""The arguments of a call of ``map``, checked."""

from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Real
from operator import index
from typing import Any


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of one map.

    ``timeout`` is in seconds. ``star``: each item is a tuple of arguments. ``length`` is the
    number of rows where every input knows its own, and every input is synchronous.
    """

    columns: tuple[Any, ...]
    timeout: float | None
    chunksize: int | None
    ordered: bool
    star: bool
    buffersize: int | None
    length: int | None

    @property
    def asynchronous(self) -> bool:
        """Whether any input is asynchronous."""
        return any(map(is_async, self.columns))

    @property
    def mixed(self) -> bool:
        """Whether some inputs are asynchronous and some are not."""
        return self.asynchronous and not all(map(is_async, self.columns))

    def sync_rows(self) -> Iterator[Any]:
        """The synchronous inputs, zipped in C; a single input is not wrapped in tuples."""
        columns = [column for column in self.columns if not is_async(column)]
        if len(self.columns) == 1:
            return iter(columns[0])
        return zip(*columns, strict=False)


def is_async(column: object) -> bool:
    """Whether an input is asynchronous. One that can be read both ways counts as such."""
    return hasattr(column, "__aiter__")


def check(
    func: object,
    iterables: tuple[Any, ...],
    *,
    timeout: float | None = None,
    chunksize: int | None = None,
    ordered: bool = True,
    star: bool = False,
    buffersize: int | None = None,
) -> Request:
    """The request that these arguments make. Nothing is read.

    Raises:
        TypeError: an argument has the wrong type, or there is no iterable.
        ValueError: chunksize or buffersize is less than 1, or timeout is not a number.
    """
    if not callable(func):
        raise TypeError(f"func must be callable, not {type(func).__name__}")
    if not iterables:
        raise TypeError("map needs at least one iterable")
    for place, column in enumerate(iterables, 1):
        if not is_async(column):
            _check_iterable(column, place)
    return Request(
        columns=iterables,
        timeout=_seconds(timeout),
        chunksize=_positive("chunksize", chunksize),
        ordered=bool(ordered),
        star=bool(star) or len(iterables) > 1,
        buffersize=_positive("buffersize", buffersize),
        length=_length(iterables),
    )


def _check_iterable(column: Any, place: int) -> None:
    cls = type(column)
    if getattr(cls, "__iter__", None) is None and not hasattr(cls, "__getitem__"):
        raise TypeError(
            f"iterable {place} is neither iterable nor an async iterable: {cls.__name__}"
        )


def _positive(name: str, value: int | None) -> int | None:
    if value is None:
        return None
    try:
        number = index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer or None, not {value!r}") from None
    if number < 1:
        raise ValueError(f"{name} must be at least 1, not {number}")
    return number


def _seconds(value: float | None) -> float | None:
    if value is None:
        return None
    if not isinstance(value, Real):
        raise TypeError(f"timeout must be a number of seconds or None, not {value!r}")
    seconds = float(value)
    if seconds != seconds:
        raise ValueError("timeout must be a number of seconds, not nan")
    return seconds


def _length(iterables: tuple[Any, ...]) -> int | None:
    try:
        if any(map(is_async, iterables)):
            return None
        return min(map(len, iterables))
    except (TypeError, ValueError, OverflowError):
        return None
