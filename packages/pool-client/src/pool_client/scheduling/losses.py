"""What becomes of tasks whose workers end, hang, or leave. Pure.

The task that was running is blamed, and tried again on another host where there is one; what had
not started goes back to the queue as if nothing had happened.
"""

from pool_client.errors import PoolBroken, TaskTimeout
from pool_client.scheduling.backlog import Backlog
from pool_client.scheduling.barren import Barren
from pool_client.scheduling.blame import judge, lost_error
from pool_client.scheduling.policy import ELSEWHERE_NS, patience
from pool_client.scheduling.roster import Roster
from pool_client.scheduling.tasks import (
    Action,
    Counts,
    DropHost,
    Host,
    RecallTasks,
    ReplaceWorker,
    RetireWorker,
    Task,
    Worker,
)
from pool_client.scheduling.watching import Watching
from pool_protocol.messages import Lost

#: A task that is over, and its error.
Failed = tuple[Task, Exception]


class Losses:
    """Takes tasks out of workers' hands again; shares the scheduler's state."""

    def __init__(
        self,
        roster: Roster,
        backlog: Backlog,
        watching: Watching,
        counts: Counts,
        actions: list[Action],
    ) -> None:
        self._roster = roster
        self._backlog = backlog
        self._watching = watching
        self._counts = counts
        self._actions = actions
        self._barren = Barren(roster)

    # -- workers

    def lost(
        self, worker: Worker, report: Lost, now: int, known: bool
    ) -> tuple[list[Failed], PoolBroken | None]:
        """A worker has ended, and all its results have been seen.

        ``known`` False: nobody can say what it had started (its supervisor is gone too, and with it
        the page), so everything in its hands counts as started, what lay behind the running task
        too. Its last answer says what it had done by then, not what it has begun since: it went
        on until it noticed, for 20 s if a network was lost, and what it did then never came. To
        try that again for free would break the promise of ``retries``.

        Returns the tasks that are to be failed, with their errors, and why the pool breaks by
        that. Whoever waits for them looks around at once, so they are told last.
        """
        roster, counts, host = self._roster, self._counts, worker.host
        roster.remove(worker)
        expected = worker.retiring and not worker.tasks and report.exitcode == 0
        if not expected:
            counts.workers_lost += 1
            # A host that is lost is one death, whatever the number of its workers.
            counts.trouble += known or not any(w.host is host for w in roster.workers.values())
        failed: list[Failed] = []
        free: list[Task] = []
        blamed: list[Task] = []
        again = blamed if roster.elsewhere(host) else free
        for id, task in worker.tasks.items():
            self._watching.over(host, task, now)
            if known and id != report.started:
                free.append(task)
            else:
                verdict = judge(worker, task, report, known)
                again += verdict.again
                failed += verdict.failed
                counts.retried += verdict.retried
                # A chunk was one task, its parts are several.
                counts.submitted += len(verdict.again) + len(verdict.failed) - 1
        counts.failed += len(failed)
        for _, error in failed:
            counts.timeouts += isinstance(error, TaskTimeout)
            # It is over, if badly: that is progress.
            counts.trouble = max(0, counts.trouble - 1)
        roster.held -= len(worker.tasks)
        worker.tasks = {}
        self._backlog.give_back(worker.slot, free)
        self._backlog.send_elsewhere(worker.slot, blamed, host, now + ELSEWHERE_NS)
        if host.closed is not None:
            self.stop_waiting(host, host.closed)
        else:
            roster.expect(host, 1)
            self._actions.append(ReplaceWorker(host, worker.slot))
            reason = None if expected else self._barren.died(worker, report, now)
            if reason is not None:
                self._actions.append(DropHost(host, reason))
        if counts.trouble > patience(len(roster.workers) + roster.coming):
            last = lost_error(worker, report, 0)
            text = f"workers die faster than work is completed; the last one: {last}"
            return failed, PoolBroken(text)
        return failed, None

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
        self._roster.held -= len(back)
        self._counts.recalled += len(back)
        worker.round_trip.forget()
        self._backlog.give_back(worker.slot, back)
        # It hangs in a task that is longer than thought: nothing more for it before that is done.
        self._roster.open.pop(worker.id, None)
        self._roster.settle(worker, reopen=False)

    # -- hosts

    def leave(self, host: Host, error: BaseException) -> None:
        """A host wants to go: its workers finish what they run, and get nothing more."""
        self.close(host, error)
        for worker in self._roster.at(host):
            if worker.dead:
                continue
            if len(worker.tasks) > 1 and not worker.recalling:
                worker.recalling = True
                self._actions.append(RecallTasks(worker, max(worker.tasks)))
            if not worker.retiring:
                self._roster.retire(worker)
                self._actions.append(RetireWorker(worker))

    def close(self, host: Host, error: BaseException) -> None:
        """Nothing comes from a host any more, and nobody of it is replaced."""
        host.closed = error
        self.stop_waiting(host, error)

    def stop_waiting(self, host: Host, error: BaseException) -> None:
        """Nobody knows when workers of a host will come: broadcasts do without."""
        self._roster.expect(host, -host.coming)
        there = () if host.closed else {worker.slot for worker in self._roster.at(host)}
        doomed = self._backlog.take_pinned_of(host.holds, there)
        self._counts.failed += len(doomed)
        for task in doomed:
            task.fail(error)
