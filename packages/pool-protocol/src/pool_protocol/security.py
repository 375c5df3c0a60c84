"""What TLS means in this project, in one place: whatever is not said here is the default.

A *credential* is a PEM file with a private key and its self-signed certificate. All members of a
group of machines have the same file, present it, and accept only it. A *folder* in place of the
file holds the member's own as ``credential.pem`` and, beside it, every other certificate that is
accepted (``*.pem``, ``*.crt``): so certificates are rotated, and so a site's own authority is used.
What is accepted is public, but whoever could change it could let themselves in.

Nothing is read here: the caller lists and looks at files, and owns the context.
"""

import stat
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from pool_protocol.errors import CredentialError

if TYPE_CHECKING:
    import os
    import ssl

#: The member's own file in a folder.
OWN: Final = "credential.pem"
#: Where the credential is, below the user's home directory, unless it is said to be elsewhere.
DEFAULT: Final = ".config/pool/credential.pem"

#: How the names of the certificates in a folder end.
_SUFFIXES = (".pem", ".crt")

#: The numbers of ``ssl.TLSVersion.TLSv1_3``, ``ssl.CERT_REQUIRED`` and
#: ``ssl.VERIFY_X509_PARTIAL_CHAIN``: a certificate in the folder is trusted for itself.
_TLS_1_3 = 0x0304
_CERT_REQUIRED = 2
_PARTIAL_CHAIN = 0x80000


def accepted_names(names: Iterable[str]) -> list[str]:
    """Those files of a folder that are accepted beside the member's own, sorted.

    Args:
        names: The names of everything in the folder. Hidden files do not count: editors leave them.
    """
    found = (name for name in names if name.endswith(_SUFFIXES) and not name.startswith("."))
    return sorted(name for name in found if name != OWN)


def check_private(status: "os.stat_result", uid: int, path: str) -> None:
    """Look at the mode and the owner of a credential.

    Args:
        status: What ``os.stat`` says of the file.
        uid: The user who may own it, besides root.
        path: How the error names it.

    Raises:
        CredentialError: Somebody else could read or replace it.
    """
    _check_file(status, uid, path)
    if status.st_mode & 0o077:
        raise CredentialError(
            f"{path} can be used by others (mode {_mode(status)}): chmod 600 it, and make a new "
            "one if anybody may have read it"
        )


def check_accepted(status: "os.stat_result", uid: int, path: str) -> None:
    """Look at the mode and the owner of a certificate that is accepted, which others may read.

    Args:
        status: What ``os.stat`` says of the file.
        uid: The user who may own it, besides root.
        path: How the error names it.

    Raises:
        CredentialError: Somebody else could put another certificate in its place.
    """
    _check_file(status, uid, path)
    if status.st_mode & 0o022:
        raise CredentialError(
            f"{path} can be changed by others (mode {_mode(status)}): chmod go-w it, and look "
            "whether it is still the right one"
        )


def check_folder(status: "os.stat_result", uid: int, path: str) -> None:
    """Look at the mode and the owner of a folder of certificates, in which others may look.

    Args:
        status: What ``os.stat`` says of the folder.
        uid: The user who may own it, besides root.
        path: How the error names it.

    Raises:
        CredentialError: Somebody else could add a certificate.
    """
    if not stat.S_ISDIR(status.st_mode):
        raise CredentialError(f"{path} is not a folder")
    _check_owner(status, uid, path)
    if status.st_mode & 0o022:
        raise CredentialError(
            f"others can add certificates to {path} (mode {_mode(status)}): chmod 700 it"
        )


def _check_file(status: "os.stat_result", uid: int, path: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise CredentialError(f"{path} is not a file")
    _check_owner(status, uid, path)


def _check_owner(status: "os.stat_result", uid: int, path: str) -> None:
    if status.st_uid not in (uid, 0):
        raise CredentialError(
            f"{path} belongs to user {status.st_uid}, not to {uid}, who runs this: chown {uid} it"
        )


def _mode(status: "os.stat_result") -> str:
    return f"{stat.S_IMODE(status.st_mode):04o}"


def secure(context: "ssl.SSLContext", own: str, accepted: Iterable[str] = ()) -> None:
    """Let a context speak TLS 1.3 alone, present a credential, and accept nobody else's.

    Args:
        context: A new one, of either purpose.
        own: Path of the credential.
        accepted: Paths of further certificates that are accepted.

    Raises:
        CredentialError: The key is encrypted.
        OSError, ssl.SSLError: A file cannot be read, or is no credential.
    """
    context.check_hostname = False  # the certificate is known itself, whatever its machine is named
    context.verify_mode = _CERT_REQUIRED  # type: ignore[assignment]  # ssl is not imported here
    context.minimum_version = _TLS_1_3  # type: ignore[assignment]
    context.verify_flags |= _PARTIAL_CHAIN

    def refuse() -> str:
        # Without this, OpenSSL would ask on the terminal and wait.
        raise CredentialError(f"the key in {own} has a pass phrase, and nobody is there to give it")

    context.load_cert_chain(own, password=refuse)
    for path in (own, *accepted):
        context.load_verify_locations(path)
