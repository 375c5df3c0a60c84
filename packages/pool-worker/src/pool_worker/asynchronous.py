"""A worker whose tasks are awaited: an event loop carries its connection from then on.

Tasks still run one at a time. Everything happens in callbacks of the loop, never in a task of it,
so that a synchronous task can be run with no loop in sight: it may call ``asyncio.run``.
"""

import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from pool_protocol.messages import Cancel, Message
from pool_worker.channel import KEEP_MEMORY, Closed
from pool_worker.failures import CANCELLED
from pool_worker.runner import ERROR, Outcome, is_awaitable

if TYPE_CHECKING:
    from pool_worker.process import Waiting, Worker


class LoopMode:
    """Serves a worker's connection on an event loop."""

    def __init__(self, worker: "Worker") -> None:
        self._worker = worker
        self._loop = worker.loop or worker.make_loop()
        self._queue: deque[Message] = deque()
        self._task: asyncio.Task[None] | None = None
        self._waiting: Waiting | None = None
        self._cancelled = False
        self._error: BaseException | None = None
        self._tidying = False

    def run(self, waiting: "Waiting | None", rest: Iterator[Message]) -> NoReturn:
        """Go on with ``waiting`` and then ``rest``. Raises Closed, OSError, PoolError."""
        self._queue.extend(rest)
        if waiting is None:
            self._loop.call_soon(self._guard, self._pump)
        else:
            self._loop.call_soon(self._guard, partial(self._await, waiting))
        # What TLS has decrypted already makes no descriptor readable.
        self._loop.call_soon(self._guard, self._readable)
        descriptor = self._worker.channel.socket.fileno()
        self._loop.add_reader(descriptor, self._guard, self._readable)
        # uvloop takes that away, and whoever writes here waits until everything is written.
        os.set_blocking(descriptor, True)
        while self._error is None:
            # A task may stop the loop; it is not the task's to stop.
            self._loop.run_forever()
        raise self._error

    def _guard(self, step: Callable[[], None]) -> None:
        try:
            step()
        except BaseException as error:
            self._error = error
            self._loop.stop()

    def _readable(self) -> None:
        channel = self._worker.channel
        filled = True
        while filled:
            buffer = channel.connection.get_buffer()
            try:
                count = channel.socket.recv_into(buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            if not count:
                raise Closed("the client has closed the connection")
            filled = count == len(buffer)
            del buffer
            messages = channel.connection.received(count)
            for message in messages:
                if type(message) is Cancel:
                    self._cancel(message.id)
            self._queue.extend(messages)
        if channel.memory.kept and not self._tidying:
            self._tidy()
        self._pump()

    def _tidy(self) -> None:
        """Give memory back that was not used lately; look again if any is left."""
        self._tidying = self._worker.channel.memory.tidy()
        if self._tidying:
            self._loop.call_later(KEEP_MEMORY, self._guard, self._tidy)

    def _cancel(self, id: int) -> None:
        if self._waiting is not None and self._waiting.id == id and self._task is not None:
            self._cancelled = True
            self._task.cancel()
        else:
            self._worker.cancelled.add(id)

    def _pump(self) -> None:
        """Run what is queued, until something must be awaited."""
        if self._waiting is not None:
            return
        asyncio._set_running_loop(None)
        try:
            waiting = self._worker.run(self._popped())
        finally:
            asyncio._set_running_loop(self._loop)
        if waiting is not None:
            self._await(waiting)
            return
        self._worker.cancelled.clear()
        self._worker.idle()

    def _popped(self) -> Iterator[Message]:
        while self._queue:
            yield self._queue.popleft()

    # -- awaiting

    def _await(self, waiting: "Waiting") -> None:
        self._waiting = waiting
        self._cancelled = False
        self._task = self._loop.create_task(self._results(waiting))
        self._task.add_done_callback(lambda _: self._guard(self._finish))
        self._loop.call_soon(self._guard, self._flush_if_long)

    def _flush_if_long(self) -> None:
        """A task that really waits must not hold earlier results back."""
        if self._task is not None and not self._task.done():
            self._worker.outbox.flush()

    async def _results(self, waiting: "Waiting") -> None:
        pending = waiting.pending
        values = pending.values
        for index, value in enumerate(values):
            if index in pending.failed or not is_awaitable(value):
                continue
            self._worker.runner.begin_item(index, pending.timed)
            try:
                values[index] = await value
            except BaseException as error:  # SystemExit would end the loop
                if self._cancelled:
                    return
                values[index] = None
                pending.failed[index] = self._worker.runner.pack_error(error)

    def _finish(self) -> None:
        waiting = self._waiting
        worker = self._worker
        assert waiting is not None
        if self._cancelled:
            _close(waiting.pending.values)
            outcome = Outcome(ERROR, CANCELLED)
        else:
            outcome = worker.runner.settle(waiting.pending)
        if worker.forked:
            worker.end_copy(*outcome)
        worker.runner.done()
        worker.deliver(waiting.id, time.monotonic_ns() - waiting.began, *outcome)
        self._task = self._waiting = None
        self._pump()


async def awaited(value: Any) -> Any:
    """What an awaitable gives."""
    return await value


def _close(values: list[object]) -> None:
    """Coroutines that will not be awaited must not warn about it."""
    for value in values:
        if asyncio.iscoroutine(value):
            value.close()
