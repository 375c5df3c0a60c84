"""How much of each measure to do, and the taking of turns."""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from .stats import turns

Name = TypeVar("Name")


@dataclass(frozen=True)
class Plan:
    """The size of a run: quick or full, and the number of rounds where the user gave one."""

    quick: bool = False
    given_rounds: int | None = None

    def rounds(self, full: int, quick: int = 3) -> int:
        """Return how many rounds to do: what the user asked for, or the measure's own number."""
        return self.given_rounds or (quick if self.quick else full)

    def count(self, full: int, quick: int) -> int:
        """Return how many tasks, items or workers to use."""
        return quick if self.quick else full


def interleave(
    contestants: Mapping[Name, Callable[[], float]], rounds: int, seconds: float = 90.0
) -> dict[Name, list[float]]:
    """Let the contestants take turns and return each one's figure for each round.

    No round but the first is begun that would end later than after `seconds`, as far as the one
    before it tells, so that a measure ends in a bounded time on a slow machine. The garbage
    collector keeps running as it always does; what the one before left behind is collected first.
    """
    figures: dict[Name, list[float]] = {name: [] for name in contestants}
    deadline = time.monotonic() + seconds
    for order in turns(list(contestants), rounds):
        begin = time.monotonic()
        for name in order:
            gc.collect()
            figures[name].append(contestants[name]())
        now = time.monotonic()
        if now + (now - begin) > deadline:
            break
    return figures


def rate(count: int, work: Callable[[], object]) -> float:
    """Run `work`, which does `count` things, and return how many it did a second."""
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)
