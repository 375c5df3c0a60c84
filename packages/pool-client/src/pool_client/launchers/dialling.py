"""A TCP connection to a host that may have several addresses, or the reason why there is none."""

import asyncio
import errno
import socket

from pool_client.launchers.spec import in_brackets
from pool_client.links.keepalive import keep_alive, limit_silence

#: Seconds that one of several addresses of a host may take before the next one is tried.
NEXT_ADDRESS = 3.0


class DialError(Exception):
    """There is no connection; the text says why, and what to do."""


def place(host: str, port: int) -> str:
    """An address and port as people write them: IPv6 in brackets."""
    return f"{in_brackets(host)}:{port}"


async def dial(host: str, port: int) -> socket.socket:
    """A non-blocking connection to the first address of a host that answers. Raises DialError."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise DialError(
            f"no host is known here by the name {host} ({error.strerror}): is it spelt right?"
        ) from error
    failures: list[OSError] = []
    for number, (family, _, _, _, address) in enumerate(found, 1):
        try:
            async with asyncio.timeout(NEXT_ADDRESS if number < len(found) else None):
                return await _connect(family, address)
        except OSError as error:  # TimeoutError is one
            failures.append(error)
    # The first address is the preferred one, but a refusal says more than silence.
    failures.sort(key=lambda error: not isinstance(error, ConnectionRefusedError))
    raise DialError(describe_dial(failures[0], place(host, port))) from failures[0]


async def _connect(family: int, address: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep_alive(sock)
        limit_silence(sock)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def describe_dial(error: OSError, where: str) -> str:
    """Why nobody can be reached at an address, and what to do."""
    if isinstance(error, ConnectionRefusedError):
        return (
            f"nothing listens at {where}: start it there with 'python -m pool_spawner --host "
            "ADDRESS', where ADDRESS is that host's own (without it, only the host itself can "
            "connect), or give its port as host:port/n"
        )
    if isinstance(error, TimeoutError):
        reason = "no answer"
    elif error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        reason = "no way there"
    else:
        reason = error.strerror or str(error)
    return f"{reason} at {where}: is the host up, and the port open in its firewall?"
