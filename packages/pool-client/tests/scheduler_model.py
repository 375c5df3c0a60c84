"""What the tests of the scheduler share: tasks that keep a record, and workers run by hand."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pool_client.scheduling.scheduler import Scheduler
from pool_client.scheduling.tasks import Function, Host, Task, Terms, Worker
from pool_protocol import Buffer
from pool_protocol.messages import RESULT, Lost, Result, TaskFlag

MS = 1_000_000
SECOND = 1000 * MS


@dataclass(eq=False)
class Item:
    """One call, and all that happens to it."""

    retries: int = 3
    begun: int = 0
    """How often a worker has begun it."""
    outcomes: list[object] = field(default_factory=list)
    withdrawn: bool = False
    """Cancelled by its user before it was sent."""
    single: bool = True
    """It was submitted by itself."""


class Recorder(Task):
    """A task that writes its outcome into its items."""

    def __init__(
        self,
        function: Function,
        items: Sequence[Item],
        *,
        nbytes: int = 100,
        retries: int = 3,
        timeout: float | None = None,
    ) -> None:
        flags = TaskFlag.TIMED if timeout else 0
        super().__init__(function, flags, b"", nbytes, Terms(retries, timeout))
        self.calls = list(items)
        self.parts = []
        self.items = len(self.calls)

    def start(self) -> bool:
        """A withdrawn task is dropped, and that is its outcome."""
        if self.calls[0].withdrawn:
            self._end("withdrawn")
            return False
        return True

    def resolve(self, result: Result) -> None:
        """All of its calls have been answered."""
        self._end(result)

    def take_part(self, first: int, payload: Buffer) -> None:
        """Some of the values."""
        self.parts.append((first, bytes(payload)))

    def fail(self, error: BaseException) -> None:
        """None of its calls will be answered."""
        self._end(error)

    def _end(self, outcome: object) -> None:
        for item in self.calls:
            item.outcomes.append(outcome)

    def split(self, item: int) -> tuple[list[Task], Task, list[Task]]:
        """The parts before, at and after the blamed call."""
        if self.items == 1:
            return [], self, []
        return self._part(0, item), self._part(item, item + 1)[0], self._part(item + 1, self.items)

    def _part(self, start: int, stop: int) -> list[Task]:
        if start == stop:
            return []
        terms = self.terms
        part = Recorder(
            self.function,
            self.calls[start:stop],
            nbytes=self.nbytes,
            retries=terms.retries,
            timeout=terms.timeout,
        )
        part.attempts = self.attempts
        return [part]


class Pinned(Recorder):
    """A part of a broadcast."""

    pinned = True


class RecordingBroadcast:
    """A broadcast whose parts keep a record."""

    def __init__(self, function: Function, retries: int = 3, timeout: float | None = None) -> None:
        self.function = function
        self.retries = retries
        self.timeout = timeout
        self.lowered = False
        self.withdrawn = False
        self.error: BaseException | None = None
        self.parts: list[Pinned] = []

    def tasks(self, count: int) -> list[Task]:
        """One part for each worker."""
        assert not self.lowered, "it was let through twice"
        self.lowered = True
        for _ in range(count):
            item = Item(self.retries, withdrawn=self.withdrawn)
            settings = {"retries": self.retries, "timeout": self.timeout}
            self.parts.append(Pinned(self.function, [item], **settings))
        return list(self.parts)

    def fail(self, error: BaseException) -> None:
        """It was never let through."""
        assert not self.lowered
        assert self.error is None
        self.error = error

    @property
    def over(self) -> bool:
        """Every part has an outcome, or there will be no parts."""
        if self.error is not None:
            return True
        return self.lowered and all(part.calls[0].outcomes for part in self.parts)


def function(id: int = 1) -> Function:
    """A function whose service time is not known yet."""
    return Function(id, f"work{id}", b"", by_value=False)


def single(func: Function, **settings: object) -> Recorder:
    """A task of one call."""
    return Recorder(func, [Item(settings.get("retries", 3))], **settings)


def chunk(func: Function, count: int, **settings: object) -> Recorder:
    """A task of many calls."""
    items = [Item(settings.get("retries", 3), single=False) for _ in range(count)]
    return Recorder(func, items, **settings)


def worker(id: int, host: Host | None = None, slot: int | None = None) -> Worker:
    """A worker that is ready."""
    return Worker(id, id if slot is None else slot, host or Host("box", 8), pid=1000 + id)


def result(id: int, nanos: int = MS) -> Result:
    """A good answer."""
    return Result(RESULT, 0, nanos, id, b"", ())


def lost(
    worker: Worker, started: int = 0, item: int = 0, exitcode: int = -9, reason: str = ""
) -> Lost:
    """The report of a worker's end."""
    return Lost(worker.id, worker.pid, exitcode, started, item, reason)


def make(workers=1, **settings):
    """A scheduler with workers 1 to *workers* on one host."""
    scheduler = Scheduler(**settings)
    host = Host("box", workers)
    made = [worker(number, host) for number in range(1, workers + 1)]
    for one in made:
        scheduler.joined(one, 0)
    return scheduler, *made


def known(nanos=MS, id=1):
    """A function whose service time is known."""
    func = function(id)
    func.estimate.add(nanos)
    return func


def answer(scheduler, one, now=0, nanos=MS, count=None):
    """Let a worker answer what it holds, and tell the tasks, as the engine does."""
    answers = [result(id, nanos) for id in list(one.tasks)[:count]]
    for task, outcome in zip(*scheduler.results(one, answers, now), strict=True):
        task.resolve(outcome)


def outcomes(task):
    """The one outcome of each call of a task."""
    for item in task.calls:
        assert len(item.outcomes) == 1
    return [item.outcomes[0] for item in task.calls]


def unaccounted(scheduler):
    """Tasks that were submitted and are nowhere, or (negative) in two places."""
    counts = scheduler.counts
    over = counts.completed + counts.failed + counts.cancelled
    return counts.submitted - over - scheduler.waiting - scheduler.held
