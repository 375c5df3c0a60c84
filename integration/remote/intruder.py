"""What somebody on the network may try who has no key, a wrong one, or a recording.

``python intruder.py ACTION HOST PORT [ARGUMENT]`` prints a line of JSON.
"""

import contextlib
import json
import pickle
import resource
import select
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from pathlib import Path

PATIENCE = 25.0
"""Seconds in which a stranger must have been shown the door."""


TLS_RECORDS = (b"\x14\x03\x03", b"\x15\x03\x03", b"\x16\x03\x03", b"\x17\x03\x03")


class Touch:
    """Unpickled, it leaves a file behind."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return exec, ("open('/tmp/unpickled', 'w').close()",)


OPENINGS = {
    "pickle": pickle.dumps(Touch()),
    "http": b"GET / HTTP/1.1\r\nHost: pool\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "length": (2**63).to_bytes(8, "little") * 8,
    "handshake": b"poolwire" + bytes(512),
}


def connect(host: str, port: int) -> socket.socket:
    """Open a connection."""
    return socket.create_connection((host, port), PATIENCE)


def ending(sock: socket.socket) -> str:
    """Say how the other side ends a connection: ``closed``, or what it does instead."""
    try:
        while data := sock.recv(65536):
            if not data.startswith(TLS_RECORDS):  # a handshake begins, or an alert ends it
                return f"answered with {data[:100]!r}"
    except TimeoutError:
        return "left open"
    except (ssl.SSLError, OSError):
        pass
    return "closed"


def plain(host: str, port: int, data: bytes) -> str:
    """Send bytes without TLS."""
    with connect(host, port) as sock:
        with contextlib.suppress(OSError):
            sock.sendall(data)
        return ending(sock)


def tls(host: str, port: int, credential: str | None) -> str:
    """Speak TLS with another certificate or none, then send a pickle."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if credential:
        context.load_cert_chain(credential)
    try:
        with connect(host, port) as sock, context.wrap_socket(sock) as secure:
            secure.sendall(OPENINGS["pickle"])
            return ending(secure)
    except (ssl.SSLError, OSError):
        return "closed"


def strangers(host: str, port: int, credential: str) -> dict[str, str]:
    """Try everything that needs no recording, all at once."""
    results: dict[str, str] = {}
    tries: dict[str, Callable[[], str]] = {
        name: lambda data=data: plain(host, port, data)  # type: ignore[misc]  # bound early
        for name, data in OPENINGS.items()
    }
    tries["no certificate"] = lambda: tls(host, port, None)
    tries["wrong certificate"] = lambda: tls(host, port, credential)

    def attempt(name: str) -> None:
        results[name] = tries[name]()

    threads = [threading.Thread(target=attempt, args=(name,)) for name in tries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def relay(host: str, port: int, folder: str) -> None:
    """Listen on the same port, pass everything on, and keep what came in, a file a connection."""
    with socket.create_server(("0.0.0.0", port)) as server:
        print(json.dumps({"listens": port}), flush=True)
        number = 0
        while True:
            near, _ = server.accept()
            number += 1
            target = Path(folder, f"{port}-{number}")
            threading.Thread(target=carry, args=(near, host, port, target), daemon=True).start()


def carry(near: socket.socket, host: str, port: int, record: Path) -> None:
    """Pass one connection on, in both directions."""
    with (
        contextlib.suppress(OSError),
        near,
        connect(host, port) as far,
        record.open("wb") as file,
    ):
        while True:
            for sock in select.select([near, far], [], [])[0]:
                data = sock.recv(65536)
                if not data:
                    return
                if sock is near:
                    file.write(data)
                    file.flush()
                (far if sock is near else near).sendall(data)


def replay(host: str, port: int, folder: str) -> dict[str, str]:
    """Send what was recorded for that port, each connection's bytes on a new connection."""
    records = sorted(Path(folder).glob(f"{port}-*"))
    return {record.name: plain(host, port, record.read_bytes()) for record in records}


def silent(host: str, port: int, count: str) -> None:
    """Open connections, say nothing, and hold on to them until standard input ends."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    held = []
    refused = 0
    for _ in range(int(count)):
        try:
            held.append(connect(host, port))
        except OSError:
            refused += 1
    print(json.dumps({"opened": len(held), "refused": refused}), flush=True)
    sys.stdin.read()


def main(action: str, host: str, port: str, argument: str) -> None:
    """Do as told."""
    result = globals()[action](host, int(port), argument)
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
