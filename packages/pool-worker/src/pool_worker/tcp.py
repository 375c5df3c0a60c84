"""TCP as it is used here: connections that notice when the other machine is gone."""

import errno
import os
import socket
import struct

#: Seconds for a connection, which the other machine's kernel accepts, busy or not.
CONNECT_SECONDS = 10.0
#: A silent peer is asked after so many seconds, and again, three times in all.
_KEEPALIVE = 5
#: Seconds after which a peer that has acknowledged nothing, though it should have, is gone.
VANISHED_SECONDS = 20.0
#: Bytes that may wait in the kernel of a control connection, so that no report waits long there.
_UNSENT = 16 * 1024
#: Probes of a closed window that have had no answer; one or two may be lost on their way.
_LOST_PROBES = 3
#: Of Linux's ``struct tcp_info``: probes, unacked, last_ack_recv (ms).
_TCP_INFO = struct.Struct("=3xB20xI28xI")


def connect(target: tuple[str, int]) -> socket.socket:
    """Connect to host and port. Raises OSError."""
    sock = socket.create_connection(target, CONNECT_SECONDS)
    # The kernel may give us the very port that we ask for, and connect us to ourselves.
    if sock.getsockname() == sock.getpeername():
        sock.close()
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    return sock


def tune(sock: socket.socket, control: bool) -> None:
    """Send at once, and notice a peer that has vanished; as far as the system can."""
    tcp = socket.IPPROTO_TCP
    sock.setsockopt(tcp, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {"TCP_KEEPIDLE": _KEEPALIVE, "TCP_KEEPINTVL": _KEEPALIVE, "TCP_KEEPCNT": 3}
    if not hasattr(socket, "TCP_KEEPIDLE"):
        options["TCP_KEEPALIVE"] = _KEEPALIVE  # macOS's name for it
    if control:
        options["TCP_NOTSENT_LOWAT"] = _UNSENT
    for name, value in options.items():
        number = getattr(socket, name, None)
        if number is not None:
            sock.setsockopt(tcp, number, value)


def has_vanished(sock: socket.socket) -> bool:
    """True if the machine at the other end is gone: it does not even acknowledge.

    That machine's kernel answers for a program that is busy and does not read. ``TCP_USER_TIMEOUT``
    does not know the difference: it ends a connection whose reader is slow as well, so it is not
    used. (Without anything to acknowledge, the keep-alive of ``tune`` ends the connection.)
    """
    if sock.family == socket.AF_UNIX or not hasattr(socket, "TCP_INFO"):
        return False
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        probes, unacknowledged, since = _TCP_INFO.unpack(info)
    except (OSError, struct.error):
        return False
    waiting = unacknowledged > 0 or probes >= _LOST_PROBES
    return bool(waiting and since >= VANISHED_SECONDS * 1000)
