"""The engine: the only part that touches sockets, processes and clocks.

It lives on one loop and does three things: takes tasks from any thread, moves events into the
scheduler and the scheduler's decisions out to links and hosts, and starts and ends the hosts.
"""

import asyncio
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

from pool_client.errors import PoolBroken
from pool_client.functions import FunctionTable
from pool_client.host import MAX_FAILURES, HostRunner, Seat
from pool_client.link import Link
from pool_client.listener import Listener
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
from pool_protocol import Role, serializer
from pool_protocol.frames import FrameDecoder
from pool_protocol.messages import (
    Cancel,
    Forget,
    Function,
    Lost,
    Message,
    Recall,
    Recalled,
    Result,
    Retire,
    Setup,
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
        self.scheduler = Scheduler(options.qsize, options.max_tasks_per_child)
        self.runners: list[HostRunner] = []
        self.setup = self._make_setup()
        #: Set once the pool is up or has failed; `error` says which.
        self.created: asyncio.Future[None] = loop.create_future()
        self._tokens: dict[bytes, tuple[bytes, HostRunner]] = {}
        self._listener: Listener | None = None
        self._seats: dict[Link, Seat] = {}
        self._controls: dict[Link, HostRunner] = {}
        self._links: dict[int, Link] = {}
        self._workers_made = 0
        self._background: set[asyncio.Task[None]] = set()
        self._inbox: deque[Any] = deque()
        self._woken = False
        self._ticking = False
        self._closing = False
        self._drained: asyncio.Future[None] | None = None
        self._timeout: asyncio.TimerHandle | None = None
        self._on_create: list[Callable[[BaseException | None], None]] = []

    def _make_setup(self) -> Setup:
        options = self.options
        blob: Any = b""
        if options.initializer is not None:
            packed = serializer(options.func_pickle).pack((options.initializer, options.initargs))
            blob = packed if isinstance(packed, bytes) else b"".join(packed.stream)
        return Setup(
            func_pickle=options.func_pickle,
            data_pickle=options.data_pickle,
            worker_loop=options.worker_loop,
            max_message=options.max_message,
            blob=blob,
        )

    # -- creation

    def start(self) -> None:
        """Listen, and start every host; `created` tells the outcome."""
        self.thread = threading.get_ident()
        self._timeout = self.loop.call_later(self.options.connect_timeout, self._timed_out)
        try:
            self._listener = Listener(self.loop, self._token, self, self.options.max_message)
            slot = 0
            for spec in self.options.hosts:
                self.runners.append(HostRunner(self, spec, slot))
                slot += spec.workers
            for runner in self.runners:
                runner.launch()
        except Exception as error:
            self._creation_failed(error)

    def _token(self, launch: bytes) -> bytes | None:
        known = self._tokens.get(launch)
        return known[0] if known else None

    def new_launch(self, runner: HostRunner) -> tuple[bytes, dict[str, Any]]:
        """A name and a token for one start of a host, and the settings that carry them."""
        assert self._listener is not None
        self._tokens.pop(runner.launch_id, None)
        launch, token = os.urandom(8), os.urandom(32)
        self._tokens[launch] = (token, runner)
        try:
            folder: str | None = os.getcwd()
        except OSError:
            folder = None
        return launch, {
            "address": self._listener.address,
            "launch": launch.hex(),
            "token": token.hex(),
            "host": runner.spec.name,
            "cwd": folder,
            "sys_path": [path or folder for path in sys.path if path or folder],
            "client_pid": None,
            "stderr": None,
            "max_message": self.options.max_message,
        }

    def next_worker(self) -> int:
        """A number for a new worker process."""
        self._workers_made += 1
        return self._workers_made

    def worker_ready(self, seat: Seat) -> None:
        """A worker is initialised."""
        assert seat.worker is not None and seat.link is not None
        self._links[seat.worker.id] = seat.link
        self.scheduler.joined(seat.worker, time.monotonic_ns())
        if len(self.scheduler.workers) == self.options.workers:
            self.ready.set()
            self._is_created(None)
        self.pump()

    def _timed_out(self) -> None:
        if self.created.done():
            return
        least = self.options.min_workers
        have = len(self.scheduler.workers)
        if least is not None and have >= least:
            self._is_created(None)
            return
        missing = [
            f"{r.spec.name} ({r.spec.workers - sum(s.worker is not None for s in r.seats.values())} "
            f"of {r.spec.workers} missing)"
            for r in self.runners
            if sum(s.worker is not None for s in r.seats.values()) < r.spec.workers
        ]
        timeout = self.options.connect_timeout
        self._creation_failed(
            PoolBroken(
                f"only {have} of {self.options.workers} workers were ready within {timeout:g} s: "
                f"{', '.join(missing)}; does the initializer hang? (connect_timeout)"
            )
        )

    def _is_created(self, error: BaseException | None) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
        if self.created.done():
            return
        self.created.set_result(None)
        callbacks, self._on_create = self._on_create, []
        for callback in callbacks:
            callback(error)

    def when_created(self, callback: Callable[[BaseException | None], None]) -> None:
        """Call back, on the loop, once the pool is up (None) or has failed."""
        if self.created.done():
            callback(self.scheduler.broken)
        else:
            self._on_create.append(callback)

    def _creation_failed(self, error: BaseException) -> None:
        self.scheduler.break_with(error)
        self._act()
        self._is_created(error)

    def start_failed(self, runner: HostRunner, error: BaseException) -> bool:
        """A host or a worker did not come up. True: try it again."""
        if self._closing or self.scheduler.broken is not None:
            return False
        if not self.created.done() and self.options.min_workers is None:
            self._creation_failed(error)
            return False
        self.scheduler.counts.trouble += 1
        if runner.failures < MAX_FAILURES or self.scheduler.workers:
            return True
        broken = PoolBroken(f"no worker is left and none can be started: {error}")
        broken.__cause__ = error
        self._creation_failed(broken)
        return False

    # -- tasks

    def submit(self, task: Task | Broadcast | Callable[[], None]) -> None:
        """Take a task, a broadcast, or something to do on the loop. From any thread."""
        self._inbox.append(task)
        if not self._woken:
            self._woken = True
            if threading.get_ident() == self.thread:
                self.loop.call_soon(self._drain)
            else:
                self.loop.call_soon_threadsafe(self._drain)

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
                    if not self._closing and self.scheduler.broken is None:
                        self.ready.clear()
                        self._runner(host).replace(slot)
                case RecallTasks(worker, last):
                    self._runner(worker.host).tell(Recall(worker.id, last))
                case WatchHost(host, on):
                    self._runner(host).tell(Watch(on))
                case RetireWorker(worker):
                    self._retire(worker)
                case BreakPool():
                    self._break()

    def _runner(self, host: object) -> HostRunner:
        return next(runner for runner in self.runners if runner.host is host)

    def _retire(self, worker: Worker) -> None:
        link = self._links.get(worker.id)
        if link is not None and not link.ended:
            link.connection.send(Retire())
            link.flush()

    def _break(self) -> None:
        self.ready.clear()
        self.keep(self.loop.create_task(self._end_hosts()))

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

    def forget(self, function: int) -> None:
        """No task will use a function any more."""
        for worker in self.scheduler.workers.values():
            if function in worker.functions:
                worker.functions.discard(function)
                self._links[worker.id].connection.send(Forget(function))

    # -- events of the links

    def opened(self, link: Link) -> None:
        """A peer has authenticated itself."""
        identity = link.connection.identity
        assert identity is not None
        known = self._tokens.get(identity.launch)
        if known is None:
            link.close()
            return
        runner = known[1]
        if identity.role is Role.CONTROL:
            self._controls[link] = runner
            runner.control_opened(link)
            return
        seat = runner.seats.get(identity.worker)
        if seat is None or seat.link is not None:
            link.close()
            return
        self._seats[link] = seat
        runner.worker_opened(seat, link)

    def received(self, link: Link, messages: list[Message]) -> None:
        """Messages have come in."""
        seat = self._seats.get(link)
        if seat is None:
            runner = self._controls.get(link)
            if runner is not None:
                runner.control_received(messages)
            return
        worker = seat.worker
        if worker is None:
            messages = seat.runner.worker_received(seat, messages)
            worker = seat.worker
        if messages and worker is not None:
            self._answered(worker, messages)

    def _answered(self, worker: Worker, messages: Any) -> None:
        """Results: first refill the worker, then deliver what it did."""
        answered = self.scheduler.results(worker, messages, time.monotonic_ns())
        self.pump()
        for task, result in answered:
            task.resolve(result)

    def ended(self, link: Link, error: BaseException | None) -> None:
        """A stream has ended, or its peer broke the protocol."""
        seat = self._seats.get(link)
        if seat is not None:
            seat.runner.worker_ended(seat, error)
            return
        runner = self._controls.pop(link, None)
        if runner is not None and runner.control is link:
            runner.control_ended()

    def seat_gone(self, seat: Seat) -> None:
        """A worker process is over."""
        if seat.link is not None:
            self._seats.pop(seat.link, None)
        self._links.pop(seat.id, None)

    def worker_lost(self, worker: Worker, report: Lost, known: bool) -> None:
        """A worker has ended: count what it had gathered, then see what it took with it."""
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

    async def close(self, *, cancel: bool = False, kill: bool = False) -> None:
        """End the pool: when its tasks are done, or now."""
        self._closing = True
        if self._woken:
            self._drain()
        if cancel:
            self.scheduler.cancel_waiting(CancelledError())
        if kill:
            self.scheduler.break_with(PoolBroken("the pool's workers were killed"))
        if not self.scheduler.finished and self.scheduler.broken is None:
            self._drained = self.loop.create_future()
            await self._drained
        self.ready.clear()
        if self.scheduler.broken is None:
            await self._let_leave()
        await self._end_hosts()
        if self._timeout is not None:
            self._timeout.cancel()
        if self._listener is not None:
            self._listener.close()
        self._is_created(self.scheduler.broken)

    async def _let_leave(self) -> None:
        """Workers flush their streams and run their exit functions before they end."""
        for worker in list(self.scheduler.workers.values()):
            worker.retiring = True
            self._retire(worker)
        deadline = time.monotonic() + _LEAVE
        while self.scheduler.workers and time.monotonic() < deadline:
            await asyncio.sleep(0.001)

    async def _end_hosts(self) -> None:
        await asyncio.gather(*(runner.close() for runner in self.runners))

    def abandon(self) -> None:
        """Close the descriptors in a forked child, whose copy of the pool is of no use."""
        if self._listener is not None:
            self._listener.abandon()
        for runner in self.runners:
            runner.abandon()

    def sweep(self) -> None:
        """The loop is gone for good: end the processes and remove the files without it."""
        for runner in self.runners:
            runner.sweep()
        if self._listener is not None:
            self._listener.remove_files()
