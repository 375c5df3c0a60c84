"""Signals as events of a selector: no code runs between any two instructions."""

import selectors
import signal
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import FrameType
from typing import Any


class Signals:
    """Catches signals while it lives.

    Args:
        selector: Where they are waited for; the data of its key is a function.
        caught: The signals' numbers.
        received: Is called with the numbers of those that came since the last time.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        caught: Iterable[int],
        received: Callable[[bytes], None],
    ) -> None:
        self._selector = selector
        self._received = received
        #: Those that came. The socket only wakes us: in a flood, it has no room for all of them.
        self._came: dict[int, None] = {}
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._before: dict[int, Any] = {
            number: signal.signal(number, self._note) for number in caught
        }
        # Whoever started us may have had signals blocked, and we inherit that.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        selector.register(self._reader, selectors.EVENT_READ, self.look)

    def __repr__(self) -> str:
        return f"<Signals {sorted(self._before)}>"

    def look(self, events: int = 0) -> None:
        """Tell what has come since the last time."""
        with suppress(BlockingIOError):
            while self._reader.recv(4096):
                pass
        came, self._came = self._came, {}
        if came:
            self._received(bytes(came))

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came[number] = None

    def close(self) -> None:
        """Give the handlers back; what came before is told."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)
        self.look()
        self._selector.unregister(self._reader)
        self._reader.close()
        self._writer.close()
