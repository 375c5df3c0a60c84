"""One accepted connection: TLS, then the protocol, on a non-blocking socket.

Not an asyncio transport: a silent peer shall cost a descriptor and no buffers, a stranger is to be
closed at its first byte, and a deadline is to count only time in which our own loop ran.
"""

import asyncio
import contextlib
import os
import socket
import ssl
from typing import Protocol

from pool_protocol import (
    Connection,
    ListenerHandshake,
    PoolError,
    RemoteProtocolError,
    Role,
    State,
)
from pool_protocol.handshake import OPEN_LAUNCH, OPEN_TOKEN
from pool_protocol.messages import Control, Message

#: Largest message, in bytes: settings are some hundred, and fit into a pipe at once.
MAX_MESSAGE = 32 << 10
#: What a TLS connection opens with: a record of the type "handshake".
_TLS_RECORD = b"\x16"
#: What a refused peer has already sent is read, up to so many bytes, before its socket is closed:
#: the kernel would answer it with a reset, which may overtake the reason for the refusal.
_DRAIN = 64 << 10


class Refused(Exception):
    """A peer that has no business here; the text says why."""


class PeerEvents(Protocol):
    """Who is told what happens on a connection."""

    def spoke(self, peer: "Peer") -> None:
        """Its first bytes have come, and could be TLS."""

    def received(self, peer: "Peer", message: Message) -> None:
        """A message has come in."""

    def ended(self, peer: "Peer", error: Exception | None) -> None:
        """Once: the connection is closed, by the peer (None) or because of an error of its."""


class Peer:
    """One client, or whoever else has connected; ``address`` is where it comes from."""

    def __init__(
        self,
        sock: socket.socket,
        address: str,
        context: ssl.SSLContext,
        events: PeerEvents,
    ) -> None:
        self.address = address
        self.closed = False
        self._loop = asyncio.get_running_loop()
        self._context = context
        self._events = events
        self._raw = sock
        self._fd = sock.fileno()
        self._tls: ssl.SSLSocket | None = None
        self._encrypted = False
        self._connection = Connection(
            ListenerHandshake({OPEN_LAUNCH: OPEN_TOKEN}.get), max_message=MAX_MESSAGE
        )
        self._unsent = b""
        self._loop.add_reader(self._fd, self._ready)

    def __repr__(self) -> str:
        return f"<Peer {self.address} {self._connection!r}{' closed' if self.closed else ''}>"

    # -- receiving

    def _ready(self) -> None:
        """The socket can be read (or, while something is unsent, written)."""
        error: Exception | None = None
        try:
            self._advance()
        except (ssl.SSLWantReadError, BlockingIOError, InterruptedError):
            return self._want_write(bool(self._unsent))
        except ssl.SSLWantWriteError:
            return self._want_write(True)
        except (PoolError, Refused) as caught:
            error = caught
            with contextlib.suppress(OSError):
                self._flush()
        except ssl.SSLError as caught:
            error = None if _is_end(caught) and self._encrypted else Refused(describe(caught))
        except OSError:
            pass  # reset, or timed out: its end, as an end of file is
        return self._end(error)

    def _advance(self) -> None:
        """Take what is there; returns at the end of the stream."""
        if self._tls is None:
            first = self._raw.recv(1, socket.MSG_PEEK)
            if not first:
                return
            if first != _TLS_RECORD:
                raise Refused("it does not speak TLS")
            self._events.spoke(self)
            self._tls = self._context.wrap_socket(
                self._raw, server_side=True, do_handshake_on_connect=False
            )
        if not self._encrypted:
            self._tls.do_handshake()
            self._encrypted = True
        self._flush()
        while not self.closed:
            count = self._tls.recv_into(self._connection.get_buffer())
            if not count:
                return
            self._take(self._connection.received(count))

    def _take(self, messages: list[Message]) -> None:
        identity = self._connection.identity
        if identity is not None and identity.role is not Role.SPAWN:
            self._connection.take()  # not even the challenge is answered
            raise RemoteProtocolError(
                f"it connects for {identity.role.name}; a pool-spawner only starts workers"
            )
        self._flush()
        for message in messages:
            self._events.received(self, message)

    # -- sending

    def send(self, message: Control) -> None:
        """Send a message, now or when the peer takes it; nothing once the connection is closed."""
        if self._connection.state is not State.OPEN:
            return
        self._connection.send(message)
        try:
            self._flush()
        except ssl.SSLWantWriteError:
            self._want_write(True)
        except OSError:
            pass  # what there is to read says why

    def _flush(self) -> None:
        self._unsent += b"".join(bytes(buffer) for buffer in self._connection.take())
        while self._unsent and self._tls is not None:
            # After a refusal, OpenSSL wants the same bytes again; that more follow is no matter.
            self._unsent = self._unsent[self._tls.send(self._unsent) :]

    def _want_write(self, on: bool) -> None:
        if on:
            self._loop.add_writer(self._fd, self._ready)
        else:
            self._loop.remove_writer(self._fd)

    # -- the end

    def _end(self, error: Exception | None) -> None:
        if not self.closed:
            self.close()
            self._events.ended(self, error)

    def close(self) -> None:
        """Close the connection; no event follows."""
        if self.closed:
            return
        self.closed = True
        self._connection.close()
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        sock = self._tls or self._raw
        if sock.fileno() < 0:
            return  # TLS has closed it, for the peer was gone before it began
        if self._tls is not None and self._encrypted:
            with contextlib.suppress(OSError, ValueError):
                self._tls.unwrap()
        with contextlib.suppress(OSError):
            taken = 0
            while taken < _DRAIN and (data := os.read(self._fd, 4096)):
                taken += len(data)
        sock.close()


def _is_end(error: ssl.SSLError) -> bool:
    """Whether the peer went away without a farewell, or took its leave of TLS alone."""
    return isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)


#: What OpenSSL calls it, and what it means here.
_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it has no credential",
    "UNSUPPORTED_PROTOCOL": "it does not speak TLS 1.3",
    "HTTP_REQUEST": "it speaks HTTP",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not accept the credential of this host",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept the credential of this host",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it finds that the credential of this host has expired",
}


def describe(error: ssl.SSLError) -> str:
    """What is wrong with a peer, from what OpenSSL says."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its credential is not one that is accepted here ({error.verify_message})"
    if _is_end(error):
        return "it went away in the middle of TLS's handshake"
    reason = getattr(error, "reason", None) or "TLS failed"
    return _REASONS.get(reason, reason.lower().replace("_", " "))
