"""What the tests of the map share: a flow over an engine that is run by hand."""

import itertools
import time
from collections.abc import Callable
from typing import Any

from pool_client.mapping.chunking import Policy
from pool_client.mapping.feed import Feed
from pool_client.mapping.flow import Flow
from pool_client.testing import FakeChunks


def double(number: int) -> int:
    """Return twice the number; negative numbers are an error."""
    if number < 0:
        raise ValueError(number)
    return 2 * number


def make_flow(
    chunksize: int | None = 1,
    buffersize: int | None = None,
    *,
    ordered: bool = True,
    length: int | None = None,
    func: Callable[..., Any] = double,
) -> tuple[Flow, FakeChunks]:
    """Return a flow and its engine."""
    chunks = FakeChunks(func)
    return Flow(chunks, Policy(chunksize, buffersize), ordered, length), chunks


class Clock:
    """A clock that stands still, or goes on by so much each time that it is looked at."""

    def __init__(self, step: int = 0) -> None:
        self.now = 0
        self.step = step

    def __call__(self) -> int:
        self.now += self.step
        return self.now


class HaltedClock:
    """The monotonic clock in ns; it stands still until ``runs`` is set."""

    def __init__(self) -> None:
        self.runs = False
        self._begin: int | None = None

    def __call__(self) -> int:
        if not self.runs:
            return 0
        now = time.monotonic_ns()
        if self._begin is None:
            self._begin = now
        return now - self._begin


def make_feed(flow: Flow, rows: Any = None, clock: Clock | None = None) -> Feed:
    """Return a feed of these rows (default: without end)."""
    return Feed(flow, iter(itertools.count() if rows is None else rows), clock or Clock())


def calls() -> tuple[list[int], Callable[[], None]]:
    """Return a list, and a wake-up that adds to it."""
    seen: list[int] = []
    return seen, lambda: seen.append(1)
