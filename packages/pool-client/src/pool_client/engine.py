"""The engine: takes tasks from any thread, and moves events in and decisions out.

It lives on one loop. Events from links and hosts go into the scheduler, what the scheduler decides
goes out to them; the fleet starts and ends the hosts.
"""

import asyncio
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

from pool_client.errors import PoolBroken
from pool_client.fleet import Fleet
from pool_client.functions import FunctionTable
from pool_client.host import Seat
from pool_client.link import Link
from pool_client.options import Options
from pool_client.ready import Ready
from pool_client.scheduler import Scheduler
from pool_client.tasks import (
    BreakPool,
    Broadcast,
    RecallTasks,
    ReplaceWorker,
    RetireWorker,
    Task,
    WatchHost,
    Worker,
)
from pool_protocol.frames import FrameDecoder
from pool_protocol.messages import (
    Cancel,
    Forget,
    Function,
    Lost,
    Recall,
    Recalled,
    Result,
    Retire,
    Watch,
    decode,
)

#: Seconds between looks at silent workers.
_TICK = 0.01
#: Seconds that workers have to end by themselves when the pool is shut down.
_LEAVE = 5.0

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class Engine:
    """Carries one pool on one loop. Methods are for the loop's thread unless they say otherwise."""

    def __init__(
        self,
        options: Options,
        functions: FunctionTable,
        loop: asyncio.AbstractEventLoop,
        ready: Ready,
    ) -> None:
        self.options = options
        self.functions = functions
        self.loop = loop
        self.thread = 0
        self.ready = ready
        self.scheduler = Scheduler(
            options.qsize, options.max_tasks_per_child, coming=options.workers
        )
        #: Everything is done, and the workers are told to end: nobody is replaced any more.
        self.leaving = False
        self.fleet = Fleet(self)
        self._links: dict[int, Link] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._inbox: deque[Any] = deque()
        self._woken = False
        self._ticking = False
        self._drained: asyncio.Future[None] | None = None

    def start(self) -> None:
        """Start the hosts."""
        self.thread = threading.get_ident()
        self.fleet.start()

    # -- tasks

    def submit(self, task: Task | Broadcast | Callable[[], None]) -> None:
        """Take a task, a broadcast, or something to do on the loop. From any thread."""
        here = threading.get_ident() == self.thread
        if here and isinstance(task, Task) and self._is_quiet():
            # Nothing is under way: whoever awaits this one task shall not wait for the loop.
            self.scheduler.submit((task,))
            self.pump()
            return
        # In this order: `_drain` clears the flag before it looks into the inbox.
        self._inbox.append(task)
        if not self._woken:
            self._woken = True
            (self.loop.call_soon if here else self.loop.call_soon_threadsafe)(self._drain)

    def _is_quiet(self) -> bool:
        scheduler = self.scheduler
        return not (scheduler.held or self._inbox or scheduler.waiting or scheduler.broken)

    def _drain(self) -> None:
        self._woken = False
        inbox = self._inbox
        scheduler = self.scheduler
        tasks: list[Task] = []
        for _ in range(len(inbox)):
            item = inbox.popleft()
            if isinstance(item, Task):
                tasks.append(item)
                continue
            scheduler.submit(tasks)
            tasks = []
            if callable(item):
                item()
            else:
                scheduler.broadcast(item)
        scheduler.submit(tasks)
        if inbox and not self._woken:
            self._woken = True
            self.loop.call_soon(self._drain)
        if scheduler.broken is not None:
            scheduler.cancel_waiting(scheduler.broken)
        while self.functions.forgotten:
            self._forget(self.functions.forgotten.pop())
        self.pump()

    def pump(self) -> None:
        """Send what can be sent."""
        for worker, tasks in self.scheduler.assign(time.monotonic_ns()):
            self._send(worker, tasks)
        self._act()
        if not self._ticking and self.scheduler.needs_tick:
            self._ticking = True
            self.loop.call_later(_TICK, self._tick)
        if self._drained is not None and self.scheduler.finished and not self._drained.done():
            self._drained.set_result(None)

    def _send(self, worker: Worker, tasks: list[Task]) -> None:
        link = self._links[worker.id]
        connection = link.connection
        known = worker.functions
        send = connection.send_task
        for task in tasks:
            function = task.function
            if function.id not in known:
                known.add(function.id)
                connection.send(
                    Function(function.id, function.name, function.by_value, PYTHON, function.blob)
                )
            send(task.id, function.id, task.flags, task.payload)
        link.flush()

    def _act(self) -> None:
        for action in self.scheduler.take_actions():
            match action:
                case ReplaceWorker(host, slot):
                    if not self.leaving and self.scheduler.broken is None:
                        self.ready.clear()
                        self.fleet.runner(host).replace(slot)
                case RecallTasks(worker, last):
                    self.fleet.runner(worker.host).tell(Recall(worker.id, last))
                case WatchHost(host, on):
                    self.fleet.runner(host).tell(Watch(on))
                case RetireWorker(worker):
                    self._retire(worker)
                case BreakPool():
                    self._break()

    def _retire(self, worker: Worker) -> None:
        link = self._links.get(worker.id)
        if link is not None and not link.ended:
            link.connection.send(Retire())
            link.flush()

    def _break(self) -> None:
        self.ready.clear()
        self.keep(self.loop.create_task(self.fleet.close()))

    def _tick(self) -> None:
        self._ticking = False
        self.scheduler.tick(time.monotonic_ns())
        self.pump()

    def give_up(self, future: object) -> None:
        """Nobody wants a future's result any more. From any thread."""
        self.submit(lambda: self._give_up(future))

    def _give_up(self, future: object) -> None:
        for worker in self.scheduler.workers.values():
            for task in worker.tasks.values():
                if getattr(task, "future", None) is future:
                    link = self._links[worker.id]
                    link.connection.send(Cancel(task.id))
                    link.flush()
                    return

    def keep(self, task: "asyncio.Task[None]") -> None:
        """Hold a background task until it is done: the loop alone would not."""
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _forget(self, function: int) -> None:
        """No new task will use a function; should a waiting one do, it is sent again."""
        for worker in self.scheduler.workers.values():
            if function in worker.functions:
                worker.functions.discard(function)
                self._links[worker.id].connection.send(Forget(function))

    # -- what workers tell

    def worker_ready(self, seat: Seat) -> None:
        """A worker is initialised."""
        assert seat.worker is not None and seat.link is not None
        self._links[seat.worker.id] = seat.link
        self.scheduler.joined(seat.worker, time.monotonic_ns())
        if self.leaving:
            self._let_go(seat.worker)
        self.pump()

    def answered(self, worker: Worker, messages: Any) -> None:
        """Results: first refill the worker, then deliver what it did."""
        answered = self.scheduler.results(worker, messages, time.monotonic_ns())
        if self.scheduler.waiting or self._drained is not None:
            self.pump()
        for task, result in answered:
            task.resolve(result)

    def worker_lost(self, worker: Worker, report: Lost, known: bool) -> None:
        """A worker has ended: count what it had gathered, then see what it took with it."""
        self._links.pop(worker.id, None)
        self._gathered(worker, report.blob)
        self.scheduler.lost(worker, report, time.monotonic_ns(), known=known)
        self.pump()

    def worker_recalled(self, worker: Worker, message: Recalled) -> None:
        """A supervisor has taken back what a worker had not started."""
        self._gathered(worker, message.blob)
        self.scheduler.recalled(worker, message.started, message.last)
        self.pump()

    def _gathered(self, worker: Worker, blob: Any) -> None:
        """Results that a worker had not sent; they are as good as any."""
        decoder = FrameDecoder()
        view = memoryview(blob)
        results: list[Any] = []
        while view:
            buffer = decoder.get_buffer()
            count = min(len(buffer), len(view))
            buffer[:count] = view[:count]
            view = view[count:]
            frames = decoder.received(count)
            results += decode(frames, {frame[0] for frame in frames})
        results = [result for result in results if isinstance(result, Result)]
        if results:
            for task, result in self.scheduler.results(worker, results, time.monotonic_ns()):
                task.resolve(result)

    # -- the end

    def break_with(self, error: BaseException) -> None:
        """The pool cannot go on: fail what it has, end the hosts."""
        self.scheduler.break_with(error)
        self.pump()

    async def close(self, *, cancel: bool = False, kill: bool = False) -> None:
        """End the pool: when its tasks are done, or now."""
        if self._woken:
            self._drain()
        if cancel:
            self.scheduler.cancel_waiting(CancelledError())
        if kill:
            self.break_with(PoolBroken("the pool's workers were killed"))
        self.pump()
        if not self.scheduler.finished:
            self._drained = self._drained or self.loop.create_future()
            await asyncio.shield(self._drained)
        self.leaving = True
        self.ready.clear()
        if self.scheduler.broken is None:
            await self._let_leave()
        await self.fleet.close()

    async def _let_leave(self) -> None:
        """Workers flush their streams and run their exit functions before they end."""
        for worker in list(self.scheduler.workers.values()):
            self._let_go(worker)
        deadline = time.monotonic() + _LEAVE
        while self.scheduler.workers and time.monotonic() < deadline:
            await asyncio.sleep(0.001)

    def _let_go(self, worker: Worker) -> None:
        worker.retiring = True
        self._retire(worker)
