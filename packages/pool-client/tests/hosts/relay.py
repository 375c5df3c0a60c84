"""Somebody in the middle: a relay for TCP that listens to what passes, and may spoil it."""

import contextlib
import random
import socket
import threading
from collections.abc import Callable
from typing import Self

#: What becomes of the bytes that pass; an empty result ends the connection.
Spoil = Callable[[bytes], bytes]


class Relay:
    """Between whoever connects to ``address`` and ``target``. Keeps what passed in ``heard``."""

    def __init__(self, address: tuple[str, int], target: tuple[str, int]) -> None:
        self.heard = bytearray()
        self.connections = 0
        self.spoil: Spoil = bytes
        self._target = target
        self._listening = socket.create_server(address, backlog=100)
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(20)
        self._listening.close()
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(20)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                dialer, _ = self._listening.accept()
                self.connections += 1
                thread = threading.Thread(target=self._connect, args=(dialer,))
                self._threads.append(thread)
                thread.start()

    def _connect(self, dialer: socket.socket) -> None:
        with dialer, contextlib.suppress(OSError), socket.create_connection(self._target) as target:
            self._open |= {dialer, target}
            back = threading.Thread(target=self._pass_on, args=(target, dialer))
            back.start()
            self._pass_on(dialer, target)
            back.join(20)
            self._open -= {dialer, target}

    def _pass_on(self, source: socket.socket, to: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self.heard += data
                to.sendall(self.spoil(data))
        for sock in (source, to):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def flipping(seed: int, one_in: int) -> Spoil:
    """Flip a bit of one in so many pieces."""
    choose = random.Random(seed)

    def spoil(data: bytes) -> bytes:
        if choose.random() * one_in > 1:
            return data
        spoilt = bytearray(data)
        spoilt[choose.randrange(len(spoilt))] ^= 1 << choose.randrange(8)
        return bytes(spoilt)

    return spoil
