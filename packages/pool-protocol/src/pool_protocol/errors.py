"""The errors of the protocol, and who is to blame for each.

PoolError                       whatever the pool raises by itself
├── ProtocolError               the connection cannot go on
│   ├── LocalProtocolError      our own code broke the rules: a bug here
│   └── RemoteProtocolError     the peer broke them: close the connection
├── AuthenticationError         the peer does not know the launch's token
├── CredentialError             a credential is missing, unreadable or unsafe
├── VersionMismatch             both sides mean well but cannot understand each other
├── FrameTooLarge               over ``max_message``; nothing was sent
└── SerializerMissing           dill or cloudpickle is not installed on this side
"""


class PoolError(Exception):
    """Base of the errors that the pool raises by itself."""


class ProtocolError(PoolError):
    """The connection cannot go on."""


class LocalProtocolError(ProtocolError):
    """Our own side tried something that the protocol does not allow."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something that the protocol does not allow."""


class AuthenticationError(PoolError):
    """The peer could not prove that it knows the token of this launch."""


class CredentialError(PoolError):
    """A credential is missing, unreadable or unsafe; the text says what to do."""


class VersionMismatch(PoolError):
    """The two sides run versions that cannot work together; the text names both."""


class FrameTooLarge(PoolError, ValueError):
    """A message is larger than ``max_message``. It was not sent; the connection is unharmed."""


class SerializerMissing(PoolError, ImportError):
    """A serializer is not installed here; the text says what to install."""


def text_of(error: BaseException) -> str:
    """What an error says. Never raises: its ``__str__`` may be a user's, and do anything."""
    try:
        return str(error)
    except BaseException as bad:
        return f"<str() of it raised {type(bad).__name__}>"
