"""Waiting for a wake-up that may come from any thread: blocking, and on an event loop.

A wake-up never blocks and takes no lock that a waiter holds, so it may also come from a finalizer.
"""

import asyncio
import os
import threading
from _thread import allocate_lock
from collections.abc import Callable
from contextlib import suppress

Wake = Callable[[], None]

#: Longest single wait for a lock, in seconds: Python sees a signal that comes in the last moment
#: before such a wait only after it; on Windows, a Ctrl-C at any moment.
LONGEST = 0.2 if os.name == "nt" else 0.5


class Bell:
    """Blocks one thread until it is rung."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Wake the thread that waits, or the next that will. From any thread."""
        with suppress(RuntimeError):  # it was rung already
            self._lock.release()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until it is rung, or for so long; it may also return early for no reason."""
        self._lock.acquire(timeout=LONGEST if seconds is None else min(seconds, LONGEST))


async def wait_on_loop(expect: Callable[[Wake], bool], seconds: float | None = None) -> None:
    """Wait for a wake-up, or for so long, on the running loop.

    ``expect`` is given the function that wakes, and says whether there is anything to wait for.
    """
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    thread = threading.get_ident()

    def resolve() -> None:
        if not future.done():
            future.set_result(None)

    def wake() -> None:
        with suppress(RuntimeError):  # the loop was closed, so nobody waits
            if threading.get_ident() == thread:
                resolve()
            else:
                loop.call_soon_threadsafe(resolve)

    if not expect(wake):
        return
    if seconds is None:
        await future
        return
    timer = loop.call_later(seconds, resolve)
    try:
        await future
    finally:
        timer.cancel()
