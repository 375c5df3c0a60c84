"""Rows of sync inputs on their way to a pump on another thread's loop."""

from collections import deque
from collections.abc import Iterator
from typing import Any

from pool_client.mapping.feed import read
from pool_client.mapping.flow import Flow, Wake


class Stash:
    """Sync columns of a mixed map: filled by the thread that takes, emptied by the pump."""

    def __init__(self, flow: Flow, rows: Iterator[Any]) -> None:
        self._flow = flow
        self._source = rows
        self._read = 0
        self._wake: Wake | None = None
        self.rows: deque[Any] = deque()
        self.ended = False
        self.error: Exception | None = None

    def fill(self) -> None:
        """Read as much as the pump can soon use, in this thread."""
        self._flow.hungry = False
        if self.ended:
            return
        ahead, soon = self._flow.limits()
        count = min(ahead - self._read + self._flow.taken, soon - len(self.rows))
        if count > 0:
            items, over, error = read(self._source, count)
            self._read += len(items)
            self.rows.extend(items)
            if over:
                self.error = error
                self.ended = True
        self._ring()

    def expect(self, wake: Wake) -> bool:
        """Have ``wake`` called once there is a row, or the end; False: look again now."""
        self._wake = wake
        if self.rows or self.ended or self._flow.closed:
            self._wake = None
            return False
        self._flow.hungry = True
        self._flow.ring()
        return True

    def _ring(self) -> None:
        if (wake := self._wake) is not None and (self.rows or self.ended):
            self._wake = None
            wake()
