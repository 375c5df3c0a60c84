"""Plays the client: starts the real program and talks to it over a real socket, Unix or TLS."""

import gc
import json
import os
import pickle
import select
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import cloudpickle
from credentials import server_context, tcp_listener

from pool_protocol import Buffer, Connection, ListenerHandshake, PickleType, Role, State
from pool_protocol.codec import decode
from pool_protocol.frames import FrameDecoder, encode
from pool_protocol.messages import (
    RESULT,
    Control,
    Function,
    HostReady,
    Lost,
    Message,
    Ping,
    Pong,
    Ready,
    Result,
    ResultFlag,
    Retire,
    Setup,
    Start,
    TaskFlag,
)
from pool_protocol.serializers import pack_separate, serializer, unpack_separate

#: No wait in a test may be longer; in seconds.
PATIENCE = 60.0
PYTHON = ".".join(map(str, sys.version_info[:3]))


class Peer:
    """One connection that the program has made."""

    def __init__(self, sock: socket.socket, tokens: dict[bytes, bytes]) -> None:
        self.socket = sock
        self.connection = Connection(ListenerHandshake(tokens.get))
        self.received: list[Message] = []
        self.closed = False
        sock.settimeout(PATIENCE)
        while self.connection.state is State.HANDSHAKE:
            self.read()
            if self.closed:
                raise EOFError("closed in the handshake")

    def read(self) -> None:
        """Wait for bytes, keep the messages."""
        try:
            count = self.socket.recv_into(self.connection.get_buffer())
        except ConnectionResetError:
            count = 0
        if not count:
            self.closed = True
            return
        self.received += self.connection.received(count)
        self.write()

    def write(self) -> None:
        for buffer in self.connection.take():
            self.socket.sendall(buffer)

    def send(self, *messages: Control) -> None:
        for message in messages:
            self.connection.send(message)
        self.write()

    def wait(self, cls: type, patience: float = PATIENCE) -> Any:
        """The next message of a class; what came before it is kept."""
        deadline = time.monotonic() + patience
        while True:
            for index, message in enumerate(self.received):
                if isinstance(message, cls):
                    return self.received.pop(index)
            if self.closed:
                raise EOFError(f"closed while waiting for {cls.__name__}")
            if not self.readable(deadline - time.monotonic()):
                raise TimeoutError(f"no {cls.__name__}")
            self.read()

    def readable(self, patience: float) -> bool:
        if isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
            return True
        return bool(select.select([self.socket], [], [], max(0, patience))[0])

    def drain(self) -> list[Message]:
        """Everything up to the end of the connection."""
        while not self.closed and self.socket.fileno() >= 0:
            self.read()
        return self.received


class RemoteError(Exception):
    """An error that a worker has sent."""

    def __init__(self, packed: bytes) -> None:
        self.blob, self.type, self.text, self.traceback = pickle.loads(packed)
        super().__init__(self.type, self.text)

    def original(self) -> BaseException:
        assert self.blob is not None
        error = pickle.loads(self.blob)
        assert isinstance(error, BaseException)
        return error


def unpack(result: Result, data: PickleType = PickleType.pickle) -> Any:
    """The value of a result; raises RemoteError; a chunk's errors are in its list."""
    load = serializer(data).unpack
    if result.flags & ResultFlag.ERROR:
        raise RemoteError(bytes(result.payload))
    if not result.flags & ResultFlag.SEPARATE:
        return load(result.payload, result.buffers)
    bodies, failed = unpack_separate(result.payload)
    return [
        RemoteError(bytes(body)) if index in failed else load(body)
        for index, body in enumerate(bodies)
    ]


def frames(blob: Buffer) -> list[Message]:
    """The messages in the blob of a Lost or a Recalled."""
    decoder = FrameDecoder()
    found = []
    while len(blob):
        hole = decoder.get_buffer()
        count = min(len(hole), len(blob))
        hole[:count] = blob[:count]
        found += decoder.received(count)
        blob = blob[count:]
    return decode(found, {RESULT}) if found else []


class Worker(Peer):
    """A worker's connection, with numbers for functions and tasks."""

    pid = 0
    _function = 0
    _ids = iter(range(1, 1 << 62))

    def function(self, func: Callable[..., Any], **fields: Any) -> int:
        """Send a function; its id."""
        self._function += 1
        values = {
            "id": self._function,
            "name": getattr(func, "__qualname__", repr(func)),
            "by_value": True,
            "python": PYTHON,
            "blob": cloudpickle.dumps(func),
        } | fields
        self.send(Function(**values))
        return self._function

    def post(self, function: int, payload: bytes, flags: int = 0, timeout: float = 0) -> int:
        """Queue a task without writing it; its dispatch id."""
        if timeout:
            payload = int(timeout * 1e9).to_bytes(8, "little") + payload
            flags |= TaskFlag.TIMED
        id = next(Worker._ids)
        self.connection.send_task(id, function, flags, payload)
        return id

    def call(self, func: Callable[..., Any], *args: Any, timeout: float = 0) -> Any:
        """Send a task and wait for its result."""
        self.post(self.function(func), pickle.dumps(args), timeout=timeout)
        self.write()
        return unpack(self.wait(Result))

    def chunk(
        self, func: Callable[..., Any], items: Sequence[Any], flags: int = 0, timeout: float = 0
    ) -> list[Any]:
        """Send a chunk and wait for its results."""
        if flags & TaskFlag.SEPARATE:
            payload = pack_separate([cloudpickle.dumps(item) for item in items])
        else:
            payload = pickle.dumps(list(items))
        self.post(self.function(func), payload, flags | TaskFlag.CHUNK, timeout)
        self.write()
        values: list[Any] = unpack(self.wait(Result))
        return values

    def retire(self) -> list[Message]:
        """Let the worker end; what it still sent."""
        self.send(Retire())
        return self.drain()


def descriptors() -> list[str]:
    """What this process has open, without what only waits for the garbage collector."""
    gc.collect()
    return sorted(os.listdir("/proc/self/fd"))


class Client:
    """Starts the program; use it as a context manager.

    Args:
        folder: Where its socket is.
        flags: More flags.
        before: What the program runs first, in Python: it changes the program's patience.
        settings: More settings. With a ``credential``, it listens on TCP with TLS.
    """

    def __init__(
        self, folder: Path, flags: Sequence[str] = (), before: str = "", **settings: Any
    ) -> None:
        self.token, self.launch = os.urandom(32), os.urandom(8)
        self.context = None
        if "credential" in settings:
            self.context = server_context(Path(settings["credential"]))
            self.listener = tcp_listener()
            self.address = f"tls://127.0.0.1:{self.listener.getsockname()[1]}"
        else:
            self.address = str(folder / f"s{os.getpid()}{time.monotonic_ns() % 10**9}")
            self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.listener.bind(self.address)
            self.listener.listen(2048)
            self.listener.settimeout(PATIENCE)
        self.workers: dict[int, Worker] = {}
        self.errors = ""
        self._pings = 1 << 32
        flags = ["--launch", *flags]
        main = f"{before}\nimport sys\nfrom pool_worker.cli import main\nsys.exit(main({flags}))"
        program = ["-c", main] if before else ["-m", "pool_worker", *flags]
        self.process = subprocess.Popen(
            [sys.executable, "-P", *program],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[settings["stderr"]] if "stderr" in settings else [],
        )
        self.settings = {
            "address": self.address,
            "launch": self.launch.hex(),
            "token": self.token.hex(),
            "sys_path": sys.path,
        } | settings
        try:
            self.say(json.dumps(self.settings).encode() + b"\n")
            self.control = self.accept()
            self.hello: HostReady = self.control.wait(HostReady)
        except BaseException:
            self._end_program()
            self.listener.close()
            raise

    def sync(self) -> None:
        """Wait until the supervisor has done what it was told before, and all that went with it."""
        self._pings += 1
        self.control.send(Ping(self._pings))
        while self.control.wait(Pong).number != self._pings:
            pass

    def descriptors(self) -> int:
        """How many descriptors the supervisor has."""
        self.sync()
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def say(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def accept(self) -> Worker:
        sock, _ = self.listener.accept()
        if self.context is not None:
            sock.settimeout(PATIENCE)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock = self.context.wrap_socket(sock, server_side=True)
        return Worker(sock, {self.launch: self.token})

    def start(self, *numbers: int, setup: Setup | None = None) -> list[Worker]:
        """Start workers and set them up, in order of their numbers."""
        self.control.send(Start(list(numbers)))
        for _ in numbers:
            peer = self.accept()
            identity = peer.connection.identity
            assert identity is not None and identity.role is Role.TASK
            self.workers[identity.worker] = peer
        started = [self.workers[number] for number in numbers]
        for worker in started:
            worker.send(setup or Setup(PickleType.cloudpickle, PickleType.pickle, 0, None))
        for worker in started:
            if setup is None:
                worker.pid = worker.wait(Ready).pid
        return started

    def lost(self, patience: float = PATIENCE) -> Lost:
        """The next loss that the supervisor reports."""
        message = self.control.wait(Lost, patience)
        assert isinstance(message, Lost)
        return message

    def finish(self) -> str:
        """Wait for the program's end; what it wrote to standard error."""
        assert self.process.stdin is not None and self.process.stderr is not None
        self.process.stdin.close()
        self.control.drain()
        self.control.socket.close()
        self.errors += self.process.stderr.read().decode()
        self.process.wait(PATIENCE)
        return self.errors

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *args: object) -> None:
        try:
            self.finish()
        finally:
            self._end_program()
            for peer in (self.control, *self.workers.values()):
                peer.socket.close()
            self.listener.close()
            if self.context is None:
                Path(self.address).unlink(missing_ok=True)

    def _end_program(self) -> None:
        assert self.process.stdin is not None and self.process.stderr is not None
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        with suppress(BrokenPipeError):
            self.process.stdin.close()


__all__ = ["Client", "Peer", "RemoteError", "Worker", "descriptors", "encode", "frames", "unpack"]
