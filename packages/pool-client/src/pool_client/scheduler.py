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

from collections.abc import Iterable, Sequence

from pool_client import policy
from pool_client.backlog import Backlog
from pool_client.blame import Verdict, judge, lost_error
from pool_client.errors import PoolBroken, TaskTimeout
from pool_client.tasks import (
    Action,
    BreakPool,
    Broadcast,
    Counts,
    Function,
    RecallTasks,
    ReplaceWorker,
    RetireWorker,
    Task,
    Worker,
)
from pool_client.watching import Watching
from pool_protocol.messages import Lost, Result, TaskFlag

#: A plain number: an IntFlag's operators are too slow for every task.
_TIMED = int(TaskFlag.TIMED)

Assignment = tuple[Worker, list[Task]]


class Scheduler:
    """All tasks and workers of a pool.

    ``qsize``: tasks in a worker's hands, None to adapt; ``max_tasks``: calls after which a worker
    is replaced; ``coming``: workers that are being started.
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
        self._backlog = Backlog()
        self._queue = self._backlog.queue
        self._idle: dict[int, Worker] = {}
        #: Busy workers that can take more.
        self._open: dict[int, Worker] = {}
        #: Workers with something queued behind what they run, the longest silent first.
        self._deep: dict[int, Worker] = {}
        self._held = 0
        self._next_id = 1
        self._actions: list[Action] = []
        self._watching = Watching(self._actions)

    # -- what the engine asks

    @property
    def held(self) -> int:
        """Tasks in workers' hands."""
        return self._held

    @property
    def waiting(self) -> int:
        """Tasks that were submitted and are in nobody's hands."""
        return len(self._backlog)

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
        if not self._actions:
            return []
        actions = list(self._actions)
        self._actions.clear()
        return actions

    # -- tasks

    def submit(self, tasks: Iterable[Task]) -> None:
        """New tasks, in order."""
        self.counts.submitted += self._backlog.add(tasks)

    def broadcast(self, broadcast: Broadcast) -> None:
        """One task for each worker, after all that was submitted before and ahead of the rest."""
        self._backlog.add_broadcast(broadcast)

    def cancel_waiting(self, error: BaseException) -> None:
        """Fail everything that is in nobody's hands."""
        for waiting in self._backlog.clear():
            waiting.fail(error)

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
        over = self._watching.over
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
                over(worker.host, task, now)
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
            if self._backlog.pinned:
                out += self._assign_pinned(now)
            if not self._queue:
                if self._held or not self._backlog.blocked or not self.workers or self.coming:
                    return out
                self._backlog.lower(self.workers.values())
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
                self._watching.sent(worker.host, task)
            batch.append(task)
        self._next_id = next_id
        worker.sent, worker.work, worker.nbytes = sent, work, nbytes
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

    def _assign_pinned(self, now: int) -> list[Assignment]:
        out: list[Assignment] = []
        pinned = self._backlog.pinned
        for worker in [w for w in self._idle.values() if w.slot in pinned]:
            task = self._backlog.take_pinned(worker.slot)
            if task.start():
                task.id = self._next_id
                self._next_id += 1
                worker.tasks[task.id] = task
                worker.nbytes = task.nbytes
                worker.sent += task.items
                self._watching.sent(worker.host, task)
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
                free += self._blame(judge(worker, task, report, known))
        self._held -= len(worker.tasks)
        worker.tasks = {}
        self._backlog.give_back(worker.slot, free)
        self.coming += 1
        self._actions.append(ReplaceWorker(worker.host, worker.slot))
        if self.counts.trouble > policy.patience(len(self.workers)):
            last = lost_error(worker, report, 0)
            self.break_with(
                PoolBroken(f"workers die faster than work is completed; the last one: {last}")
            )

    def _blame(self, verdict: Verdict) -> Sequence[Task]:
        """Carry a verdict out; what is to be run again."""
        self.counts.retried += verdict.retried
        for task, error in verdict.failed:
            self.counts.timeouts += isinstance(error, TaskTimeout)
            # It is over, if badly: that is progress.
            self.counts.trouble = max(0, self.counts.trouble - 1)
            task.fail(error)
        return verdict.again

    def _remove(self, worker: Worker, now: int) -> None:
        worker.dead = True
        for place in (self.workers, self._idle, self._open, self._deep):
            place.pop(worker.id, None)
        for task in worker.tasks.values():
            self._watching.over(worker.host, task, now)

    def recalled(self, worker: Worker, started: int, last: int) -> None:
        """What the worker holds after ``started`` and up to ``last`` will not run there."""
        worker.recalling = False
        back = [task for id, task in worker.tasks.items() if started < id <= last]
        for task in back:
            del worker.tasks[task.id]
            worker.work -= task.cost
            worker.nbytes -= task.nbytes
            self._watching.over(worker.host, task, worker.last_heard)
            worker.sent -= task.items
        self._held -= len(back)
        self.counts.recalled += len(back)
        worker.round_trip.forget()
        self._backlog.give_back(worker.slot, back)
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
        self._watching.tick(now)
