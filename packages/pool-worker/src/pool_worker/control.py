"""The supervisor's connection to the client: non-blocking, driven by its owner's selector."""

import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from socket import AF_INET, AF_INET6

from pool_protocol import Buffer, Connection, PoolError, State
from pool_protocol.messages import Control, Message
from pool_worker.shortage import Shortage
from pool_worker.tcp import has_vanished


class ControlLink:
    """One connection in a selector.

    Args:
        selector: Where it waits; the data of its key is a function that takes the events.
        sock: Connected.
        connection: Its protocol.
        received: Is called with each message, and once before with None, when it is open.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        sock: socket.socket,
        connection: Connection,
        received: Callable[[Message | None], None],
    ) -> None:
        self.ended = False
        #: Why it has ended, if that was not the client's orderly end.
        self.error = ""
        self._selector = selector
        self._socket = sock
        self._connection = connection
        self._received = received
        self._out: list[Buffer] = []
        self._shortage = Shortage()
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ, self._on_events)
        self._write()

    def __repr__(self) -> str:
        return f"<ControlLink {self._connection!r}{' ended' if self.ended else ''}>"

    @property
    def idle(self) -> bool:
        """True while the kernel has taken all that was sent."""
        return not self._out

    def send(self, message: Control) -> None:
        """Send a message now, or when the kernel takes it; nothing happens before it is open."""
        if self._connection.state is State.OPEN:
            self._connection.send(message)
            self._write()

    def look(self) -> None:
        """End it if the client's machine is gone."""
        if not self.ended and has_vanished(self._socket):
            self._end("the client's machine does not answer")

    def finish(self, patience: float) -> None:
        """Write what waits and let it arrive, within ``patience`` seconds."""
        deadline = time.monotonic() + patience
        while self._out and not self.ended and self._ready(deadline, write=True):
            self._write()
        if self.ended or self._out or self._socket.family not in (AF_INET, AF_INET6):
            return
        # If we closed first, and the client said one word more, then the kernel of ours would throw
        # away what is still under way.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            while self._ready(deadline) and self._socket.recv(65536):
                pass

    def _ready(self, deadline: float, write: bool = False) -> bool:
        """Wait until the socket can be read, or written; False: not before the deadline."""
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        events = selectors.EVENT_WRITE if write else selectors.EVENT_READ
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, events)
            return bool(selector.select(left))

    def close(self) -> None:
        """Leave the selector and close the socket."""
        if self._socket.fileno() < 0:
            return
        self.ended = True
        self._selector.unregister(self._socket)
        self._connection.close()
        self._socket.close()

    def _on_events(self, events: int) -> None:
        try:
            if events & selectors.EVENT_READ:
                self._read()
            self._write()
        except OSError as error:
            self._end(str(error) if self._connection.state is State.HANDSHAKE else "")
        except PoolError as error:
            self._end(str(error))

    def _read(self) -> None:
        connection = self._connection
        # What TLS has decrypted beyond our buffer wakes no selector.
        filled = True
        while filled:
            before = connection.state
            buffer = connection.get_buffer()
            try:
                count = self._socket.recv_into(buffer)
            except BlockingIOError:
                return
            if not count:
                early = before is State.HANDSHAKE
                self._end("the client closed the connection during the handshake" if early else "")
                return
            filled = count == len(buffer)
            del buffer
            messages = connection.received(count)
            if connection.state is not before:
                self._received(None)
            for message in messages:
                self._received(message)

    def _write(self) -> None:
        """Write as much as the kernel takes; the rest when it takes more."""
        self._out += self._connection.take()
        try:
            while self._out and (sent := self._send_some(self._out[0])):
                if sent == len(self._out[0]):
                    del self._out[0]
                else:
                    self._out[0] = memoryview(self._out[0])[sent:]
        except OSError:
            self._end("")
        self._want_write(bool(self._out))

    def _send_some(self, buffer: Buffer) -> int:
        """How many bytes of a buffer the kernel takes at the moment. Raises OSError."""
        try:
            sent = self._socket.send(buffer)
        except BlockingIOError:
            sent = 0  # the client is slow, and there is memory
        except OSError as error:
            self._shortage.wait(error)
            return 0
        self._shortage.over()
        return sent

    def _want_write(self, on: bool) -> None:
        key = self._selector.get_map().get(self._socket)
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if on else 0)
        if key is not None and key.events != events:
            self._selector.modify(self._socket, events, key.data)

    def _end(self, error: str) -> None:
        self.ended = True
        self.error = self.error or error
