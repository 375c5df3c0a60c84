"""Functions that run on ssh hosts: nothing is imported here that a bare Python does not have."""

import asyncio
import os
import sys
import time


def where() -> tuple[int, int]:
    """This worker's pid and its supervisor's."""
    return os.getpid(), os.getppid()


def numbered(number: int) -> tuple[int, int]:
    """The number, and who has computed it."""
    return number, os.getpid()


def note(path: str, number: int) -> int:
    """Write down that this ran; returns the number."""
    with open(path, "a") as file:
        file.write(f"{number}\n")
    return number


def hold(started: str, release: str) -> int:
    """Say that it runs, and run on until it is released."""
    with open(started, "a") as file:
        file.write(f"{os.getpid()}\n")
    while not os.path.exists(release):
        time.sleep(0.002)
    return os.getpid()


def sources() -> tuple[str, str]:
    """Where the worker's sources are, and which Python runs them."""
    import pool_worker

    return pool_worker.__file__, sys.executable


def fail_in_the_worker() -> None:
    """Raise an error in a line of the worker's own."""
    from pool_worker.settings import Settings

    Settings.parse("{}")


async def nap(seconds: float) -> float:
    """Sleep without keeping the worker."""
    await asyncio.sleep(seconds)
    return seconds


def fail() -> None:
    """Raise an error."""
    raise ValueError("on purpose")


def exit_now() -> None:
    """End the worker."""
    os._exit(3)
