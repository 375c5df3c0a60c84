"""The server: sockets, signals, and who is connected."""

import asyncio
import errno
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pool_protocol import CredentialError, RemoteProtocolError
from pool_protocol.messages import Message, Spawn, Stop
from pool_spawner import credential
from pool_spawner.admission import Admission, LoopClock
from pool_spawner.logs import RateLimit
from pool_spawner.peer import Peer
from pool_spawner.session import GONE, HUNG_UP, STOPPED, Session, Turns
from pool_spawner.slots import Slots

logger = logging.getLogger("pool_spawner")

_BACKLOG = 4096
#: How many ports are tried, if any will do, until all addresses of a name have it.
_TRIES = 10
#: Connections that are accepted before others have their turn.
_ACCEPTS = 64
#: Seconds until a server that ran out of descriptors accepts again, and between two looks at the
#: deadlines of half-open peers.
_PAUSE = 0.1
_TICK = 0.25
#: A client that vanishes without a word is noticed within 20 s: probes after 5 s, each 5 s.
#: (TCP_KEEPALIVE is macOS's name for the first.)
_WATCH = (
    ("TCP_KEEPIDLE", 5),
    ("TCP_KEEPALIVE", 5),
    ("TCP_KEEPINTVL", 5),
    ("TCP_KEEPCNT", 3),
    ("TCP_USER_TIMEOUT", 20_000),
)


class ServeError(Exception):
    """It cannot serve; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user said: where to listen, how many workers at most, where the credential is."""

    host: str
    port: int
    max_workers: int
    cpus: int
    credential: str | None


class Server:
    """Serves until it is stopped. Raises CredentialError, before it listens."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._credential = credential.find(options.credential)
        self._context = credential.server_context(self._credential)
        self._turns = Turns(Slots(options.max_workers, options.cpus), {})
        self._admission = Admission[Peer]()
        now = time.monotonic()
        self._clock = LoopClock(now, 2 * _TICK)
        self._limit = RateLimit(now)
        self._ticker: asyncio.TimerHandle | None = None
        self._listening: list[socket.socket] = []
        self._sessions: dict[Peer, Session] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Server {self._turns.slots!r} {self._admission!r} {len(self._sessions)} clients>"

    # -- life

    async def run(self) -> None:
        """Listen and serve; returns after a signal, when nothing is left. Raises ServeError."""
        self._loop = asyncio.get_running_loop()
        self._listening = listen(self._options.host, self._options.port)
        for number, action in self._signals().items():
            self._loop.add_signal_handler(number, action)
        for sock in self._listening:
            self._loop.add_reader(sock.fileno(), self._accept, sock)
        places = [name_of(sock.getsockname()) for sock in self._listening]
        logger.info(
            "listening on %s; at most %d workers for all clients together",
            *(", ".join(places), self._options.max_workers),
            extra={"addresses": places, "max_workers": self._options.max_workers},
        )
        self._log_credential("ready")
        await self._stopping.wait()
        await self._close()

    def _signals(self) -> dict[signal.Signals, Callable[[], None]]:
        # From a terminal, SIGHUP means that its user has gone.
        hang_up = self.stop if os.isatty(2) else self.reload
        return {signal.SIGTERM: self.stop, signal.SIGINT: self.stop, signal.SIGHUP: hang_up}

    def stop(self) -> None:
        """Stop in an orderly way; asked a second time, at once."""
        if self._stopping.is_set():
            for session in self._sessions.values():
                session.kill()
        self._stopping.set()

    def reload(self) -> None:
        """Read the credential again, for connections from now on; a bad one changes nothing."""
        try:
            found = credential.find(self._options.credential)
            self._context = credential.server_context(found)
        except CredentialError as error:
            logger.error("keeping the credential that was read before: %s", error)
            return
        self._credential = found
        self._log_credential("read again")

    def _log_credential(self, verb: str) -> None:
        found = self._credential
        logger.info(
            "%s: credential %s (SHA-256 %s), and %d more certificates accepted",
            *(verb, found.own, credential.fingerprint(found.own), len(found.accepted)),
        )

    async def _close(self) -> None:
        logger.info("stopping; %d clients are connected", len(self._sessions))
        for sock in self._listening:
            self._loop.remove_reader(sock.fileno())
            sock.close()
        if self._ticker is not None:
            self._ticker.cancel()
        for peer in self._admission.peers():
            peer.close()
        for session in self._sessions.values():
            session.stop(STOPPED)
        if self._tasks:
            await asyncio.wait(self._tasks)
        logger.info("stopped")

    # -- strangers

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPTS):
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # out of descriptors or memory, or the network is in trouble
                self._tell("cannot accept a connection yet, and try again: %s", error)
                self._loop.remove_reader(listening.fileno())
                self._loop.call_later(_PAUSE, self._resume, listening)
                return
            self._greet(sock, address[0])

    def _resume(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:
            self._loop.add_reader(listening.fileno(), self._accept, listening)

    def _greet(self, sock: socket.socket, address: str) -> None:
        sock.setblocking(False)
        try:
            tune(sock)
        except OSError:  # some systems refuse that once the peer is gone
            sock.close()
            return
        peer = Peer(sock, address, self._context, self)
        crowded_out = self._admission.enter(peer, address, self._clock.time)
        if crowded_out is not None:
            crowded_out.close()
            self._tell("too many half-open connections; closed one of %s", crowded_out.address)
        if self._ticker is None:
            self._clock.advance(time.monotonic())
            self._ticker = self._loop.call_later(_TICK, self._tick)

    def _tick(self) -> None:
        self._ticker = None
        now = self._clock.advance(time.monotonic())
        for peer in self._admission.overdue(now):
            self._admission.leave(peer)
            peer.close()
            self._tell("closed a connection of %s: no handshake in time", peer.address)
        if len(self._admission):
            self._ticker = self._loop.call_later(_TICK, self._tick)

    def _tell(self, text: str, *values: object) -> None:
        """Log what strangers do, but not as often as they do it."""
        dropped = self._limit.allow(time.monotonic())
        if dropped is not None:
            more = f" ({dropped} more such lines were left out)" if dropped else ""
            logger.warning(text + more, *values)

    # -- events of the peers

    def spoke(self, peer: Peer) -> None:
        """Its first bytes have come."""
        self._admission.spoke(peer)

    def received(self, peer: Peer, message: Message) -> None:
        """A client, authenticated, asks for workers, or for their end."""
        session = self._sessions.get(peer)
        if isinstance(message, Stop) and session is not None:
            session.stop(HUNG_UP)
            return
        if not isinstance(message, Spawn) or session is not None:
            raise RemoteProtocolError("not the one Spawn that is expected")
        self._admission.leave(peer)
        session = Session(peer, self._turns, str(self._credential.place))
        self._sessions[peer] = session
        task = self._loop.create_task(session.run(message))
        self._tasks.add(task)
        task.add_done_callback(partial(self._finished, peer))

    def _finished(self, peer: Peer, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        del self._sessions[peer]
        if not task.cancelled() and task.exception() is not None:
            logger.error("a fault in pool-spawner itself", exc_info=task.exception())
        peer.close()

    def ended(self, peer: Peer, error: Exception | None) -> None:
        """A connection is over."""
        self._admission.leave(peer)
        if peer in self._sessions:
            self._sessions[peer].stop(GONE if error is None else str(error))
        elif error is not None:
            self._tell("refused a connection of %s: %s", peer.address, error)


def tune(sock: socket.socket) -> None:
    """Send at once; and let the kernel notice a peer that vanished, as far as this one can."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _WATCH:
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def listen(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of a host; "" for all of this machine's. Raises ServeError."""
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        addresses = [(int(one[0]), one[4]) for one in dict.fromkeys(found)]
        tries = 1 if port else _TRIES
        while True:
            tries -= 1
            try:
                return _listen_at(addresses, port)
            except OSError as error:
                # Any port will do, but the one that the first address got is in use at another.
                if error.errno != errno.EADDRINUSE or not tries:
                    raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise ServeError(
            f"cannot listen on {name_of((host, port))}: {reason}; --host must be an address of "
            "this machine, and --port one that nothing else uses"
        ) from None


def _listen_at(addresses: Sequence[tuple[int, tuple[Any, ...]]], port: int) -> list[socket.socket]:
    """Listen at these addresses, on one port. Raises OSError."""
    sockets: list[socket.socket] = []
    failure: OSError | None = None
    try:
        for family, address in addresses:
            try:
                sockets.append(_listen(family, (address[0], port, *address[2:])))
            except OSError as error:
                # A name may have an address of a family that this machine does not use.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                failure = error
            else:
                port = sockets[-1].getsockname()[1]
        if not sockets and failure is not None:
            raise failure
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _listen(family: int, address: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def name_of(address: tuple[object, ...]) -> str:
    """An address and port as people write them."""
    host, port = str(address[0]), address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
