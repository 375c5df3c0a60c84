"""What the tests of TLS share: contexts of a test's own credential, and peers that use them."""

import socket
import ssl
from pathlib import Path

from link_model import Peer

from pool_client.launchers import Access
from pool_protocol.security import secure


def access(credential: Path | None) -> Access:
    """As the user of a pool says it."""
    return Access(credential=None if credential is None else str(credential))


def dialling(credential: Path | None) -> ssl.SSLContext:
    """The context of a peer with this credential; None: it presents none and takes anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if credential is not None:
        secure(context, str(credential))
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def dial(port: int, credential: Path | None, host: str = "127.0.0.1", **settings) -> Peer:
    """A peer that has connected and done its part of TLS, but nothing more."""
    sock = socket.create_connection((host, port), timeout=20)
    try:
        return Peer(dialling(credential).wrap_socket(sock), **settings)
    except BaseException:
        sock.close()
        raise
