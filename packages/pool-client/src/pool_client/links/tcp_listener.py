"""Where hosts on the LAN connect back to: TCP with TLS, opened when somebody needs it.

Without a credential nothing is listened to. Peers prove themselves twice: by their certificate,
and by the token of their launch. Who joins by hand has no launch yet, so there the certificate
counts alone, and only while the user listens for such peers.
"""

import asyncio
import errno
import socket
from collections.abc import Callable, Iterable
from typing import Any

from pool_client.errors import HostError
from pool_client.launchers import Access
from pool_client.links.acceptor import Acceptor
from pool_client.links.half_open import HalfOpen
from pool_client.links.keepalive import keep_alive
from pool_client.links.link import LinkEvents
from pool_client.links.refusals import Refusals
from pool_client.links.tls import server_context
from pool_client.links.tls_link import TlsLink
from pool_protocol import Connection, ListenerHandshake
from pool_protocol.handshake import OPEN_LAUNCH, OPEN_TOKEN

#: Most peers in the middle of a handshake, and most of one address.
HALF_OPEN = 128
HALF_OPEN_EACH = 16
_BACKLOG = 4096
#: How many ports are given back because a name's other addresses have them not free.
_TRIES = 20


class TcpListener:
    """Accepts on any number of addresses; a link whose peer has proved itself goes to ``events``.

    ``tokens`` gives the token of a launch, or None; ``expected`` how many workers are still to
    connect from an address, which are let in beside those of whom nothing is known.

    Raises CredentialError when there is no usable credential.
    """

    def __init__(
        self,
        access: Access,
        tokens: Callable[[bytes], bytes | None],
        expected: Callable[[str], int],
        events: LinkEvents,
        max_message: int | None,
    ) -> None:
        #: Whether peers may join that were started by hand.
        self.joins = False
        self._loop = asyncio.get_running_loop()
        self._context = server_context(access)
        self._tokens = tokens
        self._expected = expected
        self._max_message = max_message
        self._refusals = Refusals()
        self.half_open = HalfOpen(self._loop, events, self._refusals, HALF_OPEN, HALF_OPEN_EACH)
        self._ports: dict[tuple[str, int], int] = {}
        self._acceptors: list[Acceptor] = []
        self._lock = asyncio.Lock()
        self._closed = False

    async def open(self, host: str, port: int) -> int:
        """Listen at an address, if that is not done yet; the port.

        Args:
            host: an address or a name of this machine; empty: every address.
            port: 0: any that is free.

        Raises:
            HostError: it cannot be had.
        """
        async with self._lock:
            if (host, port) not in self._ports:
                try:
                    socks = await self._bind(host, port)
                except OSError as error:
                    place = f"{host or 'any address'}, port {port or 'any'}"
                    raise HostError("local", f"cannot listen at {place}: {error}") from error
                if self._closed:
                    for sock in socks:
                        sock.close()
                    raise HostError("local", "the pool has ended, so it does not listen")
                for sock in socks:
                    self._acceptors.append(
                        Acceptor(self._loop, sock, self._greet, full=lambda: False)
                    )
                actual: int = socks[0].getsockname()[1]
                self._ports[host, port] = self._ports[host, actual] = actual
            return self._ports[host, port]

    async def _bind(self, host: str, port: int) -> list[socket.socket]:
        if not host:
            dual = socket.has_dualstack_ipv6()
            family = socket.AF_INET6 if dual else socket.AF_INET
            everywhere = ("", port)
            return [
                socket.create_server(
                    everywhere, family=family, backlog=_BACKLOG, dualstack_ipv6=dual
                )
            ]
        found = await self._loop.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for _ in range(_TRIES):
            try:
                return _listen(found, port)
            except OSError as error:
                # The port that the first address gave may be somebody's at the next one.
                if port or error.errno != errno.EADDRINUSE:
                    raise
        return _listen(found, port)

    def _token(self, launch: bytes) -> bytes | None:
        if launch == OPEN_LAUNCH:
            return OPEN_TOKEN if self.joins else None
        return self._tokens(launch)

    def _greet(self, sock: socket.socket, address: str) -> None:
        half_open = self.half_open
        if half_open.crowded(address, self._expected):
            sock.close()
            self._refusals.note(address, f"{HALF_OPEN_EACH} of its connections prove nothing yet")
            return
        if half_open.full:
            half_open.drop_oldest()
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            keep_alive(sock)
            secured = self._context.wrap_socket(
                sock, server_side=True, do_handshake_on_connect=False
            )
        except (OSError, ValueError):  # it has gone already
            sock.close()
            return
        connection = Connection(ListenerHandshake(self._token), self._max_message)
        half_open.add(TlsLink(self._loop, secured, connection, half_open, address), address)

    def close(self) -> None:
        """Stop listening, and drop who has not authenticated."""
        self._closed = True
        for acceptor in self._acceptors:
            acceptor.close()
        self.half_open.close()

    def abandon(self) -> None:
        """Close the descriptors without touching the loop: in a forked child."""
        for acceptor in self._acceptors:
            acceptor.abandon()
        self.half_open.abandon()


def _listen(found: Iterable[tuple[Any, ...]], port: int) -> list[socket.socket]:
    """Listen at addresses, all at one port. Raises OSError, and leaves nothing then.

    Args:
        found: What ``getaddrinfo`` gives.
        port: 0: the one that the first address gives.
    """
    socks: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            place: Any = (address[0], port, *address[2:])
            socks.append(socket.create_server(place, family=family, backlog=_BACKLOG))
            port = port or socks[0].getsockname()[1]
    except BaseException:
        for sock in socks:
            sock.close()
        raise
    return socks
