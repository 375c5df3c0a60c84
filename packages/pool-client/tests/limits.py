"""Time limits that are over when a test says so, and not when a clock does.

A test that waits for a short limit in their place fails on a machine that stands still for as long:
what was to happen before comes after it.
"""

from collections.abc import Callable
from typing import Any

from support import end_creation_when


def end_creation_at(patch: Any, words: str) -> None:
    """Let the time for the creation of pools be over once a launcher says it waits for this."""

    def says(fleet: Any) -> bool:
        launches = [runner._launch for runner in fleet.runners if runner._launch is not None]
        return any(words in getattr(launch._launcher, "stage", "") for launch in launches)

    end_creation_when(patch, says)


def end_creation_once_up(patch: Any) -> None:
    """Let that time be over once every host has connected, whatever its workers do."""
    end_creation_when(patch, lambda fleet: all(runner.info is not None for runner in fleet.runners))


def end_patience(pool: Any) -> None:
    """Let the time be over for which a pool without any worker is kept up."""

    def end(fleet: Any) -> None:
        if fleet._alone():
            fleet._alone_since -= 1e6

    _on_the_loop(pool, end)


def ask_often(pool: Any, interval: float) -> None:
    """From now on, ask the other hosts of a pool every so many seconds; the first time now.

    Not from the start on: a host that is slow to begin would be given up.
    """

    def begin(fleet: Any) -> None:
        for runner in fleet.runners:
            if not runner.local:
                runner.heart.interval = interval
                runner._beat(runner.control)

    _on_the_loop(pool, begin)


def _on_the_loop(pool: Any, function: Callable[[Any], None]) -> None:
    engine = pool._core.engine
    engine.submit(lambda: function(engine.fleet))
