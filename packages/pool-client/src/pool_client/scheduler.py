"""The scheduler: which task goes to which worker, and what becomes of it. Pure.

Events come in as method calls with the time in ns; ``assign`` gives what to send, ``take_actions``
what else to do. Every task is in exactly one place:

    queue ──assign──▶ in a worker's hands ──results──▶ resolved
      ▲                      │
      └─────── recalled, or its worker lost ──▶ failed

Invariants (the Hypothesis state machine checks them): each task is resolved or failed exactly
once; a task that had not started is never blamed for a lost worker; no worker is idle while a task
waits that it may have; a dispatch id is used once.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from pool_client import policy
from pool_client.errors import PoolBroken, TaskTimeout, WorkerLost
from pool_client.tasks import (
    Action,
    BreakPool,
    Broadcast,
    Counts,
    Function,
    Host,
    RecallTasks,
    ReplaceWorker,
    RetireWorker,
    Task,
    WatchHost,
    Worker,
)
from pool_protocol.messages import Lost, Result, TaskFlag

#: A plain number: an IntFlag's operators are too slow for every task.
_TIMED = int(TaskFlag.TIMED)
#: How long a host's supervisor goes on watching time limits after the last task that had one, ns.
_WATCH_NS = 1_000_000_000

Assignment = tuple[Worker, list[Task]]


class Scheduler:
    """All tasks and workers of a pool.

    ``qsize``: tasks in a worker's hands, None to adapt; ``max_tasks``: calls after which a worker is
    replaced.
    """

    def __init__(
        self, qsize: int | None = None, max_tasks: int | None = None, coming: int = 0
    ) -> None:
        self.workers: dict[int, Worker] = {}
        #: Workers on their way, for which a broadcast waits.
        self.coming = coming
        self.counts = Counts()
        self.broken: BaseException | None = None
        self._qsize = qsize
        self._max_tasks = max_tasks
        self._queue: deque[Task] = deque()
        #: Broadcasts, each with how many tasks of the queue come before it.
        self._barriers: deque[Broadcast] = deque()
        self._behind: deque[Task] = deque()
        #: Tasks that belong to one slot, until that slot has an idle worker.
        self._pinned: dict[int, deque[Task]] = {}
        self._idle: dict[int, Worker] = {}
        #: Busy workers that can take more.
        self._open: dict[int, Worker] = {}
        #: Workers with something queued behind what they run, the longest silent first.
        self._deep: dict[int, Worker] = {}
        #: Hosts whose supervisors watch time limits.
        self._watching: dict[int, Host] = {}
        self._held = 0
        self._next_id = 1
        self._actions: list[Action] = []

    # -- what the engine asks

    @property
    def held(self) -> int:
        """Tasks in workers' hands."""
        return self._held

    @property
    def waiting(self) -> int:
        """Tasks that were submitted and are in nobody's hands."""
        pinned = sum(map(len, self._pinned.values()))
        return len(self._queue) + len(self._behind) + len(self._barriers) + pinned

    @property
    def finished(self) -> bool:
        """Nothing is left to do."""
        return not self._held and not self.waiting

    @property
    def needs_tick(self) -> bool:
        """True while time matters: somebody holds a queue, or a host watches time limits."""
        return bool(self._deep or self._watching)

    def take_actions(self) -> list[Action]:
        """What is to be done besides sending, oldest first."""
        actions, self._actions = self._actions, []
        return actions

    # -- tasks

    def submit(self, tasks: Iterable[Task]) -> None:
        """New tasks, in order."""
        queue = self._behind if self._barriers else self._queue
        before = len(queue)
        queue.extend(tasks)
        self.counts.submitted += len(queue) - before

    def broadcast(self, broadcast: Broadcast) -> None:
        """One task for each worker, after all that was submitted before and ahead of the rest."""
        if self._barriers:
            self._behind.append(_Fence(broadcast))
        else:
            self._barriers.append(broadcast)

    def cancel_waiting(self, error: BaseException) -> None:
        """Fail everything that is in nobody's hands."""
        tasks = [*self._queue, *self._behind, *(t for q in self._pinned.values() for t in q)]
        barriers = list(self._barriers)
        for place in (self._queue, self._behind, self._pinned, self._barriers):
            place.clear()
        for task in tasks:
            task.fail(error)
        for barrier in barriers:
            barrier.fail(error)

    # -- workers

    def joined(self, worker: Worker, now: int) -> None:
        """A worker is connected and initialised."""
        worker.last_heard = now
        self.coming = max(0, self.coming - 1)
        self.workers[worker.id] = worker
        self._idle[worker.id] = worker

    def suspend(self, worker: Worker) -> None:
        """A worker's stream has ended: nothing more is sent to it."""
        for place in (self._idle, self._open, self._deep):
            place.pop(worker.id, None)
        worker.dead = True

    def results(
        self, worker: Worker, results: Sequence[Result], now: int
    ) -> list[tuple[Task, Result]]:
        """Answers of a worker, with the tasks that they answer; unknown ones are dropped."""
        take = worker.tasks.pop
        answered: list[tuple[Task, Result]] = []
        append = answered.append
        busy = spent = worker.busy
        work = worker.work
        last = items = done = 0
        function: Function | None = None
        for result in results:
            _, _, nanos, last, _, _ = result
            task = take(last, None)
            if task is None:
                continue
            if task.function is not function:
                if function is not None:
                    function.estimate.add(busy - spent, items)
                function, spent, items = task.function, busy, 0
            busy += nanos
            items += task.items
            done += task.items
            work -= task.cost
            worker.nbytes -= task.nbytes
            if task.flags & _TIMED:
                self._untimed(worker.host, now)
            append((task, result))
        if function is not None:
            function.estimate.add(busy - spent, items)
        worker.work = work
        worker.done += done
        count = len(answered)
        self._held -= count
        self.counts.completed += count
        self.counts.trouble = max(0, self.counts.trouble - count)
        worker.busy = busy
        worker.last_heard = now
        worker.round_trip.received(last, now, busy)
        self._settle(worker)
        return answered

    def _settle(self, worker: Worker, reopen: bool = True) -> None:
        """Put a worker where its load belongs; ``reopen``: a busy one may get more."""
        held = len(worker.tasks)
        id = worker.id
        self._deep.pop(id, None)
        if worker.dead:
            return
        if held > 1:
            self._deep[id] = worker
        if not held:
            worker.work = 0.0
            worker.nbytes = 0
            self._open.pop(id, None)
            if not worker.retiring:
                self._idle[id] = worker
            return
        if id in self._open or worker.retiring or not reopen:
            return
        if self._qsize is not None:
            if held < self._qsize:
                self._open[id] = worker
        elif worker.work <= worker.round_trip.goal / 2:
            self._open[id] = worker

    # -- assigning

    def assign(self, now: int) -> list[Assignment]:
        """What is to be sent now, by worker. A worker comes up at most twice."""
        out: list[Assignment] = []
        while True:
            if self._pinned:
                out += self._assign_pinned(now)
            if not self._queue:
                if not self._barriers or self._held or self._pinned or not self._lower(now):
                    return out
                continue
            worker = self._pick()
            if worker is None:
                return out
            batch = self._fill(worker)
            if batch:
                self._dispatched(worker, batch, now)
                out.append((worker, batch))

    def _pick(self) -> Worker | None:
        """The worker that gets the head of the queue."""
        mean = self._queue[0].function.estimate.mean
        if self._open and (not self._idle or (mean is not None and mean < policy.TINY_NS)):
            return self._open.popitem()[1]
        if self._idle:
            return next(reversed(self._idle.values()))
        return None

    def _fill(self, worker: Worker) -> list[Task]:
        """Move tasks from the queue into a worker's hands."""
        queue = self._queue
        batch: list[Task] = []
        held = worker.tasks
        qsize = self._qsize
        work = worker.work
        nbytes = worker.nbytes
        goal = worker.round_trip.goal
        limit = policy.MAX_TASKS
        if not held:
            limit = policy.batch_limit(queue[0].function.estimate.mean, len(queue), len(self._idle))
        next_id = self._next_id
        count = len(held)
        function: Function | None = None
        mean: float | None = None
        sent = worker.sent
        while queue and len(batch) < limit:
            task = queue[0]
            if task.function is not function:
                function = task.function
                mean = function.estimate.mean
            size = task.nbytes
            if count and not policy.room(count, work, goal, mean, qsize):
                break
            if count and (size > policy.LARGE_BYTES or nbytes + size > policy.MAX_BYTES):
                break
            if self._max_tasks is not None and sent >= self._max_tasks:
                break
            queue.popleft()
            if not task.start():
                continue
            task.cost = cost = 0.0 if mean is None else mean * task.items
            task.id = next_id
            held[next_id] = task
            next_id += 1
            count += 1
            work += cost
            nbytes += size
            sent += task.items
            if task.flags & _TIMED:
                self._timed(worker.host)
            batch.append(task)
        worker.sent = sent
        self._next_id = next_id
        worker.work = work
        worker.nbytes = nbytes
        return batch

    def _dispatched(self, worker: Worker, batch: list[Task], now: int) -> None:
        """A batch is in a worker's hands and about to be written."""
        self._idle.pop(worker.id, None)
        if len(worker.tasks) == len(batch):
            worker.last_heard = now
        self._held += len(batch)
        worker.round_trip.sent(batch[0].id, now, worker.busy)
        if len(worker.tasks) > 1 and worker.id not in self._deep:
            self._deep[worker.id] = worker
        if self._max_tasks is not None and worker.sent >= self._max_tasks:
            worker.retiring = True
            self._open.pop(worker.id, None)
            self._actions.append(RetireWorker(worker))

    def _lower(self, now: int) -> bool:
        """All before the first broadcast is done: let it through. False: a worker is missing."""
        if not self.workers or self.coming:
            return False
        broadcast = self._barriers.popleft()
        workers = sorted(self.workers.values(), key=lambda w: (w.slot, w.id))
        for worker, task in zip(workers, broadcast.tasks(len(workers)), strict=True):
            self._pinned.setdefault(worker.slot, deque()).append(task)
        while self._behind and not self._barriers:
            task = self._behind.popleft()
            if isinstance(task, _Fence):
                self._barriers.append(task.broadcast)
            else:
                self._queue.append(task)
        return True

    def _assign_pinned(self, now: int) -> list[Assignment]:
        out: list[Assignment] = []
        for worker in [w for w in self._idle.values() if w.slot in self._pinned]:
            queue = self._pinned[worker.slot]
            task = queue.popleft()
            if not queue:
                del self._pinned[worker.slot]
            if task.start():
                task.id = self._next_id
                self._next_id += 1
                worker.tasks[task.id] = task
                worker.nbytes = task.nbytes
                worker.sent += task.items
                if task.flags & _TIMED:
                    self._timed(worker.host)
                self._dispatched(worker, [task], now)
                out.append((worker, [task]))
        return out

    # -- losses

    def lost(self, worker: Worker, report: Lost, now: int, *, known: bool = True) -> None:
        """A worker has ended, and all its results have been seen.

        ``known`` False: nobody can say what it had started (its supervisor is gone too), so
        everything in its hands counts as started.
        """
        self._remove(worker, now)
        expected = worker.retiring and not worker.tasks and report.exitcode == 0
        if not expected:
            self.counts.workers_lost += 1
            self.counts.trouble += 1
        free: list[Task] = []
        for id, task in worker.tasks.items():
            if known and id != report.started:
                free.append(task)
            else:
                free += self._blame(worker, task, report, known)
        self._held -= len(worker.tasks)
        worker.tasks = {}
        self._requeue(worker, free)
        self.coming += 1
        self._actions.append(ReplaceWorker(worker.host, worker.slot))
        if self.counts.trouble > self._patience():
            self.break_with(
                PoolBroken(
                    "workers die faster than work is completed; the last one: "
                    f"{WorkerLost(worker.host.name, worker.pid, report.exitcode, 0, report.reason)}"
                )
            )

    def _patience(self) -> int:
        return max(40, 8 * len(self.workers))

    def _remove(self, worker: Worker, now: int) -> None:
        worker.dead = True
        for place in (self.workers, self._idle, self._open, self._deep):
            place.pop(worker.id, None)
        for task in worker.tasks.values():
            if task.flags & _TIMED:
                self._untimed(worker.host, now)

    def _blame(self, worker: Worker, task: Task, report: Lost, known: bool) -> list[Task]:
        """What is to be run again of a task whose worker was lost while it ran."""
        before, blamed, after = task.split(report.item) if known else ((), task, ())
        again: list[Task] = []
        for part in (*before, blamed):
            # The items before the blamed one ran too, but it was not they who took the worker down.
            if part is blamed or task.terms.retries == 0:
                part.attempts += 1
            if part is blamed and report.reason == "timeout":
                self.counts.timeouts += 1
                error: Exception = TaskTimeout(
                    f"{task.function.name} ran longer than its limit of {task.terms.timeout} s; "
                    "its worker was killed and replaced"
                )
            elif part.attempts > task.terms.retries:
                error = WorkerLost(
                    worker.host.name,
                    worker.pid,
                    report.exitcode,
                    part.attempts,
                    report.reason,
                    task.function.name,
                )
            else:
                again.append(part)
                self.counts.retried += part is blamed
                continue
            self.counts.trouble = max(0, self.counts.trouble - 1)
            part.fail(error)
        return [*again, *after]

    def _requeue(self, worker: Worker, tasks: list[Task]) -> None:
        """Back to the head of the queue, in order; a broadcast's stay with their slot."""
        for task in reversed(tasks):
            if getattr(task, "pinned", False):
                self._pinned.setdefault(worker.slot, deque()).appendleft(task)
            else:
                self._queue.appendleft(task)

    def recalled(self, worker: Worker, started: int, last: int) -> None:
        """What the worker holds after ``started`` and up to ``last`` will not run there."""
        worker.recalling = False
        back = [task for id, task in worker.tasks.items() if started < id <= last]
        for task in back:
            del worker.tasks[task.id]
            worker.work -= task.cost
            worker.nbytes -= task.nbytes
            if task.flags & _TIMED:
                self._untimed(worker.host, worker.last_heard)
            worker.sent -= task.items
        self._held -= len(back)
        self.counts.recalled += len(back)
        worker.round_trip.forget()
        self._requeue(worker, back)
        # It hangs in a task that is longer than thought: nothing more for it before that is done.
        self._open.pop(worker.id, None)
        self._settle(worker, reopen=False)

    def break_with(self, error: BaseException) -> None:
        """The pool cannot go on: fail everything."""
        if self.broken is not None:
            return
        self.broken = error
        self.cancel_waiting(error)
        held = [task for worker in self.workers.values() for task in worker.tasks.values()]
        for worker in self.workers.values():
            worker.tasks = {}
            worker.host.timed = 0
            self._settle(worker)
        self._held = 0
        for task in held:
            task.fail(error)
        self._actions.append(BreakPool(error))

    # -- time

    def tick(self, now: int) -> None:
        """Time has passed: look after workers that have been silent for longer than expected."""
        for worker in list(self._deep.values()):
            if now - worker.last_heard <= policy.SILENCE_NS:
                break
            if worker.recalling or worker.retiring:
                continue
            head = next(iter(worker.tasks.values()))
            if policy.silent_since(worker.last_heard, head.cost, worker.round_trip.least, now):
                worker.recalling = True
                head.function.estimate.at_least((now - worker.last_heard) / head.items)
                self._actions.append(RecallTasks(worker, max(worker.tasks)))
        for host in list(self._watching.values()):
            if not host.timed and now - host.last_timed > _WATCH_NS:
                host.watching = False
                del self._watching[id(host)]
                self._actions.append(WatchHost(host, False))

    def _timed(self, host: Host) -> None:
        host.timed += 1
        if not host.watching:
            host.watching = True
            self._watching[id(host)] = host
            self._actions.append(WatchHost(host, True))

    def _untimed(self, host: Host, now: int) -> None:
        host.timed -= 1
        host.last_timed = now


class _Fence(Task):
    """The place of a broadcast among tasks that wait behind an earlier one."""

    __slots__ = ("broadcast",)

    def __init__(self, broadcast: Broadcast) -> None:
        self.broadcast = broadcast

    def fail(self, error: BaseException) -> None:
        self.broadcast.fail(error)
