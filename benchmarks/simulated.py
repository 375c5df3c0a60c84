"""Workers that are not processes: one program holds the connections of a thousand of them.

They speak the wire protocol, run what they are sent and answer like real workers, so that the
client cannot tell the difference; a machine with two processors could not run 2,000 real ones at
a pace that says anything about the client. ``python -m benchmarks.simulated`` takes the place of
``pool-worker`` and its settings; `registered` makes hosts ``simulated://NAME/COUNT`` known.
"""

import json
import os
import pickle
import platform
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pool_client.launchers import HostSpec, Order
from pool_protocol import Connection, DialerHandshake, Identity, Role, State, __version__
from pool_protocol import messages as m

from .processes import raise_descriptor_limit

ENTRY_POINT = "[pool_client.launchers]\nsimulated = benchmarks.simulated:Launcher\n"
PYTHON = ".".join(platform.python_version_tuple()[:2])


@contextmanager
def registered() -> Iterator[None]:
    """Make the launcher known in the way that is open to everybody: an entry point."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "simulated-1.dist-info")
        package.mkdir()
        (package / "METADATA").write_text("Metadata-Version: 2.1\nName: simulated\nVersion: 1\n")
        (package / "entry_points.txt").write_text(ENTRY_POINT)
        sys.path.append(folder)
        try:
            yield
        finally:
            sys.path.remove(folder)


class Launcher:
    """Starts this module as a program."""

    local = True

    async def launch(self, spec: HostSpec, order: Order) -> "Launched":
        """Start it and hand over the settings."""
        return Launched(order.settings)


class Launched:
    """The running program, as the pool sees it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        root = Path(__file__).parents[1]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.simulated"], cwd=root, stdin=subprocess.PIPE
        )
        assert self.process.stdin
        self.process.stdin.write(json.dumps(settings).encode() + b"\n")
        self.process.stdin.flush()

    def ended(self) -> str | None:
        """How the program ended; None while it runs."""
        code = self.process.poll()
        return None if code is None else f"the simulation ended with code {code}"

    def errors(self) -> str:
        """Nothing: its standard error is ours."""
        return ""

    def hang_up(self) -> None:
        """Close its standard input: it ends."""
        assert self.process.stdin
        self.process.stdin.close()

    def kill(self) -> None:
        """End it by force."""
        self.process.kill()

    def close(self) -> None:
        """Reap it."""
        self.hang_up()
        self.process.wait()

    def abandon(self) -> None:
        """Close the copy of its standard input in a forked child."""
        self.hang_up()


class Peer:
    """One connection to the client; subclasses say what is done with its messages."""

    def __init__(self, program: "Program", role: Role, number: int) -> None:
        settings = program.settings
        identity = Identity(bytes.fromhex(settings["launch"]), role, number)
        handshake = DialerHandshake(identity, bytes.fromhex(settings["token"]))
        self.program, self.number = program, number
        self.connection = Connection(handshake)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(settings["address"])
        self.flush()
        program.selector.register(self.socket, selectors.EVENT_READ, self.readable)

    def flush(self) -> None:
        """Write what there is to write; the client always reads, so this may block."""
        for buffer in self.connection.take():
            self.socket.sendall(buffer)

    def readable(self) -> None:
        """Read, handle, answer in one write."""
        buffer = self.connection.get_buffer()
        count = self.socket.recv_into(buffer)
        del buffer
        if not count:
            self.close()
            return
        greeting = self.connection.state is State.HANDSHAKE
        messages = self.connection.received(count)
        if greeting and self.connection.state is State.OPEN:
            self.opened()
        self.handle(messages)
        self.flush()

    def opened(self) -> None:
        """The handshake is over."""

    def handle(self, messages: list[m.Message]) -> None:
        """Do what the messages ask for."""
        raise NotImplementedError

    def close(self) -> None:
        """The connection has ended."""
        if self.socket.fileno() >= 0:
            self.program.selector.unregister(self.socket)
            self.socket.close()


class Worker(Peer):
    """A worker without a process."""

    def __init__(self, program: "Program", number: int) -> None:
        super().__init__(program, Role.TASK, number)
        self.functions: dict[int, Callable[..., Any]] = {}
        self.started = 0
        self.skip_to = 0

    def handle(self, messages: list[m.Message]) -> None:
        """Run tasks, keep functions, answer."""
        run = self.run
        for message in messages:
            if isinstance(message, m.Task):
                run(message)
            elif isinstance(message, m.Function):
                self.functions[message.id] = pickle.loads(message.blob)
            elif isinstance(message, m.Setup):
                self.connection.send(m.Ready(os.getpid(), PYTHON, __version__))
            elif isinstance(message, m.Retire):
                self.flush()
                self.close()
                self.program.control.report(self)

    def run(self, task: m.Task) -> None:
        """Call the function and queue the result."""
        if task.id <= self.skip_to:
            return
        if task.flags:
            raise NotImplementedError("simulated workers only run plain calls")
        self.started = task.id
        begin = time.monotonic_ns()
        result = self.functions[task.function](*pickle.loads(task.payload))
        payload = pickle.dumps(result, 5)
        self.connection.send_result(task.id, time.monotonic_ns() - begin, 0, payload)


class Control(Peer):
    """The supervisor's connection."""

    def __init__(self, program: "Program") -> None:
        super().__init__(program, Role.CONTROL, 0)
        self.workers: dict[int, Worker] = {}

    def opened(self) -> None:
        """Say who this host is."""
        name = str(self.program.settings["host"])
        self.connection.send(m.HostReady(os.getpid(), name, PYTHON, __version__, 1, 0))

    def handle(self, messages: list[m.Message]) -> None:
        """Start, recall and end workers."""
        for message in messages:
            if isinstance(message, m.Start):
                for number in message.workers:
                    self.workers[number] = Worker(self.program, number)
            elif isinstance(message, m.Recall):
                worker = self.workers[message.worker]
                worker.skip_to = message.last
                self.connection.send(m.Recalled(worker.number, worker.started, message.last))
            elif isinstance(message, m.Kill):
                self.workers[message.worker].close()
                self.report(self.workers[message.worker])
            elif isinstance(message, m.Ping):
                self.connection.send(m.Pong(message.number))
            elif isinstance(message, m.Stop):
                sys.exit()

    def report(self, worker: Worker) -> None:
        """Say that a worker has ended."""
        self.connection.send(m.Lost(worker.number, os.getpid(), 0, 0, 0, ""))
        self.flush()

    def close(self) -> None:
        """Nobody is there any more."""
        sys.exit()


class Program:
    """All the connections, and the loop that serves them."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.selector = selectors.DefaultSelector()
        self.selector.register(sys.stdin, selectors.EVENT_READ, sys.exit)
        self.control = Control(self)

    def serve(self) -> None:
        """Serve until standard input or the control connection ends."""
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is sys.stdin or self.is_open(key.fileobj):
                    key.data()

    def is_open(self, connection: Any) -> bool:
        """Whether a connection has not been closed by what came in the same round."""
        return isinstance(connection, socket.socket) and connection.fileno() >= 0


def main() -> None:
    """Read the settings and serve."""
    raise_descriptor_limit()
    Program(json.loads(sys.stdin.readline())).serve()


if __name__ == "__main__":
    main()
