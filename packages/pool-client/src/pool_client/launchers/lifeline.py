"""The connection to a ``pool-spawner``: the ``pool-worker`` started there lives as long as it."""

import asyncio
import socket
import ssl
from collections.abc import Callable

from pool_protocol import Connection, DialerHandshake, Identity, PoolError, Role, State
from pool_protocol.handshake import OPEN_LAUNCH, OPEN_TOKEN
from pool_protocol.messages import Message, Spawn, Spawned, SpawnEnded, SpawnQueued, Stop

#: Largest message, in bytes; the largest is the tail of what pool-worker said.
_MAX_MESSAGE = 64 << 10
#: With this exit code, ``pool-worker`` says that it could not begin.
_CANNOT_START = 1


class Lifeline:
    """Authenticates, asks for ``pool-worker``, and tells how it ended.

    ``opened`` is done once both sides know each other; or it fails with the SSLError, PoolError,
    EOFError (the spawner closed the connection without a word) or OSError that ended it.
    ``on_progress`` is called with the answers of the spawner. ``hint`` is what to look at if
    ``pool-worker`` cannot reach us.
    """

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, server_name: str, where: str
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = self._loop.create_future()
        self.on_progress: Callable[[SpawnQueued | Spawned], None] = lambda message: None
        self.hint = ""
        self.local_address = str(sock.getsockname()[0])
        self._where = where
        self._sock = context.wrap_socket(
            sock, server_hostname=server_name, do_handshake_on_connect=False
        )
        self._fd = self._sock.fileno()
        self._connection = Connection(
            DialerHandshake(Identity(OPEN_LAUNCH, Role.SPAWN), OPEN_TOKEN), _MAX_MESSAGE
        )
        self._encrypted = False
        self._closed = False
        self._hung_up = False
        self._ended: str | None = None
        self._tail = ""
        self._unsent = b""
        self._loop.add_reader(self._fd, self._ready)
        self._ready()

    def __repr__(self) -> str:
        return f"<Lifeline {self._where} {self._ended or self._connection.state.value}>"

    # -- receiving

    def _ready(self) -> None:
        """The socket can be read (or, where TLS wants to write, written)."""
        try:
            self._advance()
        except (ssl.SSLWantReadError, BlockingIOError, InterruptedError):
            self._want_write(False)
        except ssl.SSLWantWriteError:
            self._want_write(True)
        except ssl.SSLEOFError as error:
            self._lost(EOFError(str(error)))
        except (PoolError, OSError, EOFError) as error:
            self._lost(error)

    def _advance(self) -> None:
        """Do what can be done now; ends with an exception that says what it waits for."""
        if self._closed:
            return
        if not self._encrypted:
            self._sock.do_handshake()
            self._encrypted = True
        self._flush()
        while not self._closed:
            count = self._sock.recv_into(self._connection.get_buffer())
            if not count:
                raise EOFError("closed by pool-spawner")
            messages = self._connection.received(count)
            self._flush()
            if self._connection.state is State.OPEN and not self.opened.done():
                self.opened.set_result(None)
            for message in messages:
                self._take(message)

    def _take(self, message: Message) -> None:
        if isinstance(message, SpawnEnded):
            self._tail = bytes(message.blob).decode(errors="replace").strip()
            failed = message.exitcode == _CANNOT_START and not self._hung_up
            self._end(f"{message.reason} ({self.hint})" if failed else message.reason)
        elif isinstance(message, SpawnQueued | Spawned):
            self.on_progress(message)

    def _lost(self, error: Exception) -> None:
        if not self.opened.done():
            self.opened.set_exception(error)
        why = "" if isinstance(error, EOFError | ConnectionResetError) else f" ({error})"
        self._end(
            f"the connection to pool-spawner at {self._where} broke{why}: was it stopped there, or "
            "is the host gone?"
        )

    def _end(self, reason: str) -> None:
        self._ended = self._ended or reason
        self._let_go()

    # -- sending

    def spawn(self, workers: int, settings: bytes) -> None:
        """Ask for ``pool-worker``, once `opened` is done; if it has broken, ``ended`` says so."""
        if not self._closed:
            self._connection.send(Spawn(workers, settings))
            self._ready()

    def _flush(self) -> None:
        self._unsent += b"".join(bytes(buffer) for buffer in self._connection.take())
        while self._unsent:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]

    def _want_write(self, on: bool) -> None:
        if on:
            self._loop.add_writer(self._fd, self._ready)
        else:
            self._loop.remove_writer(self._fd)

    # -- a launch, for the pool

    def ended(self) -> str | None:
        """Why and how it ended; None while it runs, or waits for its turn."""
        return self._ended

    def errors(self) -> str:
        """What ``pool-worker`` said at its end."""
        return self._tail

    def hang_up(self) -> None:
        """Ask for the end; the spawner tells when nothing is left there."""
        if not self._hung_up and self._connection.state is State.OPEN:
            self._hung_up = True
            self._connection.send(Stop())
            self._ready()

    def kill(self) -> None:
        """Close the connection; the spawner ends ``pool-worker``, by force if need be."""
        self._end("it was ended from here")
        if not self.opened.done():
            self.opened.cancel()

    def close(self) -> None:
        """Let go of the connection."""
        self.kill()

    def _let_go(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._connection.close()
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._sock.close()

    def abandon(self) -> None:
        """Close the descriptor in a forked child; the connection is the parent's."""
        self._closed = True
        self._sock.close()
