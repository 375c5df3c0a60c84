"""Who does not finish its handshake: it takes ten seconds, most of them waiting."""

import contextlib
import socket
import ssl
import threading
import time
from pathlib import Path

from running import PATIENCE, Client, answers, context


def test_who_dawdles_is_closed_at_its_deadline(serve, credential: Path) -> None:
    """A byte a second, a silent one, one that stops after TLS, one that is quiet after all that."""
    spawner = serve()
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        silent, slow, stuck = (
            stack.enter_context(socket.create_connection(("127.0.0.1", spawner.port), PATIENCE))
            for _ in range(3)
        )
        tls = stack.enter_context(context(credential).wrap_socket(stuck))
        quiet = stack.enter_context(Client.dial(spawner.port, credential))
        hello = bytearray(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100))

        def drip() -> None:
            with contextlib.suppress(OSError):
                while hello:
                    slow.sendall(bytes([hello.pop(0)]))
                    time.sleep(1)

        thread = threading.Thread(target=drip)
        thread.start()
        for sock in (silent, slow, tls, quiet.sock):
            sock.settimeout(PATIENCE)
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                assert sock.recv(1) == b""
        assert time.monotonic() - started > 8, "they had their time"
        hello.clear()
        thread.join()
    spawner.logged("no handshake in time")
    assert answers(spawner, credential)
