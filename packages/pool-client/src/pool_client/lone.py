"""Keeping the loop awake for the answer to a lone task: to be woken up takes longer than a task."""

import asyncio
import os
import time
from collections.abc import Callable

from pool_protocol.polling import POLL_NS, Polling

#: Let others have this core, if they want it.
_give_way: Callable[[], None] = getattr(os, "sched_yield", lambda: None)


class LoneAnswer:
    """The answers that are waited for while nothing else is under way, one at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._polling = Polling()
        #: When the task was sent; 0: an answer has come.
        self._since = 0

    def asked(self, now: int) -> None:
        """A lone task was sent; ``now`` in ns."""
        waiting, self._since = self._since, now
        if not waiting and self._polling.worth():
            self._loop.call_soon(self._poll)

    def answered(self, now: int) -> None:
        """Any worker has answered; ``now`` in ns."""
        if self._since:
            self._polling.answered(now - self._since)
            self._since = 0

    def _poll(self) -> None:
        """Come again with the loop's next turn, as long as the answer may come at any moment."""
        if not self._since:
            return
        now = time.monotonic_ns()
        if now - self._since > POLL_NS:
            self._polling.in_vain()
            return
        _give_way()
        if not self._polling.wanted(time.monotonic_ns() - now):
            self._loop.call_soon(self._poll)
