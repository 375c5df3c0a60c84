"""TLS for hosts on the LAN: the contexts, and a socket that the loop's readers can drive.

What is required is said in ``pool_protocol.security``; here files are read and contexts made.
"""

import os
import ssl
from pathlib import Path
from typing import Any

from pool_client.launchers import Access
from pool_protocol import AuthenticationError, CredentialError
from pool_protocol.security import (
    DEFAULT,
    OWN,
    accepted_names,
    check_accepted,
    check_folder,
    check_private,
    secure,
)

_MAKE_ONE = (
    "make one with 'python -m pool_spawner init' and copy it to each machine of the group, "
    "or give the path of another with credential="
)


class TlsSocket(ssl.SSLSocket):
    """A non-blocking TLS socket that has the errors of a plain one.

    The handshake is done by the first reads. A peer that is refused there raises
    AuthenticationError.
    """

    _greeted = False

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """As a plain socket's. Raises BlockingIOError, AuthenticationError or OSError."""
        try:
            count = super().recv_into(buffer, nbytes, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            # Reading only wants to write in the handshake, and its few bytes always fit.
            raise BlockingIOError from None
        except ssl.SSLError as error:
            if self._greeted:
                raise
            raise AuthenticationError(f"no TLS between us: {_reason(error)}") from error
        if count and not self._greeted:
            # Early versions of Python hand on what comes before a handshake that never follows.
            if self.version() is None:
                raise AuthenticationError("the peer does not speak TLS")
            self._greeted = True
        return count

    def send(self, data: Any, flags: int = 0) -> int:
        """As a plain socket's. Raises BlockingIOError or OSError."""
        try:
            return super().send(data, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None


def _reason(error: ssl.SSLError) -> str:
    text = (error.reason or str(error)).lower().replace("_", " ")
    return getattr(error, "verify_message", "") or text


def client_context(access: Access) -> ssl.SSLContext:
    """For connections that we open. Raises CredentialError, saying what to do."""
    return _context(access, ssl.Purpose.SERVER_AUTH)


def server_context(access: Access) -> ssl.SSLContext:
    """For connections that we accept. Raises CredentialError, saying what to do."""
    context = _context(access, ssl.Purpose.CLIENT_AUTH)
    context.num_tickets = 0  # nobody comes back to resume a session
    context.sslsocket_class = TlsSocket
    return context


def _context(access: Access, purpose: ssl.Purpose) -> ssl.SSLContext:
    if access.ssl_context is not None:
        return _checked(access.ssl_context(purpose))
    server = purpose is ssl.Purpose.CLIENT_AUTH
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    own, accepted = find_credential(access.credential)
    try:
        secure(context, str(own), map(str, accepted))
    except (OSError, ssl.SSLError) as error:
        raise CredentialError(f"{own} cannot be used as a credential: {error}") from error
    return context


def _checked(context: object) -> ssl.SSLContext:
    """A context of the user's own: it must check the other side, too."""
    if not isinstance(context, ssl.SSLContext):
        raise CredentialError(f"ssl_context gave {context!r}, which is no ssl.SSLContext")
    if context.verify_mode is not ssl.CERT_REQUIRED:
        raise CredentialError(
            "ssl_context gave a context that lets anybody in: set its verify_mode to "
            "ssl.CERT_REQUIRED, for both purposes"
        )
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def find_credential(path: str | None) -> tuple[Path, list[Path]]:
    """The member's own credential, and what else it accepts.

    Args:
        path: A file, or a folder of certificates; None for the usual place.

    Raises:
        CredentialError: It is missing, or others could use it or let themselves in.
    """
    place = Path(os.path.expanduser(f"~/{DEFAULT}" if path is None else path))
    own, accepted = place, list[Path]()
    try:
        if place.is_dir():
            own = place / OWN
            accepted = [place / name for name in accepted_names(os.listdir(place))]
        if hasattr(os, "getuid"):
            _check(place, own, accepted, os.getuid())
        else:
            own.stat()
    except OSError as error:
        where = error.filename or own
        if not isinstance(error, FileNotFoundError):
            raise CredentialError(
                f"the credential at {where} cannot be read ({error.strerror}): it must belong to "
                "the user who runs this, in a folder that this user may enter"
            ) from error
        raise CredentialError(
            f"there is no credential at {where} ({error.strerror}): {_MAKE_ONE}"
        ) from error
    return own, accepted


def _check(place: Path, own: Path, accepted: list[Path], user: int) -> None:
    """Look at owners and modes. Raises CredentialError, OSError."""
    if own != place:
        check_folder(place.stat(), user, str(place))
    check_private(own.stat(), user, str(own))
    for file in accepted:
        check_accepted(file.stat(), user, str(file))
