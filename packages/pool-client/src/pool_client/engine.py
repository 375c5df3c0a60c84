"""The engine: takes tasks from any thread, and moves events in and decisions out.

It lives on one loop. Events from links and hosts go into the scheduler, what the scheduler decides
goes out to them; the fleet starts and ends the hosts.
"""

import asyncio
import contextlib
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

from pool_client.errors import HostError, PoolBroken
from pool_client.functions import FunctionTable
from pool_client.hosts.fleet import Fleet
from pool_client.hosts.seat import Seat
from pool_client.links.link import Link
from pool_client.lone import LoneAnswer
from pool_client.options import Options
from pool_client.outcomes import resolve
from pool_client.patience import Patience
from pool_client.ready import Ready
from pool_client.scheduling.scheduler import Scheduler
from pool_client.scheduling.tasks import (
    BreakPool,
    Broadcast,
    DropHost,
    RecallTasks,
    ReplaceWorker,
    RetireWorker,
    Task,
    WatchHost,
    Worker,
)
from pool_protocol import Areas, RemoteProtocolError
from pool_protocol.codec import decode_whole
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
)

logger = logging.getLogger("pool_client")

#: Seconds between looks at silent workers.
_TICK = 0.01
#: Seconds between looks whether anybody is left to do what a closing pool still has to do.
_LOOK = 1.0
#: Seconds that workers have to end by themselves when the pool is shut down.
_LEAVE = 5.0
#: Memory for large results that was not used for so many seconds is given back.
_KEEP_MEMORY = 5.0

#: Why a pool takes nothing any more.
AFTER_SHUTDOWN = "cannot schedule new futures after shutdown"

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
        self.scheduler = Scheduler(options.qsize, options.max_tasks_per_child)
        #: Everything is done, and the workers are told to end: nobody is replaced any more.
        self.leaving = False
        #: Nothing of the pool is left, and nobody looks into the inbox any more.
        self.ended = False
        self.fleet = Fleet(self)
        self._links: dict[int, Link] = {}
        self._background: set[asyncio.Task[None]] = set()
        self.inbox: deque[Any] = deque()
        #: Futures whose results nobody wants any more.
        self._unwanted: deque[object] = deque()
        self._woken = False
        self._ticking = False
        #: Where large results are received.
        self._memory = Areas()
        self._tidying = False
        self._lone = LoneAnswer(loop)
        self._drained: asyncio.Future[None] | None = None

    def start(self) -> None:
        """Start the hosts."""
        self.thread = threading.get_ident()
        self.fleet.start()

    # -- tasks

    def submit(self, task: Task | Broadcast | Callable[[], None]) -> None:
        """Take a task, a broadcast, or something to do on the loop. From any thread.

        Raises RuntimeError when the engine has ended. A task that comes while it ends fails.
        """
        here = threading.get_ident() == self.thread
        if here and not self.inbox and isinstance(task, Task) and self._send_lone(task):
            return
        # In this order, as `_drain` clears the flag before it looks into the inbox: if the flag is
        # set here, that look is still to come and finds the task; else we ask for another.
        self.inbox.append(task)
        if not self._woken:
            wake = self.loop.call_soon if here else self.loop.call_soon_threadsafe
            try:
                self._woken = True
                wake(self._drain)
            except RuntimeError:
                if not self.ended:
                    raise
            except BaseException:  # a signal's handler, as Ctrl-C's, has broken it off somewhere
                self._woken = False
                wake(self._drain)
                raise
        if self.ended:
            with contextlib.suppress(ValueError):  # the last look into the inbox has found it
                self.inbox.remove(task)
                raise RuntimeError(AFTER_SHUTDOWN)

    def _send_lone(self, task: Task) -> bool:
        """If nothing is under way, whoever awaits this one task shall not wait for the loop."""
        now = time.monotonic_ns()
        if self.leaving or self.functions.forgotten:
            return False
        assignments = self.scheduler.lone(task, now)
        if assignments is None:
            return False
        try:
            for worker, tasks in assignments:
                self._send(worker, tasks)
                self._lone.asked(now)
        except Exception as error:
            self._fault(error)
        return True

    def _drain(self) -> None:
        self._woken = False
        inbox = self.inbox
        if len(inbox) == 1 and isinstance(inbox[0], Task) and self._send_lone(inbox[0]):
            inbox.popleft()
            return
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
                try:
                    item()
                except Exception as error:
                    self._fault(error)
            else:
                scheduler.broadcast(item)
        scheduler.submit(tasks)
        if scheduler.broken is not None:
            scheduler.cancel_waiting(scheduler.broken)
        elif self.leaving:
            scheduler.cancel_waiting(RuntimeError(AFTER_SHUTDOWN))
        while self.functions.forgotten:
            self._forget(self.functions.forgotten.pop())
        self.pump()

    def pump(self) -> None:
        """Send what can be sent."""
        try:
            self._pump()
        except Exception as error:
            self._fault(error)

    def _pump(self) -> None:
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
        passing = []
        send = connection.send_task
        for task in tasks:
            function = task.function
            if function.id not in known:
                known.add(function.id)
                if function.forgotten:
                    passing.append(function.id)
                new = Function(function.id, function.name, function.by_value, PYTHON, function.blob)
                connection.send(new)
            send(task.id, function.id, task.flags, task.payload)
        for number in passing:
            self._forget(number)
        link.flush()

    def _act(self) -> None:
        for action in self.scheduler.take_actions():
            match action:
                case ReplaceWorker(host, slot):
                    if not self.leaving and self.scheduler.broken is None:
                        self.fleet.runner(host).replace(slot)
                case RecallTasks(worker, last):
                    self.fleet.tell(worker.host, Recall(worker.id, last))
                case WatchHost(host, on):
                    self.fleet.tell(host, Watch(on))
                case RetireWorker(worker):
                    self._tell(worker, Retire())
                case DropHost(host, reason):
                    self.fleet.drop(self.fleet.runner(host), HostError(host.name, reason))
                case BreakPool():
                    self.keep(self.loop.create_task(self.fleet.close()))

    def _tell(self, worker: Worker, *messages: Retire | Cancel) -> None:
        """Send messages, unless the worker's stream has ended, which is seen before its end is."""
        link = self._links.get(worker.id)
        if messages and link is not None and not link.ended:
            for message in messages:
                link.connection.send(message)
            link.flush()

    def _tick(self) -> None:
        self._ticking = False
        self.scheduler.tick(time.monotonic_ns())
        self.pump()

    def give_up(self, future: object) -> None:
        """Nobody wants a future's result any more. From any thread."""
        self._unwanted.append(future)
        with contextlib.suppress(RuntimeError):  # the engine has ended
            self.submit(self._give_up)

    def _give_up(self) -> None:
        """Cancel what workers hold of all that is not wanted by now; the rest is not sent."""
        unwanted = {self._unwanted.popleft() for _ in range(len(self._unwanted))}
        if not unwanted:
            return
        for worker in self.scheduler.workers.values():
            ids = [task.id for task in worker.tasks.values() if task in unwanted]
            self._tell(worker, *map(Cancel, ids))

    def keep(self, task: "asyncio.Task[None]") -> None:
        """Hold a background task until it is done: the loop alone would not."""
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _forget(self, function: int) -> None:
        """No new task will use a function; should a waiting one do, it is sent again."""
        for worker in self.scheduler.workers.values():
            if function in worker.functions:
                worker.functions.discard(function)
                link = self._links.get(worker.id)
                if link is not None and not link.ended:
                    link.connection.send(Forget(function))  # it goes with what is sent next

    # -- what workers tell

    def worker_ready(self, seat: Seat) -> None:
        """A worker is initialised."""
        assert seat.worker is not None and seat.link is not None
        self._links[seat.worker.id] = seat.link
        seat.link.connection.receive_into(self._memory)
        self.scheduler.joined(seat.worker, time.monotonic_ns())
        if self.leaving:
            self._let_go(seat.worker)
        self.pump()

    def answered(self, worker: Worker, messages: Any) -> None:
        """Results: first refill the worker, then deliver what it did."""
        now = time.monotonic_ns()
        self._lone.answered(now)
        answered, answers = self.scheduler.results(worker, messages, now)
        if self.scheduler.waiting or self._drained is not None:
            self.pump()
        resolve(answered, answers)
        if self._memory.kept and not self._tidying:
            self._tidying = True
            self.loop.call_later(_KEEP_MEMORY, self._tidy)

    def _tidy(self) -> None:
        """Give memory back that was not used lately."""
        self._tidying = self._memory.tidy()
        if self._tidying:
            self.loop.call_later(_KEEP_MEMORY, self._tidy)

    def worker_lost(self, worker: Worker, report: Lost, known: bool) -> None:
        """A worker has ended: count what it had gathered, then see what it took with it."""
        if worker.host.closed is None:  # else nobody misses it
            # Before anybody can see that it is gone.
            self.ready.clear()
        self._links.pop(worker.id, None)
        # What was done and cannot be read counts as started: it must not run again for free.
        known = self._gathered(worker, report.blob) and known
        self.scheduler.lost(worker, report, time.monotonic_ns(), known=known)
        self.pump()

    def dismiss(self, worker: Worker) -> None:
        """A worker is ended with the pool, which is no loss."""
        self._links.pop(worker.id, None)
        self.scheduler.suspend(worker)
        self.scheduler.workers.pop(worker.id, None)

    def worker_recalled(self, worker: Worker, message: Recalled) -> None:
        """A supervisor has taken back what a worker had not started."""
        self._gathered(worker, message.blob)
        self.scheduler.recalled(worker, message.started, message.last)
        self.pump()

    def _gathered(self, worker: Worker, blob: Any) -> bool:
        """Results that a worker had not sent, as good as any. False: a stray pointer hit them."""
        try:
            results = [result for result in decode_whole(blob) if isinstance(result, Result)]
        except RemoteProtocolError:
            return False
        if results:
            resolve(*self.scheduler.results(worker, results, time.monotonic_ns()))
        return True

    # -- the end

    def _fault(self, error: Exception) -> None:
        """A fault of ours: whoever waits is told, as nothing else can be relied on any more."""
        logger.error("an error inside the pool", exc_info=error)
        if self.scheduler.broken is None:
            broken = PoolBroken(f"an error inside the pool: {type(error).__name__}: {error}")
            broken.__cause__ = error
            self.break_with(broken)

    def break_with(self, error: BaseException) -> None:
        """The pool cannot go on: fail what it has, end the hosts."""
        self.ready.give_up(error)
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
        while not self.scheduler.finished:
            if self._drained is None or self._drained.done():
                self._drained = self.loop.create_future()
            await asyncio.wait((self._drained,), timeout=_LOOK)
            if not self.scheduler.finished:
                self.fleet.look_for_anybody()
        self.leaving = True
        self.ready.give_up(RuntimeError(AFTER_SHUTDOWN))
        try:
            if self.scheduler.broken is None:
                await self._let_leave()
            await self.fleet.close()
        finally:
            # In this order: `submit` looks at the flag when it has put something into the inbox.
            self.ended = True
            self._drain()

    async def _let_leave(self) -> None:
        """Workers flush their streams and run their exit functions before they end."""
        for worker in list(self.scheduler.workers.values()):
            self._let_go(worker)
        patience = Patience(_LEAVE)
        while self.scheduler.workers and not patience.over():
            await asyncio.sleep(0.001)

    def _let_go(self, worker: Worker) -> None:
        worker.retiring = True
        self._tell(worker, Retire())
