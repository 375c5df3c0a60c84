"""The wire protocol of the process pool, without I/O: bytes in, messages out."""

from pool_protocol.__about__ import __version__
from pool_protocol.areas import Areas
from pool_protocol.choices import LoopType, PickleType
from pool_protocol.connection import Connection
from pool_protocol.errors import (
    AuthenticationError,
    CredentialError,
    FrameTooLarge,
    LocalProtocolError,
    PoolError,
    ProtocolError,
    RemoteProtocolError,
    SerializerMissing,
    VersionMismatch,
)
from pool_protocol.frames import Buffer, Packed, Payload, payload_size
from pool_protocol.handshake import (
    PROTOCOL_VERSION,
    DialerHandshake,
    Identity,
    ListenerHandshake,
)
from pool_protocol.serializers import Serializer, serializer
from pool_protocol.states import Role, Side, State

__all__ = [
    "PROTOCOL_VERSION",
    "Areas",
    "AuthenticationError",
    "Buffer",
    "Connection",
    "CredentialError",
    "DialerHandshake",
    "FrameTooLarge",
    "Identity",
    "ListenerHandshake",
    "LocalProtocolError",
    "LoopType",
    "Packed",
    "Payload",
    "PickleType",
    "PoolError",
    "ProtocolError",
    "RemoteProtocolError",
    "Role",
    "Serializer",
    "SerializerMissing",
    "Side",
    "State",
    "VersionMismatch",
    "__version__",
    "payload_size",
    "serializer",
]
