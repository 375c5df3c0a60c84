"""How tasks get into workers' hands: which worker gets which, and how many at once. Pure.

The rules and figures are in `policy`; this moves tasks from the backlog to workers by them.
"""

from pool_client.scheduling.backlog import Backlog
from pool_client.scheduling.policy import MAX_TASKS, TINY_NS, batch_limit, byte_limits, limits
from pool_client.scheduling.roster import Roster
from pool_client.scheduling.tasks import Action, Counts, Function, RetireWorker, Task, Worker
from pool_client.scheduling.watching import Watching
from pool_protocol.messages import TaskFlag

#: A plain number: an IntFlag's operators are too slow for every task.
_TIMED = int(TaskFlag.TIMED)

Assignment = tuple[Worker, list[Task]]


class Assigning:
    """Puts tasks into workers' hands; shares the scheduler's state.

    ``max_tasks``: calls after which a worker is replaced.
    """

    def __init__(
        self,
        roster: Roster,
        backlog: Backlog,
        watching: Watching,
        counts: Counts,
        actions: list[Action],
        max_tasks: int | None,
    ) -> None:
        self._roster = roster
        self._backlog = backlog
        self._queue = backlog.queue
        self._watching = watching
        self._counts = counts
        self._actions = actions
        self._max_tasks = max_tasks
        #: The next dispatch id; each is used once.
        self._next_id = 1

    def lone(self, task: Task, now: int) -> list[Assignment] | None:
        """`submit` and `assign` in one for a task beside which nothing waits or runs.

        What is to be sent; None: it is not so, and nothing was done.
        """
        roster = self._roster
        if roster.held or self._backlog or not roster.idle:
            return None
        if self._max_tasks is not None or task.flags & _TIMED:
            return None
        self._counts.submitted += 1
        if not task.start():
            self._counts.cancelled += 1
            return []
        worker: Worker = roster.idle.popitem()[1]
        mean = task.function.estimate.mean
        task.cost = worker.work = 0.0 if mean is None else mean * task.items
        task.id = self._next_id
        self._next_id += 1
        worker.tasks[task.id] = task
        worker.nbytes = task.nbytes
        worker.sent += task.items
        worker.last_heard = now
        worker.round_trip.sent(task.id, now, worker.busy)
        roster.held = 1
        return [(worker, [task])]

    def assign(self, now: int) -> list[Assignment]:
        """What is to be sent now, by worker. A worker comes up at most twice."""
        out: list[Assignment] = []
        backlog = self._backlog
        while True:
            if backlog.pinned:
                out += self._assign_pinned(now)
            if backlog.away:
                out += self._assign_away(now)
            if not self._queue:
                roster = self._roster
                if roster.held or not backlog.blocked or roster.coming or not roster.staying:
                    return out
                self._counts.submitted += backlog.lower(roster.staying) - 1
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
        idle, busy = self._roster.idle, self._roster.open
        if busy and (not idle or (mean is not None and mean < TINY_NS)):
            return busy.popitem()[1]
        if idle:
            return next(reversed(idle.values()))
        return None

    def _fill(self, worker: Worker) -> list[Task]:
        """Move tasks from the queue into a worker's hands."""
        queue = self._queue
        batch: list[Task] = []
        held = worker.tasks
        qsize = self._roster.qsize
        work = worker.work
        nbytes = worker.nbytes
        goal = worker.round_trip.goal
        largest, most = byte_limits(worker.host.delay)
        limit = MAX_TASKS
        if not held:
            idle = len(self._roster.idle)
            limit = batch_limit(queue[0].function.estimate.mean, len(queue), idle)
        next_id = self._next_id
        count = len(held)
        function: Function | None = None
        mean: float | None = None
        most_tasks, most_work = 0, 0.0
        sent = worker.sent
        while queue and len(batch) < limit:
            task = queue[0]
            if task.function is not function:
                function = task.function
                mean = function.estimate.mean
                most_tasks, most_work = limits(goal, mean, qsize)
            size = task.nbytes
            if count and (count >= most_tasks or work >= most_work):
                break
            if count and (size > largest or nbytes + size > most):
                break
            if self._max_tasks is not None and sent >= self._max_tasks:
                break
            queue.popleft()
            if not task.start():
                self._counts.cancelled += 1
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
        roster = self._roster
        roster.idle.pop(worker.id, None)
        if len(worker.tasks) == len(batch):
            worker.last_heard = now
        roster.held += len(batch)
        worker.round_trip.sent(batch[0].id, now, worker.busy)
        if len(worker.tasks) > 1 and worker.id not in roster.deep:
            roster.deep[worker.id] = worker
        if self._max_tasks is not None and worker.sent >= self._max_tasks:
            roster.retire(worker)
            self._actions.append(RetireWorker(worker))

    def _assign_pinned(self, now: int) -> list[Assignment]:
        out: list[Assignment] = []
        pinned = self._backlog.pinned
        for worker in [w for w in self._roster.idle.values() if w.slot in pinned]:
            task = self._backlog.take_pinned(worker.slot)
            if not task.start():
                self._counts.cancelled += 1
            else:
                task.id = self._next_id
                self._next_id += 1
                worker.tasks[task.id] = task
                worker.nbytes = task.nbytes
                worker.sent += task.items
                self._watching.sent(worker.host, task)
                self._dispatched(worker, [task], now)
                out.append((worker, [task]))
        return out

    def _assign_away(self, now: int) -> list[Assignment]:
        """What was lost on one host goes to a worker of another, as long as there is any."""
        out: list[Assignment] = []
        backlog, roster = self._backlog, self._roster
        backlog.call_off(lambda host, until: until <= now or not roster.elsewhere(host))
        for worker in roster.takers():
            offered = backlog.offer(worker.host)
            if offered:
                batch = self._fill(worker)
                backlog.withdraw_offer(offered)
                if batch:
                    self._dispatched(worker, batch, now)
                    out.append((worker, batch))
            if not backlog.away:
                break
        return out
