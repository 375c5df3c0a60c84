"""Plays the client at the other end of service connections, in a thread of the test's process."""

import selectors
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from pool_protocol import Connection, Identity, ListenerHandshake, PoolError
from pool_protocol.messages import Reply, Request
from pool_worker.settings import Settings

LAUNCH, TOKEN = b"services", bytes(range(32))

#: What a request is answered with: a reply's blob, or None for no reply yet. What it raises becomes
#: the reply's error.
Handler = Callable[["Line", Request], bytes | None]


class Line:
    """One connection of a worker's."""

    def __init__(self, sock: socket.socket, token: bytes = TOKEN) -> None:
        self.socket = sock
        self.connection = Connection(ListenerHandshake({LAUNCH: token}.get))

    @property
    def identity(self) -> Identity:
        identity = self.connection.identity
        assert identity is not None
        return identity

    def reply(self, number: int, blob: bytes = b"", error: str = "") -> None:
        self.connection.send(Reply(number, error, blob))
        with suppress(ConnectionError):  # the worker did not wait for it
            self.write()

    def write(self) -> None:
        for buffer in self.connection.take():
            self.socket.sendall(buffer)


class ServiceClient:
    """Listens on a Unix socket and answers with a handler; use it as a context manager."""

    def __init__(self, folder: Path, handler: Handler, token: bytes = TOKEN) -> None:
        self.requests: list[Request] = []
        self.lines: list[Line] = []
        self.handler = handler
        self._token = token
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.settings = Settings(str(folder / "socket"), LAUNCH, TOKEN, host="node1")
        self._listener.bind(self.settings.address)
        self._listener.listen(64)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._wake, waker = socket.socketpair()
        self._waker = waker
        self._selector.register(self._wake, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select(30):
                if key.data is None:
                    return
                key.data(key.fileobj)

    def _accept(self, listener: socket.socket) -> None:
        sock, _ = listener.accept()
        line = Line(sock, self._token)
        self.lines.append(line)
        self._selector.register(sock, selectors.EVENT_READ, lambda _: self._read(line))

    def _read(self, line: Line) -> None:
        try:
            count = line.socket.recv_into(line.connection.get_buffer())
            messages = line.connection.received(count) if count else None
            line.write()
        except (PoolError, OSError):
            with suppress(OSError):
                line.write()
            messages = None
        if messages is None:
            self._selector.unregister(line.socket)
            line.socket.close()
            return
        for request in messages:
            assert isinstance(request, Request)
            self.requests.append(request)
            try:
                blob = self.handler(line, request)
            except Exception as error:
                line.reply(request.number, error=str(error))
            else:
                if blob is not None:
                    line.reply(request.number, blob)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._waker.send(b"x")
        self._thread.join()
        self._selector.close()
        for sock in (self._listener, self._wake, self._waker, *(one.socket for one in self.lines)):
            sock.close()
