"""The arithmetic of the benchmark: turns, medians and ratios. Nothing here measures anything."""

from collections.abc import Sequence
from statistics import median
from typing import TypeVar

__all__ = ["median", "median_ratio", "spread", "turns"]

Name = TypeVar("Name")


def turns(names: Sequence[Name], rounds: int) -> list[list[Name]]:
    """Return the order of the contestants in each round.

    Each round starts one contestant later than the round before, so that none always runs after
    the same other one or always first on a cool machine.
    """
    if not names:
        return [[] for _ in range(rounds)]
    shifts = [number % len(names) for number in range(rounds)]
    return [[*names[shift:], *names[:shift]] for shift in shifts]


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median of the ratios of two contestants' figures, round by round.

    Raises ValueError when there is no round, or when one has more rounds than the other.
    """
    if not above:
        raise ValueError("there are no rounds to compare")
    return median([one / other for one, other in zip(above, below, strict=True)])


def spread(values: Sequence[float]) -> float:
    """Return how far the rounds lie apart: (largest - smallest) / median; 0 for one round."""
    middle = median(values)
    return (max(values) - min(values)) / middle if middle else 0.0
