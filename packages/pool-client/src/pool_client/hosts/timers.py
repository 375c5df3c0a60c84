"""Timers that end together."""

import asyncio
from collections.abc import Callable
from typing import Any


class Timers:
    """Calls things later on a loop, until it is told to stop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handles: set[asyncio.TimerHandle] = set()
        self._stopped = False

    def later(self, delay: float, function: Callable[..., None], *args: Any) -> None:
        """Call ``function(*args)`` in ``delay`` seconds; after `stop`: never."""

        def run() -> None:
            self._handles.discard(handle)
            function(*args)

        if not self._stopped:
            handle = self._loop.call_later(delay, run)
            self._handles.add(handle)

    def stop(self) -> None:
        """Nothing is called any more."""
        self._stopped = True
        for handle in self._handles:
            handle.cancel()
        self._handles.clear()
