"""What the tests run on the hosts; a host gets this module from the client."""

import os
import platform
import sys
import time
from pathlib import Path
from typing import Any


def where() -> list[Any]:
    """Say who runs this: the machine, the process, the version of Python."""
    return [platform.node(), os.getpid(), list(sys.version_info[:2])]


def note(log: str, *words: object) -> None:
    """Add a line to a file of the machine that runs this, in one write."""
    with Path(log).open("a", encoding="utf-8") as file:
        file.write(" ".join(map(str, words)) + "\n")


def unit(index: int, log: str, seconds: float = 0.0) -> list[Any]:
    """Note in a file outside the pool that this index runs here; sleep; say who did it."""
    note(log, index, os.getpid())
    time.sleep(seconds)
    return [index, platform.node(), os.getpid()]


def tiny(index: int, log: str) -> list[Any]:
    """Do as `unit` does, and keep a CPU busy for an instant in place of sleeping."""
    note(log, index, os.getpid())
    return [index, platform.node(), os.getpid(), sum(range(1000))]


def nap(seconds: float, log: str, name: str) -> list[Any]:
    """Note the beginning and the end of a long task."""
    note(log, name, "began", os.getpid())
    time.sleep(seconds)
    note(log, name, "ended", os.getpid())
    return [name, platform.node(), os.getpid()]


def hold(log: str, gate: str, name: str) -> list[Any]:
    """Note that it runs, and end once there is a file of that name on the machine."""
    note(log, name, os.getpid())
    end = time.monotonic() + 120
    while not Path(gate).exists():
        if time.monotonic() > end:
            raise TimeoutError(f"nobody made {gate}")
        time.sleep(0.02)
    return [name, platform.node(), os.getpid()]


def spin(seconds: float, log: str) -> None:
    """Keep the interpreter, and the GIL, busy."""
    note(log, "spin", os.getpid())
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))


def eat(megabytes: int) -> int:
    """Fill memory."""
    pieces = [bytes(range(256)) * 4096 for _ in range(megabytes)]
    return sum(map(len, pieces))


def say(count: int, text: str) -> int:
    """Print lines on both streams."""
    for number in range(count):
        print(f"{text} {number}", flush=True)
        print(f"{text} {number}", file=sys.stderr, flush=True)
    return count


def secrets() -> dict[str, str]:
    """Everything that a task sees of how its worker was started."""
    lines = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                lines.append((process / "cmdline").read_bytes().decode(errors="replace"))
            except OSError:
                continue
    return {"arguments": "\n".join(lines), "environment": "\n".join(map(str, os.environ.items()))}
