"""Wait until hosts listen: ``python ready.py [HOST:PORT …]``, all of the cluster's if none."""

import socket
import sys
import time

HOSTS = ["ssh1:22", "ssh2:22", "bare:22", "lan1:8899", "lan2:8899"]
SECONDS = 60.0


def listens(place: str) -> bool:
    """Tell whether anybody accepts connections there."""
    host, _, port = place.partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True


end = time.monotonic() + SECONDS
for place in sys.argv[1:] or HOSTS:
    while not listens(place):
        if time.monotonic() > end:
            sys.exit(f"nothing listens at {place}: see docker compose logs")
        time.sleep(0.05)
