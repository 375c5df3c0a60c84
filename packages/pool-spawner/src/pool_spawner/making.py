"""``pool-spawner init``: make a credential. Only this module needs ``cryptography``."""

import contextlib
import datetime
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pool_protocol import CredentialError
from pool_protocol.security import OWN

#: How long a credential is good for, in days: rotation is a decision of its owners, not a surprise.
VALID_DAYS = 20 * 365
#: Days before now from which it is good: the clocks of a group of machines differ.
SKEW_DAYS = 2
#: The name in the certificate. Nobody checks it: members know the certificate itself.
NAME = "pool"


def make_pem() -> bytes:
    """A new private key and its self-signed certificate, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=SKEW_DAYS))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        # No authority: with it, a member could make certificates that the others accept.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


def make_credential(place: Path) -> Path:
    """Make a credential where there is none.

    Args:
        place: The file, or an existing folder for it.

    Returns:
        The file, which nobody but its owner can read.

    Raises:
        CredentialError: There is one already, or the file cannot be written.
    """
    path = place / OWN if place.is_dir() else place
    pem = make_pem()
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise CredentialError(f"cannot make the folder {path.parent}: {error.strerror}") from None
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise CredentialError(
            f"{path} exists already and is left alone; remove it first if it really is to be "
            "replaced, on every machine that has it"
        ) from None
    except OSError as error:
        raise CredentialError(f"cannot make {path}: {error.strerror}") from None
    try:
        with open(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise CredentialError(f"cannot write {path}: {error.strerror}") from None
    return path
