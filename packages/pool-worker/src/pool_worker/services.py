"""What a worker asks its client for while a task runs: over a second connection, opened at need.

No thread of its own waits here, so a task may fork. Of the threads that wait for replies, one at a
time reads for all of them (the leader; see Schmidt et al., "Leader/Followers", 2000); where only
coroutines wait, their loops read. Nothing in the waiting may import: a thread that holds the import
lock may itself be waiting for a reply that another thread reads.
"""

import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from pool_protocol import PoolError, Role
from pool_protocol.frames import Buffer
from pool_protocol.messages import Message, Reply, Request
from pool_worker.channel import Channel, Closed, of_the_socket

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

    from pool_worker.settings import Settings


class ServiceError(Exception):
    """The client could not do what was asked; the text is its reason."""


class ServiceLost(ServiceError, ConnectionError):
    """The connection to the client could not be made, or was lost before the reply came."""


#: Seconds after which a waiting thread looks whether it has its reply, and whether anybody reads: a
#: signal handler that asks reads for the code that it has interrupted, which goes on waiting in the
#: kernel; one that raises may keep the thread that reads from saying that it does so no more.
_LOOK = 0.5
_LOST = "the connection to the client was lost: "
#: What a request came to.
Outcome = bytes | ServiceError


class _Line:
    """One connection, and who waits for what on it."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.waiting: dict[int, Callable[[Outcome], None]] = {}
        self.loops: dict[AbstractEventLoop, int] = {}
        #: Who polls the socket: it must not be closed under them.
        self.users = 0
        self.lost = False
        #: The thread that reads for all.
        self.leader: int | None = None
        #: A message is being sent or received. Whoever finds it so is a signal's handler, in the
        #: thread that does it, and must let the line be.
        self.busy = False

    def release(self) -> None:
        """A user less; the last one of a lost connection closes it."""
        self.users -= 1
        if self.lost and not self.users:
            self.channel.close()


class Services:
    """The services of the client, as one worker process sees them. Thread-safe.

    A process that a task forks has a connection of its own.
    """

    def __init__(self, settings: "Settings", number: int) -> None:
        self._settings = settings
        self._number = number
        #: Guards everything below, and the connection's I/O. Taken by ``with`` alone, and not
        #: through the condition: so a signal's handler that raises leaves it as it was.
        self._lock = threading.RLock()
        #: Something has come, or somebody else must read.
        self._turn = threading.Condition(self._lock)
        self._line: _Line | None = None
        self._last = 0
        self._hooked = False

    def __repr__(self) -> str:
        line = self._line
        state = "not connected" if line is None else f"{len(line.waiting)} requests under way"
        return f"<Services of worker {self._number}: {state}>"

    def call(self, service: str, method: str, blob: Buffer = b"") -> bytes:
        """Ask, and wait for the reply, in any thread.

        Args:
            service: Its name at the client.
            method: What it is to do.
            blob: With what; how it is packed is between both ends of the service.

        Returns:
            The reply.

        Raises:
            ServiceError: The client refuses, or failed; its text says why.
            ServiceLost: There is no connection to the client.
        """
        outcomes: list[Outcome] = []
        with self._lock:
            line, number = self._ask(service, method, blob, outcomes.append)
        try:
            while not outcomes:
                self._wait(line, outcomes)
        finally:
            with self._lock:
                line.waiting.pop(number, None)
                self._leave(line)
        return _result(outcomes[0])

    async def call_async(self, service: str, method: str, blob: Buffer = b"") -> bytes:
        """As `call`, awaited on whatever loop is running."""
        import asyncio

        loop = asyncio.get_running_loop()
        future: Future[Outcome] = loop.create_future()

        def deliver(outcome: Outcome) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_settle, future, outcome)

        with self._lock:
            line, number = self._ask(service, method, blob, deliver)
            self._watch(line, loop)
        try:
            outcome = await future
        finally:
            with self._lock:
                line.waiting.pop(number, None)
                self._unwatch(line, loop)
                self._leave(line)
        return _result(outcome)

    # -- asking

    def _ask(
        self, service: str, method: str, blob: Buffer, deliver: Callable[[Outcome], None]
    ) -> tuple[_Line, int]:
        line = self._line
        if line is None or line.busy:
            line = self._open()
        self._last += 1
        number = self._last
        line.waiting[number] = deliver
        line.busy = True
        try:
            line.channel.send(Request(number, service, method, blob))
        except BaseException as error:
            line.waiting.pop(number, None)
            if isinstance(error, PoolError):  # too large: nothing of it was sent
                self._leave(line)
                raise ServiceError(str(error)) from error
            # Half a message may have been sent, also by whoever was interrupted.
            self._lose(line, _LOST + str(error))
            if of_the_socket(error):
                raise ServiceLost(_LOST + str(error)) from error
            raise
        finally:
            line.busy = False
        return line, number

    def _open(self) -> _Line:
        if not self._hooked and hasattr(os, "register_at_fork"):
            self._hooked = True
            os.register_at_fork(after_in_child=self._forked)
        try:
            channel = Channel.connect(self._settings, Role.SERVICE, self._number)
        except (OSError, PoolError, Closed) as error:
            raise ServiceLost(f"the client cannot be asked: {error}") from error
        line = _Line(channel)
        if self._line is None:
            self._line = line
        return line

    def _leave(self, line: _Line) -> None:
        """Close a connection that a signal's handler had for itself, once it has its reply."""
        if line is not self._line and not line.waiting:
            self._lose(line, "")

    def _forked(self) -> None:
        """This is a task's child: the connection is its parent's, and so are those who wait."""
        self._line = None  # its socket is closed: see `Channel.connect`
        self._lock = threading.RLock()
        self._turn = threading.Condition(self._lock)

    # -- waiting

    def _wait(self, line: _Line, outcomes: list[Outcome]) -> None:
        """Unless there is an outcome: read what comes, or wait while another thread reads."""
        me = threading.get_ident()
        leading = False
        try:
            with self._lock:
                if outcomes:
                    return
                # A signal handler may ask while the code that it has interrupted is leading.
                if line.leader not in (None, me):
                    self._turn.wait(_LOOK)
                    return
                line.users += 1
                line.leader = me
                leading = True
            _wait_readable(line.channel.socket.fileno())
        finally:
            if leading:
                line.leader = None  # at once: a handler may raise while the lock is waited for
                with self._lock:
                    line.release()
                    self._turn.notify_all()
        with self._lock:
            self._read(line)

    def _read(self, line: _Line) -> None:
        if line.lost:
            # Whoever has lost it may have been interrupted before everybody knew.
            self._lose(line, _LOST + "it was interrupted")
            return
        line.busy = True
        try:
            for message in _received(line.channel):
                if isinstance(message, Reply):  # nothing else is legal here
                    deliver = line.waiting.get(message.number)
                    if deliver is not None:  # else nobody waits for it any more
                        error = message.error
                        deliver(ServiceError(error) if error else bytes(message.blob))
                        line.waiting.pop(message.number, None)
        except BaseException as error:
            # Half a message may have been read, also by whoever was interrupted.
            self._lose(line, _LOST + str(error))
            if not (isinstance(error, (PoolError, Closed)) or of_the_socket(error)):
                raise
        finally:
            line.busy = False
        self._turn.notify_all()

    def _lose(self, line: _Line, reason: str) -> None:
        if self._line is line:
            self._line = None
        line.lost = True
        for deliver in list(line.waiting.values()):
            deliver(ServiceLost(reason))
        line.waiting.clear()
        line.users += 1
        line.release()
        self._turn.notify_all()

    # -- waiting on event loops

    def _watch(self, line: _Line, loop: "AbstractEventLoop") -> None:
        count = line.loops.get(loop, 0)
        line.loops[loop] = count + 1
        if not count:
            line.users += 1
            loop.add_reader(line.channel.socket.fileno(), self._readable, line)

    def _unwatch(self, line: _Line, loop: "AbstractEventLoop") -> None:
        line.loops[loop] -= 1
        if not line.loops[loop]:
            del line.loops[loop]
            loop.remove_reader(line.channel.socket.fileno())
            line.release()

    def _readable(self, line: _Line) -> None:
        with self._lock:
            self._read(line)


def _result(outcome: Outcome) -> bytes:
    if isinstance(outcome, bytes):
        return outcome
    raise outcome


def _settle(future: "Future[Outcome]", outcome: Outcome) -> None:
    if not future.done():
        future.set_result(outcome)


def _received(channel: Channel) -> Iterator[Message]:
    """Whatever has come by now. Raises Closed, OSError, PoolError.

    It is read until there is no more: TLS may hold what no look at the socket would show.
    """
    while True:
        buffer = channel.connection.get_buffer()
        try:
            count = channel.socket.recv_into(buffer, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if not count:
            raise Closed("it was closed")
        yield from channel.connection.received(count)


def _wait_readable(descriptor: int) -> None:
    """Wait until there is something to read, or for a while: see `_LOOK`."""
    if hasattr(select, "poll"):  # a task may have more descriptors than select can name
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll(_LOOK * 1000)
    else:
        select.select([descriptor], [], [], _LOOK)
