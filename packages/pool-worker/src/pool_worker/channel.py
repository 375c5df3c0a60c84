"""A blocking socket that carries a ``pool_protocol.Connection``."""

import socket
from collections.abc import Sequence
from typing import NoReturn

from pool_protocol import Buffer, Connection, DialerHandshake, Identity, State
from pool_protocol.messages import Control, Message

#: Bytes that the kernel may hold for us; it grants what it allows.
_SEND_BUFFER = 4 * 1024 * 1024
#: The kernel takes at most this many buffers in one call.
_MAX_BUFFERS = 512


class Closed(Exception):
    """The peer has closed the connection."""


class Channel:
    """One connection to the client."""

    def __init__(self, sock: socket.socket, connection: Connection) -> None:
        self.socket = sock
        self.connection = connection

    @classmethod
    def connect(
        cls, address: str, identity: Identity, token: bytes, max_message: int | None
    ) -> "Channel":
        """Connect to the client's Unix socket and do the handshake.

        A full backlog makes the kernel wait for as long as the client lives. Raises OSError,
        Closed, PoolError.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(address)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        connection = Connection(DialerHandshake(identity, token), max_message)
        channel = cls(sock, connection)
        channel.write(connection.take())
        while connection.state is State.HANDSHAKE:
            channel.receive()
            channel.write(connection.take())
        return channel

    def receive(self) -> list[Message]:
        """Wait for bytes; the messages that they complete. Raises Closed, OSError, PoolError."""
        connection = self.connection
        count = self.socket.recv_into(connection.get_buffer())
        if not count:
            self._closed()
        return connection.received(count)

    def _closed(self) -> NoReturn:
        raise Closed("the client has closed the connection")

    def send(self, message: Control) -> None:
        """Send one message. Raises OSError, FrameTooLarge."""
        self.connection.send(message)
        self.write(self.connection.take())

    def write(self, buffers: Sequence[Buffer]) -> None:
        """Write every byte of the buffers. Raises OSError."""
        if len(buffers) == 1:
            self.socket.sendall(buffers[0])
            return
        todo = [memoryview(buffer).cast("B") for buffer in buffers]
        todo = [view for view in todo if len(view)]
        first = 0
        while first < len(todo):
            sent = self.socket.sendmsg(todo[first : first + _MAX_BUFFERS])
            while sent:
                size = len(todo[first])
                if sent < size:
                    todo[first] = todo[first][sent:]
                    break
                sent -= size
                first += 1

    def close(self) -> None:
        """Close the socket."""
        self.connection.close()
        self.socket.close()
