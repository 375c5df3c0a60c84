"""The supervisor: one loop over the control connection, the lifelines and the workers' ends.

It runs no event loop of asyncio's: a copy of the process would inherit handlers not its own.
"""

import os
import selectors
import signal
import socket
import sys
import time
from collections import deque

from pool_protocol import Buffer, Connection, DialerHandshake, Identity, PoolError, Role, State
from pool_protocol.messages import (
    Control,
    HostReady,
    Kill,
    Lost,
    Message,
    Ping,
    Pong,
    Recall,
    Start,
    Stop,
    Watch,
)
from pool_worker import linux
from pool_worker.__about__ import __version__
from pool_worker.children import Children
from pool_worker.functions import PYTHON
from pool_worker.page import Pages
from pool_worker.settings import Settings, SettingsError
from pool_worker.starting import Forker, Starter

#: How often running tasks' time limits are looked at, in seconds: the least, and per worker.
WATCH_INTERVAL = 0.02
WATCH_INTERVAL_EACH = 0.00005
#: How long workers are started without a look at anything else, in seconds.
START_SLICE = 0.01


class Supervisor:
    """Obeys the client: starts, watches and kills workers, and ends with its client."""

    def __init__(self, settings: Settings, start_method: str | None = None) -> None:
        self._settings = settings
        pages = Pages()
        self._selector = selectors.DefaultSelector()
        self._todo: deque[int] = deque()
        self._watching = False
        self._next_look = 0.0
        self._ending = False
        self._out: list[Buffer] = []
        self._wakeup = self._catch_signals()
        self._socket = self._connect()
        identity = Identity(settings.launch, Role.CONTROL, 0)
        self._connection = Connection(
            DialerHandshake(identity, settings.token), settings.max_message
        )
        self._write()
        self._selector.register(self._socket, selectors.EVENT_READ, self._on_socket)
        self._selector.register(0, selectors.EVENT_READ, self._on_lifeline)
        self._watch_client(settings.client_pid)
        linux.adopt_orphans()
        self.children = Children(starter(start_method, settings, pages), pages)

    def __repr__(self) -> str:
        return f"<Supervisor {self.children!r} {self._connection!r}>"

    def run(self) -> int:
        """Serve until the end; the exit status."""
        try:
            while not self._ending:
                for key, events in self._selector.select(self._timeout()):
                    if not self._ending:
                        key.data(events)
                self._start_some()
                self._watch_limits()
        finally:
            self.children.end()
        return 0

    def _timeout(self) -> float | None:
        if self._todo:
            return 0
        if not self._watching or not len(self.children):
            return None
        return max(0, self._next_look - time.monotonic())

    def _watch_limits(self) -> None:
        if self._watching and time.monotonic() >= self._next_look:
            self.children.check_limits()
            pause = max(WATCH_INTERVAL, WATCH_INTERVAL_EACH * len(self.children))
            self._next_look = time.monotonic() + pause

    # -- lifelines

    def _catch_signals(self) -> socket.socket:
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # The client's thread may have had signals blocked, and we inherit that.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _nothing)
        self._selector.register(reader, selectors.EVENT_READ, self._on_signal)
        self._wakeup_writer = writer
        return reader

    def _on_signal(self, events: int) -> None:
        numbers = set(self._wakeup.recv(4096))
        if numbers & {signal.SIGTERM, signal.SIGHUP}:
            self._ending = True
        else:
            for lost in self.children.reap():
                self._send(lost)

    def _on_lifeline(self, events: int) -> None:
        if not os.read(0, 4096):
            self._ending = True

    def _watch_client(self, pid: int | None) -> None:
        """A child that the client forked may hold our pipes open when the client is gone."""
        if pid is None or not hasattr(os, "pidfd_open"):
            return
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            self._ending = True
        except OSError:
            # An old kernel, or a sandbox: the pipes and the connection remain.
            return
        else:
            self._selector.register(descriptor, selectors.EVENT_READ, self._on_client_gone)

    def _on_client_gone(self, events: int) -> None:
        self._ending = True

    # -- the control connection

    def _connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(self._settings.address)
        sock.setblocking(False)
        return sock

    def _on_socket(self, events: int) -> None:
        connection = self._connection
        try:
            if events & selectors.EVENT_READ:
                before = connection.state
                count = self._socket.recv_into(connection.get_buffer())
                if not count:
                    if before is State.HANDSHAKE:
                        _say("the client closed the connection during the handshake")
                    self._ending = True
                    return
                messages = connection.received(count)
                if connection.state is not before:
                    self._send(self._greeting())
                for message in messages:
                    self._obey(message)
            self._write()
        except BlockingIOError:
            return
        except OSError:
            self._ending = True
        except PoolError as error:
            _say(str(error))
            self._ending = True

    def _greeting(self) -> HostReady:
        if hasattr(os, "sched_getaffinity"):
            cpus = len(os.sched_getaffinity(0))
        else:
            cpus = os.cpu_count() or 1
        return HostReady(os.getpid(), self._settings.host, PYTHON, __version__, cpus)

    def _send(self, message: Control) -> None:
        if self._connection.state is not State.OPEN:
            return
        self._connection.send(message)
        self._write()

    def _write(self) -> None:
        """Write as much as the kernel takes; the rest when it takes more."""
        self._out += self._connection.take()
        try:
            while self._out:
                sent = self._socket.send(self._out[0])
                if sent == len(self._out[0]):
                    del self._out[0]
                else:
                    self._out[0] = memoryview(self._out[0])[sent:]
        except BlockingIOError:
            pass
        except OSError:
            self._ending = True
        self._want_write(bool(self._out))

    def _want_write(self, on: bool) -> None:
        key = self._selector.get_map().get(self._socket)
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if on else 0)
        if key is not None and key.events != events:
            self._selector.modify(self._socket, events, key.data)

    # -- orders

    def _obey(self, message: Message) -> None:
        if isinstance(message, Start):
            self._todo += message.workers
        elif isinstance(message, Kill):
            self._kill(message.worker)
        elif isinstance(message, Recall):
            recalled = self.children.recall(message.worker, message.last)
            if recalled is not None:
                self._send(recalled)
        elif isinstance(message, Watch):
            self._watching = message.on
        elif isinstance(message, Stop):
            self._ending = True
        elif isinstance(message, Ping):
            self._send(Pong(message.number))

    def _kill(self, number: int) -> None:
        if number in self._todo:
            self._todo.remove(number)
            self._send(Lost(number, 0, 0, 0, 0, "killed"))
        else:
            self.children.kill(number)

    def _start_some(self) -> None:
        """Start workers for a little while, so that the connection stays served."""
        deadline = time.monotonic() + START_SLICE
        while self._todo and not self._ending and time.monotonic() < deadline:
            lost = self.children.start(self._todo.popleft())
            if lost is not None:
                self._send(lost)


def starter(method: str | None, settings: Settings, pages: Pages) -> Starter:
    """What makes workers: ``fork``, ``spawn``, or None for what suits the system."""
    if method == "fork" or (method is None and linux.LINUX):
        return Forker(settings, pages)
    from pool_worker.spawning import Spawner

    return Spawner(settings, pages)


def _nothing(number: int, frame: object) -> None:
    """The byte in the wakeup pipe is enough."""


def _say(text: str) -> None:
    print(f"pool-worker: {text}", file=sys.stderr, flush=True)


def launch(start_method: str | None) -> int:
    """Read the settings from standard input, supervise; returns the exit status."""
    line = _read_line()
    try:
        settings = Settings.parse(line)
        settings.apply()
        return Supervisor(settings, start_method).run()
    except SettingsError as error:
        _say(f"{error}; it is started by a pool's client, which writes them to standard input")
        return 2
    except (OSError, PoolError) as error:
        _say(f"cannot start: {error}")
        return 1


def _read_line() -> bytes:
    """The first line of standard input, and not a byte more."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            break
        line += byte
    return bytes(line)
