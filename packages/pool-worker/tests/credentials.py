"""Makes throw-away credentials, as the spawner's ``init`` does."""

import datetime
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pool_protocol import security


def make_credential(path: Path, mode: int = 0o600) -> Path:
    """Write a key and its self-signed certificate to a file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "pool")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    body = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(pem)
    path.write_bytes(body)
    os.chmod(path, mode)
    return path


def certificate_of(credential: Path, path: Path) -> Path:
    """Write a credential's certificate alone to a file."""
    text = credential.read_text()
    path.write_text(text[text.index("-----BEGIN CERTIFICATE") :])
    os.chmod(path, 0o644)
    return path


def server_context(credential: Path) -> ssl.SSLContext:
    """As a client's listener has it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    security.secure(context, str(credential))
    return context


def tcp_listener(host: str = "127.0.0.1") -> socket.socket:
    """A socket that listens on a free port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.bind((host, 0))
    sock.listen(128)
    sock.settimeout(60)
    return sock


@contextmanager
def closed_port() -> Iterator[int]:
    """A port at which nobody listens, and which nobody else can get meanwhile."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]
