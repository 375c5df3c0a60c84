"""Where supervisors and workers of this machine connect back to: a socket that only we can reach.

The directory is 0700, the socket 0600, the peer's user is checked, and then comes the handshake.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Callable

from pool_client.errors import HostError
from pool_client.links.acceptor import Acceptor
from pool_client.links.half_open import HalfOpen
from pool_client.links.link import Link, LinkEvents
from pool_client.links.refusals import Refusals
from pool_client.links.socket_folder import SocketFolder
from pool_protocol import Connection, ListenerHandshake

#: Most peers in the middle of a handshake; further ones wait in the backlog.
HALF_OPEN = 2048
_BACKLOG = 4096
#: The size of a socket's buffers, in bytes: large results cross in fewer turns.
_BUFFER = 1 << 20


def _peer_is_us(sock: socket.socket) -> bool:
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # macOS: the directory's mode is what keeps others out
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return bool(struct.unpack("3i", data)[1] == os.getuid())


def _listen(path: str) -> socket.socket:
    """A new Unix socket that listens. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        os.chmod(path, 0o600)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


class Listener:
    """Accepts and authenticates; a link whose peer has proved itself goes to ``events``.

    ``tokens`` gives the token of a launch, or None. Raises HostError when there is no place for
    the socket.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tokens: Callable[[bytes], bytes | None],
        events: LinkEvents,
        max_message: int | None,
    ) -> None:
        self.half_open = HalfOpen(loop, events, Refusals(), HALF_OPEN, HALF_OPEN)
        self._loop = loop
        self._tokens = tokens
        self._max_message = max_message
        self._folder = SocketFolder()
        self.directory = self._folder.path
        self.address = str(self.directory / "socket")
        try:
            sock = _listen(self.address)
        except OSError as error:
            self._folder.remove()
            raise HostError(
                "local",
                f"cannot make a socket in {self.directory.parent} ({error}); "
                "set XDG_RUNTIME_DIR to another folder",
            ) from error
        self._acceptor = Acceptor(loop, sock, self._greet, lambda: self.half_open.full)

    def _greet(self, sock: socket.socket, address: str) -> None:
        if not _peer_is_us(sock):
            sock.close()
            return
        sock.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        connection = Connection(ListenerHandshake(self._tokens), self._max_message)
        self.half_open.add(Link(self._loop, sock, connection, self.half_open), address)

    def close(self) -> None:
        """Stop listening, drop who has not authenticated, remove the files."""
        self._acceptor.close()
        self.half_open.close()
        self.remove_files()

    def remove_files(self) -> None:
        """Remove the socket and its directory."""
        self._folder.remove()

    def abandon(self) -> None:
        """Close the descriptors without touching the loop or the files: in a forked child."""
        self._acceptor.abandon()
        self.half_open.abandon()
        self._folder.release()
