"""The scheduler: which task goes to which worker, and what becomes of it. Pure.

Events come in as method calls with the time in ns; ``assign`` gives what to send, ``take_actions``
what else to do. Every task is in exactly one place:

    queue ──assign──▶ in a worker's hands ──results──▶ resolved
      ▲                      │
      └─────── recalled, or its worker lost ──▶ failed

Invariants (the Hypothesis state machine checks them): each task is resolved or failed exactly
once, and counted in one place; a task that had not started is never blamed for a lost worker; no
worker is idle while a task waits that it may have; a dispatch id is used once.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress

from pool_client.scheduling.assigning import Assigning, Assignment
from pool_client.scheduling.backlog import Backlog
from pool_client.scheduling.losses import Losses
from pool_client.scheduling.policy import SILENCE_NS, silent_since
from pool_client.scheduling.roster import Roster
from pool_client.scheduling.tasks import (
    Action,
    BreakPool,
    Broadcast,
    Counts,
    Function,
    Host,
    RecallTasks,
    Task,
    Worker,
)
from pool_client.scheduling.watching import Watching
from pool_protocol.messages import Lost, Result, ResultFlag, TaskFlag
from pool_protocol.parts import unpack_part

#: Plain numbers: an IntFlag's operators are too slow for every task.
_TIMED = int(TaskFlag.TIMED)
_PART = int(ResultFlag.PART)


class Scheduler:
    """All tasks and workers of a pool.

    ``qsize``: tasks in a worker's hands, None to adapt; ``max_tasks``: calls after which a worker
    is replaced.
    """

    def __init__(self, qsize: int | None = None, max_tasks: int | None = None) -> None:
        self.counts = Counts()
        self.broken: BaseException | None = None
        self._roster = Roster(qsize)
        self.workers = self._roster.workers
        self._backlog = Backlog()
        self._actions: list[Action] = []
        self._watching = Watching(self._actions)
        state = (self._roster, self._backlog, self._watching, self.counts, self._actions)
        self._assigning = Assigning(*state, max_tasks)
        self._losses = Losses(*state)

    # -- what the engine asks

    @property
    def held(self) -> int:
        """Tasks in workers' hands."""
        return self._roster.held

    @property
    def coming(self) -> int:
        """Workers on their way, for which a broadcast waits."""
        return self._roster.coming

    @property
    def waiting(self) -> int:
        """Tasks that were submitted and are in nobody's hands."""
        return len(self._backlog)

    @property
    def finished(self) -> bool:
        """Nothing is left to do."""
        return not self._roster.held and not self._backlog

    @property
    def needs_tick(self) -> bool:
        """True while time matters: a queue in a worker's hands, a time limit, a search."""
        return bool(self._roster.deep or self._watching or self._backlog.away)

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
        self.counts.submitted += 1
        self._backlog.add_broadcast(broadcast)

    def cancel_waiting(self, error: BaseException) -> None:
        """Fail everything that is in nobody's hands."""
        doomed = self._backlog.clear()
        if isinstance(error, CancelledError):
            self.counts.cancelled += len(doomed)
        else:
            self.counts.failed += len(doomed)
        for waiting in doomed:
            waiting.fail(error)

    # -- workers

    def expect(self, host: Host, count: int) -> None:
        """So many workers are ordered from a host: a broadcast waits for them."""
        self._roster.expect(host, count)

    def joined(self, worker: Worker, now: int) -> None:
        """A worker is connected and initialised."""
        self._roster.join(worker, now)

    def suspend(self, worker: Worker) -> None:
        """A worker's stream has ended: nothing more is sent to it."""
        self._roster.suspend(worker)

    def results(
        self, worker: Worker, results: Sequence[Result], now: int
    ) -> tuple[list[Task], list[Result]]:
        """The tasks that a worker has answered, and its answers; unknown ones are dropped.

        Two lists, not one of pairs: these would be thousands of objects for the garbage collector.
        """
        take = worker.tasks.pop
        answered: list[Task] = []
        answers: list[Result] = []
        over = self._watching.over
        busy = spent = worker.busy
        work, nbytes = worker.work, worker.nbytes
        last = items = done = 0
        function: Function | None = None
        for result in results:
            _, _, nanos, last, _, _ = result
            task = take(last, None)
            if task is None:
                if result[1] & _PART:
                    _take_part(worker, result)
                continue
            if task.function is not function:
                if function is not None:
                    function.estimate.add(busy - spent, items)
                function, spent, items = task.function, busy, 0
            busy += nanos
            calls = task.items
            items += calls
            done += calls
            work -= task.cost
            nbytes -= task.nbytes
            if task.flags & _TIMED:
                over(worker.host, task, now)
            answered.append(task)
            answers.append(result)
        if function is not None:
            function.estimate.add(busy - spent, items)
        worker.work, worker.nbytes = work, nbytes
        worker.done += done
        count = len(answered)
        self._roster.held -= count
        self.counts.completed += count
        self.counts.trouble = max(0, self.counts.trouble - count)
        worker.busy = busy
        worker.last_heard = now
        worker.round_trip.received(last, now, busy, worker.host.delay)
        self._roster.settle(worker)
        return answered, answers

    # -- assigning

    def lone(self, task: Task, now: int) -> list[Assignment] | None:
        """`submit` and `assign` in one for a task beside which nothing waits or runs.

        What is to be sent; None: it is not so, and nothing was done.
        """
        return None if self.broken is not None else self._assigning.lone(task, now)

    def assign(self, now: int) -> list[Assignment]:
        """What is to be sent now, by worker. A worker comes up at most twice."""
        return self._assigning.assign(now)

    # -- losses

    def lost(self, worker: Worker, report: Lost, now: int, *, known: bool = True) -> None:
        """A worker has ended, and all its results have been seen.

        ``known`` False: nobody can say what it had started, so everything in its hands counts as
        started; `Losses.lost` says why.
        """
        failed, broken = self._losses.lost(worker, report, now, known)
        if broken is not None:
            self.break_with(broken)
        for task, error in failed:
            task.fail(error)

    def recalled(self, worker: Worker, started: int, last: int) -> None:
        """What the worker holds after ``started`` and up to ``last`` will not run there."""
        self._losses.recalled(worker, started, last)

    def leave(self, host: Host, error: BaseException) -> None:
        """A host wants to go: its workers finish what they run, and get nothing more.

        ``error`` is for parts of broadcasts that wait for them.
        """
        self._losses.leave(host, error)

    def close(self, host: Host, error: BaseException) -> None:
        """Nothing comes from a host any more: nobody of it is replaced or waited for."""
        self._losses.close(host, error)

    def stop_waiting(self, host: Host, error: BaseException) -> None:
        """Nobody knows when workers of a host will come: broadcasts do without those."""
        self._losses.stop_waiting(host, error)

    def break_with(self, error: BaseException) -> None:
        """The pool cannot go on: fail everything."""
        if self.broken is not None:
            return
        self.broken = error
        doomed = self._backlog.clear()
        for worker in self.workers.values():
            doomed += worker.tasks.values()
            worker.tasks = {}
            worker.host.timed = 0
            self._roster.settle(worker)
        self._roster.held = 0
        self.counts.failed += len(doomed)
        self._actions.append(BreakPool(error))
        # Last, for whoever waits for them looks around at once.
        for waiting in doomed:
            waiting.fail(error)

    # -- time

    def tick(self, now: int) -> None:
        """Time has passed: look after workers that have been silent for longer than expected."""
        for worker in list(self._roster.deep.values()):
            if now - worker.last_heard <= SILENCE_NS:
                break
            if worker.recalling or worker.retiring:
                continue
            head = next(iter(worker.tasks.values()))
            if silent_since(worker.last_heard, head.cost, worker.round_trip.least, now):
                worker.recalling = True
                head.function.estimate.at_least((now - worker.last_heard) / head.items)
                self._actions.append(RecallTasks(worker, max(worker.tasks)))
        self._watching.tick(now)


def _take_part(worker: Worker, result: Result) -> None:
    """A part of a chunk's result; one of a chunk that is not in its hands any more is dropped."""
    with suppress(ValueError):
        id, first, values = unpack_part(result.payload)
        task = worker.tasks.get(id)
        if task is not None:
            task.take_part(first, values)
