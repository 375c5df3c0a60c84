"""What the tests share: a pool-spawner as a process, a client of its protocol, bounded waiting."""

import contextlib
import gc
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pool_protocol import Connection, DialerHandshake, Identity, Role, State
from pool_protocol.handshake import OPEN_LAUNCH, OPEN_TOKEN, PROTOCOL_VERSION
from pool_protocol.messages import Control, Message, Spawn, SpawnEnded
from pool_protocol.security import secure

#: Seconds that anything may take before a test fails.
PATIENCE = 60.0
#: For ``before``: a pool-worker that is slow to end, on a busy machine, is not killed for it.
PATIENT = "from pool_spawner.process import WorkerProcess as P; P.end.__defaults__ = (1000.0,)"

T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str = "", timeout: float = PATIENCE) -> T:
    """Call *condition* until it returns something true, and return that."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {timeout:g} s in vain for: {what or condition}"
        time.sleep(0.01)
    return value


class Spawner:
    """``python -m pool_spawner`` as a user starts it, on a port of its own.

    Args:
        credential: Its place.
        flags: More flags.
        host: Where it listens.
        before: What the program runs first, in Python: it changes the program's patience.
    """

    def __init__(
        self, credential: Path | str, *flags: str, host: str = "127.0.0.1", before: str = ""
    ) -> None:
        main = f"{before}\nimport sys\nfrom pool_spawner.__main__ import main\nsys.exit(main())"
        command = [sys.executable, *(("-c", main) if before else ("-m", "pool_spawner"))]
        command += ["serve", "--log-format", "json", "--host", host, "--port", "0"]
        command += ["--credential", str(credential), *flags]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self.records: list[dict[str, Any]] = []
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        try:
            wait_until(lambda: self.find("ready") or self.process.poll() is not None)
            first = self.find("listening")
            if first is None:
                self.wait()
                raise AssertionError("".join(self.lines))
        except BaseException:
            self.end()
            raise
        self.port = int(first["addresses"][0].rpartition(":")[2])

    @property
    def pid(self) -> int:
        return self.process.pid

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            with contextlib.suppress(ValueError):
                self.records.append(json.loads(line))

    def find(self, text: str) -> dict[str, Any] | None:
        """The first log record that holds *text*."""
        return next((one for one in self.records if text in one["message"]), None)

    def logged(self, text: str) -> dict[str, Any]:
        """The same, waited for."""
        return wait_until(lambda: self.find(text), f"{text!r} in the log {self.lines}")

    def workers(self) -> list[int]:
        """The pids of the pool-workers that it started."""
        found = []
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(OSError):  # a thread that has ended meanwhile
                found += map(int, (task / "children").read_text().split())
        return found

    def resident(self) -> int:
        """Its resident memory, in bytes."""
        text = Path(f"/proc/{self.pid}/statm").read_text()
        return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and wait for the end; the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end; the exit code."""
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code

    def end(self) -> None:
        """Leave nothing of it."""
        if self.process.poll() is None:
            self.process.kill()
        self.wait()


def context(credential: Path | str) -> ssl.SSLContext:
    """What a client's connection is made with."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    secure(made, str(credential))
    return made


class Client:
    """A client of the protocol, blocking, over any connected socket."""

    def __init__(
        self, sock: socket.socket, role: Role = Role.SPAWN, version: int = PROTOCOL_VERSION
    ) -> None:
        self.sock = sock
        self.sock.settimeout(PATIENCE)
        self.connection = Connection(
            DialerHandshake(Identity(OPEN_LAUNCH, role), OPEN_TOKEN, version)
        )
        self._messages: list[Message] = []

    @classmethod
    def dial(cls, port: int, credential: Path | str, source: str = "127.0.0.1", **more: Any):
        """Connect to a pool-spawner on loopback, and authenticate."""
        raw = socket.create_connection(("127.0.0.1", port), PATIENCE, source_address=(source, 0))
        try:
            client = cls(context(credential).wrap_socket(raw), **more)
        except BaseException:
            raw.close()
            raise
        try:
            client.shake_hands()
        except BaseException:
            client.close()
            raise
        return client

    def __enter__(self):
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def shake_hands(self) -> None:
        """Until the connection is open."""
        self.flush()
        while self.connection.state is not State.OPEN:
            self._receive()

    def _receive(self) -> None:
        count = self.sock.recv_into(self.connection.get_buffer())
        if not count:
            raise EOFError("the spawner closed the connection")
        self._messages += self.connection.received(count)
        self.flush()

    def flush(self) -> None:
        for buffer in self.connection.take():
            self.sock.sendall(buffer)

    def send(self, message: Control) -> None:
        self.connection.send(message)
        self.flush()

    def ask(self, workers: int, address: str, **more: Any) -> None:
        """Ask for workers that connect to a Unix socket: no TLS is needed for that."""
        settings = {"address": address, "launch": "00" * 8, "token": "5e" * 32, **more}
        self.send(Spawn(workers, json.dumps(settings).encode()))

    def receive(self) -> Message:
        """The next message. Raises EOFError at the end of the connection."""
        while not self._messages:
            self._receive()
        return self._messages.pop(0)

    def close(self) -> None:
        self.sock.close()


def descriptors() -> int:
    """How many this process has, without those that only wait for the garbage collector."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def answers(spawner: Spawner, credential: Path, source: str = "127.0.0.1") -> bool:
    """Whether a member gets through."""
    with Client.dial(spawner.port, credential, source) as client:
        client.ask(10**6, "")
        return isinstance(client.receive(), SpawnEnded)


@contextlib.contextmanager
def silent_pool() -> Iterator[socket.socket]:
    """A pool that never answers: a pool-worker stays there until it is ended."""
    with (
        tempfile.TemporaryDirectory(prefix="ps-") as folder,
        socket.socket(socket.AF_UNIX) as sock,
    ):
        sock.bind(f"{folder}/socket")
        sock.listen(64)
        sock.settimeout(PATIENCE)
        yield sock


def command_line(pid: int) -> bytes:
    """What a process was started with: it may not be there yet when its program has just begun."""
    return wait_until(lambda: Path(f"/proc/{pid}/cmdline").read_bytes())


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
