"""Time that others are given, of which hardly any passes while this process stands still. Pure.

A process that was stopped, by Ctrl-Z or with its machine, finds that hours have passed. In these,
nobody for whom it waits was heard, and perhaps nobody could do anything.
"""

import time
from collections.abc import Callable

#: The most that one look takes away, in seconds.
_MOST = 0.5


class Patience:
    """So many seconds for somebody else, for whoever looks again and again whether they are over.

    Args:
        seconds: How long to wait.
        clock: The time in seconds, from any moment on.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._left = seconds
        self._clock = clock
        self._seen = clock()

    def __repr__(self) -> str:
        return f"<Patience {self._left:g} s>"

    def over(self) -> bool:
        """Has all of it passed? The time since the last look counts, up to half a second."""
        now = self._clock()
        self._left -= min(now - self._seen, _MOST)
        self._seen = now
        return self._left <= 0.0
