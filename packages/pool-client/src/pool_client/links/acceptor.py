"""A listening socket on the loop: accepts, and waits when descriptors are short."""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

logger = logging.getLogger("pool_client")

#: Peers that are accepted before others on the loop have their turn.
_AT_ONCE = 64
#: Seconds until an acceptor that cannot go on tries again.
PAUSE = 0.1
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
#: What Linux reports of one peer's network: see accept(2).
_PASSING = (
    *(errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.ENOPROTOOPT, errno.EOPNOTSUPP),
    *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENONET),
)


class Acceptor:
    """Accepts on ``sock``, which it owns, and gives each peer's socket and address to ``greet``.

    While ``full`` says so, further peers wait in the backlog.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        greet: Callable[[socket.socket, str], None],
        full: Callable[[], bool],
    ) -> None:
        self.sock = sock
        self._loop = loop
        self._greet = greet
        self._full = full
        self._paused = False
        self._warned = False
        sock.setblocking(False)
        loop.add_reader(sock.fileno(), self._accept)

    def _accept(self) -> None:
        came = False
        for _ in range(_AT_ONCE):
            if self._full():
                return self._pause()
            try:
                sock, address = self.sock.accept()
            except (BlockingIOError, InterruptedError):
                return None
            except OSError as error:
                if error.errno in _PASSING:
                    continue
                if error.errno not in _SHORT:
                    self._pause()  # it may be so each time
                    raise
                if not self._warned:
                    self._warned = True
                    logger.warning("cannot accept a worker yet, and try again: %s", error)
                return self._pause()
            came = True
            self._greet(sock, address[0] if isinstance(address, tuple) else "")
        # Errors alone: they may never pass.
        return None if came else self._pause()

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._loop.remove_reader(self.sock.fileno())
            self._loop.call_later(PAUSE, self._resume)

    def _resume(self) -> None:
        self._paused = False
        if self.sock.fileno() >= 0:
            self._loop.add_reader(self.sock.fileno(), self._accept)

    def close(self) -> None:
        """Stop listening."""
        if self.sock.fileno() >= 0:
            if not self._paused:
                self._loop.remove_reader(self.sock.fileno())
            self.sock.close()

    def abandon(self) -> None:
        """Close the descriptor without touching the loop: in a forked child."""
        self.sock.close()
