"""Sockets to the client, of both kinds, which behave alike once they are connected.

An address is the path of a Unix socket, or ``tls://host:port`` (an IPv6 address in brackets).
Whatever can be made once is made when the dialer is, so that forked workers inherit it.
"""

import functools
import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from pool_protocol import PoolError

if TYPE_CHECKING:
    import ssl

#: Seconds for the TLS handshake, which needs the client's loop: that may be blocked for a minute.
TLS_SECONDS = 90.0
#: A listener whose backlog is full is tried again for so long, in seconds.
REFUSED_SECONDS = 1.0
#: Bytes that the kernel may hold for us on a Unix socket; it grants what it allows.
_SEND_BUFFER = 4 * 1024 * 1024
#: What a listener without room answers.
REFUSED = (ConnectionRefusedError, BlockingIOError)

SCHEME = "tls://"
T = TypeVar("T")


class AddressError(PoolError):
    """An address cannot be understood."""


def parse(address: str) -> str | tuple[str, int]:
    """The path of a Unix socket, or host and port. Raises AddressError."""
    if not address.startswith(SCHEME):
        if not address:
            raise AddressError("the address is empty")
        return address
    return host_and_port(address[len(SCHEME) :])


def host_and_port(text: str) -> tuple[str, int]:
    """The parts of ``host:port`` or ``[IPv6]:port``. Raises AddressError."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    plain = port.isascii() and port.isdigit() and 0 < int(port) < 65536
    if not (host and colon and plain) or (":" in host and not bracketed):
        raise AddressError(f"{text!r} is not HOST:PORT; an IPv6 address stands in brackets")
    return host, int(port)


class Dialer:
    """Connects to one address, as often as wanted.

    Args:
        address: Where to.
        credential: Path of the credential, for TLS; None: the usual place.

    Raises:
        AddressError: It cannot be understood.
        CredentialError: The credential cannot be used; the text says what to do.
    """

    def __init__(self, address: str, credential: str | None = None) -> None:
        self._target = parse(address)
        self._context: ssl.SSLContext | None = None
        if not isinstance(self._target, str):
            from pool_worker import tls

            self._context = tls.context(credential)

    def __repr__(self) -> str:
        return f"<Dialer {self._target}>"

    def connect(self, control: bool = False) -> socket.socket:
        """A connected socket that blocks. Raises OSError, AuthenticationError.

        Args:
            control: For a control connection, on which no report may wait behind others.
        """
        return patiently(REFUSED_SECONDS, lambda: self._connect(control))

    def _connect(self, control: bool) -> socket.socket:
        if isinstance(self._target, str):
            return _unix(self._target)
        # Loaded only where it is used, as TLS is.
        from pool_worker import tcp, tls

        sock = tcp.connect(self._target)
        try:
            tcp.tune(sock, control)
            sock.settimeout(TLS_SECONDS)
            assert self._context is not None
            sock = tls.wrap(self._context, sock)
            sock.settimeout(None)
        except BaseException:
            sock.close()
            raise
        return sock


@functools.lru_cache(maxsize=1)
def dialer(address: str, credential: str | None) -> Dialer:
    """The same dialer for the same arguments: a copy of the process has it already."""
    return Dialer(address, credential)


def patiently(
    seconds: float, connect: Callable[[], T], errors: tuple[type[Exception], ...] = REFUSED
) -> T:
    """Connect, and try again for a while after ``errors``: a listener may be overrun.

    Only the pauses count: a machine that stands still in between takes no try away.
    """
    # Those that were refused together come back apart.
    pause = 0.01 * (1 + os.getpid() % 16 / 16)
    while True:
        try:
            return connect()
        except errors:
            seconds -= pause
            if seconds < 0:
                raise
        time.sleep(pause)
        pause *= 2


def _unix(path: str) -> socket.socket:
    """A full backlog makes the kernel wait for as long as the client lives."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(path)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    except BaseException:
        sock.close()
        raise
    return sock
