"""What the kernel does for us on TCP: it finds out that a peer has vanished.

It does so also while our own loop or the GIL is blocked, and tells nobody who is merely busy dead.
"""

import socket

#: Seconds of silence before the first probe, seconds between probes, and how many go unanswered.
IDLE = 5
INTERVAL = 5
PROBES = 3
#: Milliseconds for which what was written may stay unacknowledged on a control connection. Not on
#: task connections: the window of a worker that is busy for minutes is rightly closed for minutes.
UNANSWERED = 20_000


def keep_alive(sock: socket.socket) -> None:
    """Probe a silent peer."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    _set(sock, "TCP_KEEPIDLE", IDLE)
    _set(sock, "TCP_KEEPALIVE", IDLE)  # its name on macOS
    _set(sock, "TCP_KEEPINTVL", INTERVAL)
    _set(sock, "TCP_KEEPCNT", PROBES)


def limit_silence(sock: socket.socket) -> None:
    """Give a peer up that acknowledges nothing of what is sent to it."""
    _set(sock, "TCP_USER_TIMEOUT", UNANSWERED)


def _set(sock: socket.socket, option: str, value: int) -> None:
    number = getattr(socket, option, None)
    if number is not None:
        sock.setsockopt(socket.IPPROTO_TCP, number, value)
