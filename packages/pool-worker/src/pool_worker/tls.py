"""TLS over TCP, made to look like any other socket.

What TLS means here is said in ``pool_protocol.security``. Loaded only where it is used: it costs
every process that has it some megabytes.
"""

import errno
import os
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pool_protocol import AuthenticationError, Buffer, CredentialError, security

#: What is encrypted in one go, in bytes; larger is not faster.
_PIECE = 256 * 1024


class TlsSocket(ssl.SSLSocket):
    """A TLS connection with the calls of a plain one.

    One call receives no more than one record, and what is left of it in here makes no file
    descriptor readable: when the whole buffer was filled, receive again before waiting.
    """

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """As a socket's; ``MSG_DONTWAIT`` is the one flag."""
        if flags & socket.MSG_DONTWAIT and self.gettimeout() != 0:
            timeout = self.gettimeout()
            self.settimeout(0)
            try:
                return self.recv_into(buffer, nbytes)
            finally:
                self.settimeout(timeout)
        try:
            return super().recv_into(buffer, nbytes or None)
        except ssl.SSLError as error:
            raise _plain(error) from error

    def send(self, data: Any, flags: int = 0) -> int:
        """As a socket's. After a BlockingIOError, the same bytes must come again."""
        try:
            return super().send(memoryview(data).cast("B")[:_PIECE], flags)
        except ssl.SSLError as error:
            raise _plain(error) from error

    def sendmsg(self, buffers: Sequence[Buffer]) -> int:  # type: ignore[override]  # it had none
        """Send some of the buffers, at least one byte of them; how many bytes."""
        first = memoryview(buffers[0])
        if first.nbytes >= _PIECE or len(buffers) == 1:
            return self.send(first)
        size = 0
        pieces = []
        for buffer in buffers:
            view = memoryview(buffer).cast("B")[: _PIECE - size]
            pieces.append(view)
            size += len(view)
            if size >= _PIECE:
                break
        return self.send(b"".join(pieces))


def _plain(error: ssl.SSLError) -> OSError | AuthenticationError:
    """What an error of OpenSSL's means here."""
    if isinstance(error, (ssl.SSLWantReadError, ssl.SSLWantWriteError)):
        return BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    if isinstance(error, ssl.SSLCertVerificationError):
        return AuthenticationError(
            "the other side's certificate is not among those accepted here "
            f"({error.verify_message}): copy the group's credential to both machines"
        )
    reason = error.reason or str(error)
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        return AuthenticationError(
            "the other side does not accept the certificate of this one: copy the group's "
            "credential to both machines"
        )
    return ConnectionError(f"the TLS connection failed: {reason.replace('_', ' ').lower()}")


def wrap(context: ssl.SSLContext, sock: socket.socket) -> socket.socket:
    """Do the handshake of TLS. Raises OSError, AuthenticationError."""
    try:
        return context.wrap_socket(sock)
    except ssl.SSLError as error:
        raise _plain(error) from error


def context(credential: str | None) -> ssl.SSLContext:
    """What connections of a member of the group share. Raises CredentialError.

    Args:
        credential: Path of the credential, a file or a folder; None: the usual place.
    """
    path = _usual_place() if credential is None else Path(credential)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.sslsocket_class = TlsSocket
    try:
        own, accepted = files(path)
        security.secure(made, str(own), map(str, accepted))
    except FileNotFoundError as error:
        raise CredentialError(
            f"there is no credential {error.filename or path}: copy the group's to it with mode "
            "600, or make one with python -m pool_spawner init"
        ) from error
    except ssl.SSLError as error:
        raise CredentialError(f"{path} is no usable credential: {error.reason}") from error
    except OSError as error:
        raise CredentialError(f"the credential cannot be read: {error}") from error
    return made


def _usual_place() -> Path:
    try:
        return Path.home() / security.DEFAULT
    except RuntimeError as error:
        raise CredentialError(
            "this user has no home directory to look in: name the credential with --credential"
        ) from error


def files(path: Path) -> tuple[Path, list[Path]]:
    """A member's own file, and the others that are accepted. Raises CredentialError, OSError."""
    user = os.getuid()
    own, accepted = path, list[Path]()
    if path.is_dir():
        security.check_folder(path.stat(), user, str(path))
        own = path / security.OWN
        accepted = [path / name for name in security.accepted_names(os.listdir(path))]
    security.check_private(own.stat(), user, str(own))
    for file in accepted:
        security.check_accepted(file.stat(), user, str(file))
    return own, accepted
