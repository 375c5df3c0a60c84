"""The handshake: both sides prove that they know the launch's token, and say nothing more.

    dialer    HELLO      magic, version, role, launch, worker, nonce
    listener  CHALLENGE  magic, version, status, nonce, HMAC("listener", HELLO, nonces)
    dialer    PROOF      HMAC("dialer", HELLO, CHALLENGE's nonce)

HMAC-SHA256 (RFC 2104), keyed with the token, over the whole HELLO and the listener's nonce, under a
label for each side, so that nothing can be replayed or reflected. Structures have fixed sizes:
before a peer is authenticated it can make us hold less than 100 bytes. A peer that does not begin
with the magic is refused at its first wrong byte.
"""

import hashlib
import hmac
import os
import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from pool_protocol.errors import AuthenticationError, RemoteProtocolError, VersionMismatch
from pool_protocol.states import Role

#: The version of the wire protocol: another one is refused.
PROTOCOL_VERSION: Final = 1
#: The length of a token and of a nonce, in bytes.
TOKEN_SIZE: Final = 32
LAUNCH_SIZE: Final = 8
#: Whoever joins by hand, and whoever asks a spawner, has no launch yet. TLS has authenticated both
#: sides by then; the handshake with this token adds the versions, not safety: refuse these roles on
#: anything but TLS with certificates on both sides.
OPEN_LAUNCH: Final = bytes(LAUNCH_SIZE)
OPEN_TOKEN: Final = b"authenticated by TLS, not by us."

_MAGIC = b"poolwire"
_HELLO = struct.Struct(f"<8sHBx{LAUNCH_SIZE}sI{TOKEN_SIZE}s")
_CHALLENGE = struct.Struct(f"<8sHBx{TOKEN_SIZE}s32s")
_PROOF_SIZE = 32
_OK, _BAD_VERSION, _REFUSED = 0, 1, 2


class Identity(NamedTuple):
    """Who a dialer is."""

    launch: bytes
    """The public name of the launch: 8 random bytes."""
    role: Role
    worker: int = 0
    """The worker's number; 0 for a supervisor."""


def _mac(token: bytes, label: bytes, hello: bytes, nonce: bytes) -> bytes:
    return hmac.digest(token, label + b"\0" + hello + nonce, hashlib.sha256)


def _check_magic(data: bytes, peer: str) -> None:
    if not _MAGIC.startswith(data[: len(_MAGIC)]):
        raise RemoteProtocolError(f"the {peer} does not speak this protocol")


class DialerHandshake:
    """The dialer's part. Send ``opening``, then feed ``receive`` with ``needed`` bytes each."""

    refusal = b""

    def __init__(self, identity: Identity, token: bytes, version: int = PROTOCOL_VERSION) -> None:
        self.identity = identity
        self.needed = _CHALLENGE.size
        self._token = token
        self._version = version
        self.opening = _HELLO.pack(
            _MAGIC, version, identity.role, identity.launch, identity.worker, os.urandom(TOKEN_SIZE)
        )

    def check_start(self, data: bytes) -> None:
        """Look at the first of the ``needed`` bytes. Raises RemoteProtocolError for a stranger."""
        _check_magic(data, "listener")

    def receive(self, data: bytes) -> bytes:
        """The proof to send. Afterwards ``needed`` is 0: done."""
        self.check_start(data)
        _magic, version, status, nonce, mac = _CHALLENGE.unpack(data)
        if status == _BAD_VERSION or version != self._version:
            raise VersionMismatch(mismatch_text(self._version, version))
        if status != _OK:
            raise AuthenticationError("the listener does not know this launch")
        if not hmac.compare_digest(mac, _mac(self._token, b"listener", self.opening, nonce)):
            raise AuthenticationError("the listener does not know the token of this launch")
        self.needed = 0
        return _mac(self._token, b"dialer", self.opening, nonce)


class ListenerHandshake:
    """The listener's part. ``tokens`` gives the token of a launch, or None."""

    opening = b""

    def __init__(
        self, tokens: Callable[[bytes], bytes | None], version: int = PROTOCOL_VERSION
    ) -> None:
        self.identity: Identity | None = None
        self.needed = _HELLO.size
        self.refusal = b""
        self._tokens = tokens
        self._version = version
        self._hello = b""
        self._token = b""
        self._nonce = os.urandom(TOKEN_SIZE)

    def check_start(self, data: bytes) -> None:
        """Look at the first of the ``needed`` bytes. Raises RemoteProtocolError for a stranger."""
        if not self._hello:
            _check_magic(data, "dialer")

    def receive(self, data: bytes) -> bytes:
        """What to send next. On an error, send ``refusal`` (which may be empty) and close."""
        return self._receive_proof(data) if self._hello else self._receive_hello(data)

    def _receive_hello(self, data: bytes) -> bytes:
        self.check_start(data)
        _magic, version, role, launch, worker, _nonce = _HELLO.unpack(data)
        if version != self._version:
            self.refusal = self._challenge(_BAD_VERSION, bytes(32))
            raise VersionMismatch(mismatch_text(self._version, version))
        token = self._tokens(launch)
        if not token or role not in Role.__members__.values():
            self.refusal = self._challenge(_REFUSED, bytes(32))
            raise AuthenticationError("an unknown launch, or an unknown role")
        self._hello, self._token = data, token
        self.identity = Identity(launch, Role(role), worker)
        self.needed = _PROOF_SIZE
        return self._challenge(_OK, _mac(token, b"listener", data, self._nonce))

    def _receive_proof(self, data: bytes) -> bytes:
        if not hmac.compare_digest(data, _mac(self._token, b"dialer", self._hello, self._nonce)):
            raise AuthenticationError("the dialer does not know the token of this launch")
        self.needed = 0
        return b""

    def _challenge(self, status: int, mac: bytes) -> bytes:
        return _CHALLENGE.pack(_MAGIC, self._version, status, self._nonce, mac)


def mismatch_text(ours: int, theirs: int) -> str:
    """What a user reads when two versions of the wire protocol meet."""
    return (
        f"this side speaks version {ours} of the pool protocol, the other side version {theirs}; "
        "install the same release of pool-client and pool-worker on both"
    )
