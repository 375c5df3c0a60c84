"""The credential: where it is, whether it is safe, and the TLS context that it makes.

What a credential is, and what TLS does with it, is said in `pool_protocol.security`.
"""

import hashlib
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from pool_protocol import CredentialError
from pool_protocol.security import (
    DEFAULT,
    OWN,
    accepted_names,
    check_accepted,
    check_folder,
    check_private,
    secure,
)


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential that may be used: it exists, and nobody else can read or replace it."""

    place: Path
    """The file or folder, absolute."""
    own: Path
    accepted: tuple[Path, ...] = ()
    """Other certificates that are accepted."""


def default_place() -> Path:
    """Where the credential is unless it is said to be elsewhere.

    Raises:
        CredentialError: The user has no home directory.
    """
    try:
        return Path.home() / DEFAULT
    except RuntimeError as error:
        raise CredentialError(
            "this user has no home directory to look in: name the credential with --credential"
        ) from error


def find(place: str | None) -> Credential:
    """Look for the credential.

    Args:
        place: A file or a folder; None for the default place.

    Raises:
        CredentialError: It is missing or unsafe; the text says what to do.
    """
    path = Path(place).expanduser().absolute() if place else default_place()
    own, accepted = path, list[Path]()
    user = os.geteuid() if hasattr(os, "geteuid") else 0
    try:
        if path.is_dir():
            own = path / OWN
            check_folder(path.stat(), user, str(path))
            accepted = [path / name for name in accepted_names(os.listdir(path))]
        check_private(own.stat(), user, str(own))
        for file in accepted:
            check_accepted(file.stat(), user, str(file))
    except OSError as error:
        if isinstance(error, FileNotFoundError) and error.filename == str(own):
            flag = f" --credential {place}" if place else ""
            raise CredentialError(
                f"there is no credential at {own}: copy that of your group of machines there, or "
                f"make one with: python -m pool_spawner init{flag}"
            ) from None
        raise CredentialError(f"cannot look at the credential: {error}") from None
    return Credential(path, own, tuple(accepted))


def server_context(credential: Credential) -> ssl.SSLContext:
    """The context in which the spawner accepts connections. Raises CredentialError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        secure(context, str(credential.own), map(str, credential.accepted))
    except OSError as error:
        raise CredentialError(
            f"{credential.place} is no usable credential ({error}): copy that of your group of "
            "machines there again"
        ) from None
    # Every connection proves anew who it is.
    context.num_tickets = 0
    return context


def fingerprint(path: Path) -> str:
    """The SHA-256 of a credential's certificate, by which people compare two machines'."""
    text = path.read_text(encoding="ascii", errors="replace")
    start = text.index(ssl.PEM_HEADER)
    certificate = text[start : text.index(ssl.PEM_FOOTER, start) + len(ssl.PEM_FOOTER)]
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest()
