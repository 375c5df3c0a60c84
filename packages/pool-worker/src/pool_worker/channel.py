"""A blocking socket that carries a ``pool_protocol.Connection``."""

import os
import select
import socket
import time
import weakref
from collections.abc import Sequence
from typing import NoReturn

from pool_protocol import Areas, Buffer, Connection, DialerHandshake, Identity, Role, State
from pool_protocol.messages import Control, Message
from pool_protocol.polling import POLL_NS, Polling
from pool_worker.settings import Settings
from pool_worker.shortage import Shortage
from pool_worker.stream import Dialer, dialer, patiently

#: Who is closed out in the middle of the handshake tries again for so long, in seconds: so a full
#: backlog looks through a tunnel.
CLOSED_SECONDS = 2.0
#: The kernel takes at most this many buffers in one call.
_MAX_BUFFERS = 512
#: Seconds until idle memory is looked after; it is given back when it was not used for so long.
KEEP_MEMORY = 5.0

_clock = time.monotonic_ns


class Closed(Exception):
    """The peer has closed the connection."""


_SHUT_OUT = (Closed, ConnectionResetError, BrokenPipeError)


class Channel:
    """One connection to the client."""

    def __init__(self, sock: socket.socket, connection: Connection) -> None:
        self.socket = sock
        self.connection = connection
        #: Where large messages are received.
        self.memory = Areas()
        connection.receive_into(self.memory)
        self._polling = Polling()
        self._shortage = Shortage()

    @classmethod
    def connect(cls, settings: Settings, role: Role, number: int) -> "Channel":
        """Connect worker ``number`` (0: a supervisor) to the client, for a role.

        A child that is forked later does not hold the connection open. Raises OSError, Closed,
        PoolError.
        """
        identity = Identity(settings.launch, role, number)
        dial = dialer(settings.address, settings.credential)

        def connect() -> "Channel":
            return cls.dial(dial, identity, settings.token, settings.max_message)

        channel = patiently(CLOSED_SECONDS, connect, _SHUT_OUT)
        _connected.add(channel)
        return channel

    @classmethod
    def dial(
        cls, dialer: Dialer, identity: Identity, token: bytes, max_message: int | None
    ) -> "Channel":
        """Connect and do the handshake, once. Raises OSError, Closed, PoolError."""
        connection = Connection(DialerHandshake(identity, token), max_message)
        channel = cls(dialer.connect(), connection)
        try:
            channel.write(connection.take())
            while connection.state is State.HANDSHAKE:
                channel.receive()
                channel.write(connection.take())
        except BaseException:
            channel.socket.close()
            raise
        return channel

    def receive(self) -> list[Message]:
        """Wait for bytes; the messages that they complete. Raises Closed, OSError, PoolError."""
        connection, began = self.connection, _clock()
        buffer = connection.get_buffer()
        count = self._poll(buffer, began + POLL_NS) if self._polling.worth() else -1
        if count < 0:
            if self.memory.kept and not connection.partial and not self._comes():
                self.memory.tidy()
                return []
            count = self.socket.recv_into(buffer)
        self._polling.answered(_clock() - began)
        if not count:
            self._closed()
        return connection.received(count)

    def _comes(self) -> bool:
        """Wait for bytes; False: none came for so long that idle memory is to be given back."""
        if not hasattr(select, "poll") or getattr(self.socket, "pending", int)():
            return True  # what TLS has decrypted already does not show
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return bool(poll.poll(KEEP_MEMORY * 1000))

    def _poll(self, buffer: Buffer, end: int) -> int:
        """Look for bytes without sleeping, until ``end``; how many came, or -1."""
        while True:
            try:
                return self.socket.recv_into(buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                now = _clock()
            if now > end:
                self._polling.in_vain()
                return -1
            os.sched_yield()
            if self._polling.wanted(_clock() - now):
                return -1

    def _closed(self) -> NoReturn:
        raise Closed("the client has closed the connection")

    def send(self, message: Control) -> None:
        """Send one message. Raises OSError, FrameTooLarge."""
        self.connection.send(message)
        self.write(self.connection.take())

    def write(self, buffers: Sequence[Buffer]) -> None:
        """Write every byte of the buffers. Raises OSError."""
        if len(buffers) == 1:
            self.write_all(buffers[0])
            return
        todo = [memoryview(buffer).cast("B") for buffer in buffers]
        todo = [view for view in todo if len(view)]
        first = 0
        while first < len(todo):
            try:
                sent = self.socket.sendmsg(todo[first : first + _MAX_BUFFERS])
            except OSError as error:
                self._shortage.wait(error)
                continue
            self._shortage.over()
            while sent:
                size = len(todo[first])
                if sent < size:
                    todo[first] = todo[first][sent:]
                    break
                sent -= size
                first += 1

    def write_all(self, buffer: Buffer) -> None:
        """Write every byte of a buffer. Raises OSError.

        A socket's own ``sendall`` does not say how much it has sent when it fails.
        """
        rest = memoryview(buffer).cast("B")
        while True:
            try:
                sent = self.socket.send(rest)
            except OSError as error:
                self._shortage.wait(error)
                continue
            self._shortage.over()
            if sent == len(rest):
                return
            rest = rest[sent:]

    def close(self) -> None:
        """Close the socket."""
        self.connection.close()
        self.socket.close()


def of_the_socket(error: BaseException) -> bool:
    """Did the connection fail? A signal's handler may raise an OSError too: TimeoutError is one."""
    if isinstance(error, ConnectionError):
        return True
    return isinstance(error, OSError) and error.errno is not None


#: Those that end with this process, whatever children it forks.
_connected: "weakref.WeakSet[Channel]" = weakref.WeakSet()


def _after_fork() -> None:
    for channel in _connected:
        channel.socket.close()
    _connected.clear()


# Once for all of them: what is registered stays for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
