"""The workers of a pool, and which of them can take tasks. Pure."""

from collections.abc import Iterator

from pool_client.scheduling.tasks import Host, Worker


class Roster:
    """Every worker, sorted by what it can take.

    ``qsize``: tasks in a worker's hands, None to adapt.
    """

    def __init__(self, qsize: int | None = None) -> None:
        self.qsize = qsize
        self.workers: dict[int, Worker] = {}
        self.idle: dict[int, Worker] = {}
        #: Busy workers that can take more.
        self.open: dict[int, Worker] = {}
        #: Workers with something queued behind what they run, the longest silent first.
        self.deep: dict[int, Worker] = {}
        #: Tasks in workers' hands.
        self.held = 0
        #: Workers on their way, for which a broadcast waits.
        self.coming = 0

    def expect(self, host: Host, count: int) -> None:
        """So many workers have been ordered from a host; negative: will not come after all."""
        host.coming += count
        self.coming += count

    def join(self, worker: Worker, now: int) -> None:
        """A worker is connected and initialised."""
        if worker.host.coming:
            self.expect(worker.host, -1)
        worker.last_heard = worker.joined = now
        self.workers[worker.id] = worker
        self.idle[worker.id] = worker

    def suspend(self, worker: Worker) -> None:
        """A worker gets nothing more."""
        for place in (self.idle, self.open, self.deep):
            place.pop(worker.id, None)
        worker.dead = True

    def remove(self, worker: Worker) -> None:
        """A worker is gone."""
        self.suspend(worker)
        self.workers.pop(worker.id, None)

    def retire(self, worker: Worker) -> None:
        """A worker gets nothing more, and ends when it has done what it holds."""
        worker.retiring = True
        self.idle.pop(worker.id, None)
        self.open.pop(worker.id, None)

    def settle(self, worker: Worker, reopen: bool = True) -> None:
        """Put a worker where its load belongs; ``reopen``: a busy one may get more."""
        held = len(worker.tasks)
        id = worker.id
        self.deep.pop(id, None)
        if worker.dead:
            return
        if held > 1:
            self.deep[id] = worker
        if not held:
            worker.work = 0.0
            worker.nbytes = 0
            self.open.pop(id, None)
            if not worker.retiring:
                self.idle[id] = worker
            return
        if id in self.open or worker.retiring or not reopen:
            return
        if self.qsize is not None:
            if held < self.qsize:
                self.open[id] = worker
        elif worker.work <= worker.round_trip.goal / 2:
            self.open[id] = worker

    # -- by host

    def at(self, host: Host) -> list[Worker]:
        """The workers of a host."""
        return [worker for worker in self.workers.values() if worker.host is host]

    @property
    def staying(self) -> list[Worker]:
        """The workers of hosts that have not gone, and do not want to."""
        return [worker for worker in self.workers.values() if worker.host.closed is None]

    def elsewhere(self, host: Host) -> bool:
        """Is there a worker on another host that takes tasks, now or later?"""
        return any(
            worker.host is not host and not worker.dead and not worker.retiring
            for worker in self.workers.values()
        )

    def takers(self) -> Iterator[Worker]:
        """Whoever can take a task now, idle workers first."""
        return iter([*self.idle.values(), *self.open.values()])
