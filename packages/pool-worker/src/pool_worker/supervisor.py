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
from contextlib import suppress

from pool_protocol import Connection, DialerHandshake, Identity, PoolError, Role
from pool_protocol.messages import (
    HostReady,
    Kill,
    Leaving,
    Lost,
    Message,
    OutputTaken,
    Ping,
    Pong,
    Recall,
    Start,
    Stop,
    Watch,
)
from pool_worker import lifeline, linux, machine
from pool_worker.__about__ import __version__
from pool_worker.children import Children
from pool_worker.control import ControlLink
from pool_worker.functions import PYTHON
from pool_worker.outputs import Outputs
from pool_worker.page import Pages
from pool_worker.settings import Settings, SettingsError
from pool_worker.signals import Signals
from pool_worker.starting import Forker, Starter
from pool_worker.stream import dialer

#: How often running tasks' time limits are looked at, in seconds: the least, and per worker.
WATCH_INTERVAL = 0.02
WATCH_INTERVAL_EACH = 0.00005
#: How long workers are started without a look at anything else, in seconds.
START_SLICE = 0.01
#: How often a client on another machine is looked after, in seconds.
CHECK_INTERVAL = 2.0
#: How long the end waits for the client to take what workers printed last, in seconds.
LAST_WORDS = 2.0


class Supervisor:
    """Obeys the client: starts, watches and kills workers, and ends with its client.

    Args:
        settings: What the client wants.
        start_method: How workers are made: ``fork``, ``spawn``, or None for what suits the system.
        joined: It was started by hand, without a lifeline on standard input, and may leave.

    Raises:
        OSError, PoolError: The client cannot be reached.
    """

    def __init__(
        self, settings: Settings, start_method: str | None = None, joined: bool = False
    ) -> None:
        self._settings = settings
        self._joined = joined
        #: It was told to end, and not only left alone by its client.
        self.told = False
        self._todo: deque[int] = deque()
        self._watching = False
        self._next_look = 0.0
        self._ending = False
        self._selector = selectors.DefaultSelector()
        sock = dialer(settings.address, settings.credential).connect(control=True)
        identity = Identity(settings.launch, Role.CONTROL, 0)
        handshake = DialerHandshake(identity, settings.token)
        connection = Connection(handshake, settings.max_message)
        self._control = ControlLink(self._selector, sock, connection, self._obey)
        self._renewed = self._next_check = time.monotonic()
        self._remote = sock.family != socket.AF_UNIX
        pages = Pages()
        self._outputs = self._make_outputs(settings.output)
        self.children = Children(starter(start_method, settings, pages), pages, self._outputs)
        self._signals = self._catch_signals()
        if not joined:
            self._selector.register(0, selectors.EVENT_READ, self._on_lifeline)
        self._client = self._watch_client(settings.client_pid)
        linux.adopt_orphans()

    def __repr__(self) -> str:
        return f"<Supervisor {self.children!r} {self._control!r}>"

    def run(self) -> int:
        """Serve until the end; the exit status."""
        try:
            while not (self._ending or self._control.ended):
                self._look(self._timeout())
                self._start_some()
                self._watch_limits()
                self._watch_client_host()
                self._watch_lease()
                self._forward()
        finally:
            self.children.end()
            self._forward_rest()
            self._close()
        if self._control.error:
            _say(self._control.error)
        return 0

    def _look(self, timeout: float | None) -> None:
        """Wait for events, and let those whom they concern have them."""
        for key, events in self._selector.select(timeout):
            if not self._ending:
                key.data(events)

    def _close(self) -> None:
        self._control.close()
        self._signals.close()
        if self._client is not None:
            os.close(self._client)
        self._selector.close()
        if self._outputs is not None:
            self._outputs.close()
        self.children.close()

    def _timeout(self) -> float | None:
        if self._todo or (self._outputs is not None and self._outputs.pressing):
            return 0
        due = []
        if self._watching and len(self.children):
            due.append(self._next_look)
        if self._settings.lease is not None:
            due.append(self._renewed + self._settings.lease)
        if self._remote:
            due.append(self._next_check)
        return max(0, min(due) - time.monotonic()) if due else None

    def _watch_limits(self) -> None:
        if self._watching and time.monotonic() >= self._next_look:
            self.children.check_limits()
            pause = max(WATCH_INTERVAL, WATCH_INTERVAL_EACH * len(self.children))
            self._next_look = time.monotonic() + pause

    # -- lifelines

    def _watch_client_host(self) -> None:
        now = time.monotonic()
        if self._remote and now >= self._next_check:
            self._control.look()
            self._next_check = now + CHECK_INTERVAL

    def _watch_lease(self) -> None:
        """End when the client has been silent for too long.

        What it has sent counts, although we may not have seen it: we may have been stopped, and a
        wait that a signal breaks off looks for nothing once its time is over.
        """
        lease = self._settings.lease
        if lease is None or time.monotonic() < self._renewed + lease:
            return
        self._look(0)
        if time.monotonic() >= self._renewed + lease:
            _say(f"the client was silent for {lease:g} s")
            self._ending = True

    def _catch_signals(self) -> Signals:
        caught = [signal.SIGTERM]
        if self._joined:
            caught.append(signal.SIGINT)
        if not self._joined or signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            caught.append(signal.SIGHUP)  # unless nohup has started us
        caught.append(signal.SIGCHLD)  # last: who sees from outside that it is caught knows of all
        return Signals(self._selector, caught, self._on_signals)

    def _on_signals(self, numbers: bytes) -> None:
        may_leave = self._joined and not self.told
        if signal.SIGTERM in numbers and may_leave:
            self.told = True
            self._control.send(Leaving())
        elif signal.SIGTERM in numbers:
            self._ending = True
        if signal.SIGHUP in numbers or signal.SIGINT in numbers:
            self.told = self._ending = True
        if signal.SIGCHLD in numbers:
            self._reap()

    def _reap(self) -> None:
        losses = self.children.reap()
        # What a worker had printed arrives before the news of its end.
        self._forward(at_once=True)
        for lost in losses:
            self._control.send(lost)

    def _on_lifeline(self, events: int) -> None:
        if not os.read(0, 4096):
            self._ending = True

    def _watch_client(self, pid: int | None) -> int | None:
        """A child that the client forked may hold our pipes open when the client is gone."""
        if pid is None or not hasattr(os, "pidfd_open"):
            return None
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            self._ending = True
        except OSError:
            # An old kernel, or a sandbox: the pipes and the connection remain.
            pass
        else:
            self._selector.register(descriptor, selectors.EVENT_READ, self._on_client_gone)
            return descriptor
        return None

    def _on_client_gone(self, events: int) -> None:
        self._ending = True

    # -- what workers print

    def _make_outputs(self, wanted: bool) -> Outputs | None:
        if not wanted:
            return None
        outputs = Outputs()
        # It only wakes us: pipes are read in every turn, some of them in a later one.
        self._selector.register(outputs, selectors.EVENT_READ, lambda events: None)
        return outputs

    def _forward(self, at_once: bool = False) -> None:
        """Send lines on, as long as nothing waits in front of a more urgent message."""
        if self._outputs is None:
            return
        self._outputs.read()
        backlog = self._outputs.backlog
        while (at_once or self._control.idle) and (output := backlog.take()) is not None:
            self._control.send(output)

    def _forward_rest(self) -> None:
        """Every worker has ended: what they printed last, if the client still listens."""
        if self._outputs is None or self._control.ended:
            return
        self._outputs.finish_all()
        backlog = self._outputs.backlog
        if not backlog.empty:
            backlog.open()
            self._forward(at_once=True)
            self._control.finish(LAST_WORDS)

    # -- orders

    def _greeting(self) -> HostReady:
        settings = self._settings
        cpus = min(machine.cpus(), settings.max_workers or sys.maxsize)
        memory = machine.memory()
        return HostReady(os.getpid(), settings.host, PYTHON, __version__, cpus, memory)

    def _obey(self, message: Message | None) -> None:
        if message is None:
            self._control.send(self._greeting())
            if self.told:  # already, before it could be said
                self._control.send(Leaving())
        elif isinstance(message, Start):
            self._order(message.workers)
        elif isinstance(message, Kill):
            self._kill(message.worker)
        elif isinstance(message, Recall):
            recalled = self.children.recall(message.worker, message.last)
            if recalled is not None:
                self._control.send(recalled)
        elif isinstance(message, Watch):
            self._watching = message.on
        elif isinstance(message, OutputTaken) and self._outputs is not None:
            self._outputs.backlog.taken(message.nbytes)
        elif isinstance(message, Stop):
            self._ending = True
        elif isinstance(message, Ping):
            self._renewed = time.monotonic()
            self._control.send(Pong(message.number))

    def _order(self, workers: list[int]) -> None:
        cap = self._settings.max_workers
        free = len(workers) if cap is None else max(0, cap - len(self.children) - len(self._todo))
        self._todo += workers[:free]
        for number in workers[free:]:
            reason = f"over the cap of the spawner (--max-workers), {cap} for this pool"
            self._control.send(Lost(number, 0, 0, 0, 0, reason))

    def _kill(self, number: int) -> None:
        if number in self._todo:
            self._todo.remove(number)
            self._control.send(Lost(number, 0, 0, 0, 0, "killed"))
        else:
            self.children.kill(number)

    def _start_some(self) -> None:
        """Start workers for a little while, so that the connection stays served."""
        deadline = time.monotonic() + START_SLICE
        while self._todo and not self._ending and time.monotonic() < deadline:
            lost = self.children.start(self._todo.popleft())
            if lost is not None:
                self._control.send(lost)


def starter(method: str | None, settings: Settings, pages: Pages) -> Starter:
    """What makes workers: ``fork``, ``spawn``, or None for what suits the system."""
    if method == "fork" or (method is None and linux.LINUX):
        return Forker(settings, pages)
    from pool_worker.spawning import Spawner

    return Spawner(settings, pages)


def _say(text: str) -> None:
    print(f"pool-worker: {text}", file=sys.stderr, flush=True)


def launch(start_method: str | None) -> int:
    """Read the settings from standard input, supervise; returns the exit status."""
    line = _read_line()
    try:
        settings = Settings.parse(line)
    except SettingsError as error:
        _say(f"{error}; it is started by a pool's client, which writes them to standard input")
        return 2
    try:
        with lifeline.ends_us():
            settings.apply()
            supervisor = Supervisor(settings, start_method)
        return supervisor.run()
    except (OSError, PoolError) as error:
        _say(f"cannot start: {error}")
        return 1
    finally:
        if settings.unlink:
            with suppress(OSError):
                os.unlink(settings.address)


def _read_line() -> bytes:
    """The first line of standard input, and not a byte more."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            break
        line += byte
    return bytes(line)
