"""Ports of loopback for servers that are started, and started again, where clients expect them.

They lie below those that the kernel gives to whoever wants any port, so nobody takes one by chance
while no server listens on it; and each test process has a block of them for itself.
"""

import itertools
import random
import socket
from collections.abc import Iterator
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_BLOCK = 64


def _claim() -> tuple[range, int]:
    """A block of ports, and the descriptor that keeps it: of a name that only one can have."""
    end = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 32768
    blocks = [range(first, first + _BLOCK) for first in range(end // 2, end - _BLOCK, _BLOCK)]
    random.SystemRandom().shuffle(blocks)
    for block in blocks:
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0pool-tests-ports-{block.start}")
        except FileNotFoundError:  # there are no such names on this system
            claim.close()
            return block, -1
        except OSError:
            claim.close()
        else:
            return block, claim.detach()
    raise RuntimeError("all ports for tests are taken")


#: Held for the life of the process, and taken at the import: a test would seem to leak it.
_ports, _held = _claim()
_next: Iterator[int] = itertools.cycle(_ports)


def free_port() -> int:
    """A port of loopback on which nobody listens, nor will by chance."""
    for port in itertools.islice(_next, _BLOCK):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RuntimeError("all ports of this process are in use")
