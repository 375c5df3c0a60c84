"""The functions that the contestants run: as small as can be, and the same for all."""

import os
import time
from collections.abc import Callable
from typing import Any


def increment(number: int) -> int:
    """Return the next number: the smallest task whose result can be checked."""
    return number + 1


def identity(value: Any) -> Any:
    """Return the argument: what is sent comes back."""
    return value


def nap(seconds: float) -> None:
    """Sleep."""
    time.sleep(seconds)


def hold(seconds: float) -> int:
    """Keep the worker for a while, so that the next task goes to another; return its id."""
    time.sleep(seconds)
    return os.getpid()


def closure() -> Callable[[int], int]:
    """Return a function like `increment` that can only be pickled by value."""
    step = 1

    def increment_by_step(number: int) -> int:
        return number + step

    return increment_by_step
