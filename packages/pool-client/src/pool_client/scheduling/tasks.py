"""Tasks as the scheduler sees them: what to send, where the outcome goes. No I/O.

A task is told its outcome exactly once: ``resolve`` with a worker's answer, or ``fail`` with an
error of the pool's. What a task does with that is its own affair; the scheduler knows nothing of
futures, chunks or pickles.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pool_client.scheduling.policy import Estimate, RoundTrip
from pool_protocol import Buffer, Payload
from pool_protocol.messages import Result


class Function:
    """A function as it travels: its pickle, sent to each worker before its first task."""

    __slots__ = ("blob", "by_value", "estimate", "forgotten", "id", "large", "name")

    def __init__(self, id: int, name: str, blob: Buffer, by_value: bool) -> None:
        self.id = id
        self.name = name
        self.blob = blob
        self.by_value = by_value
        self.estimate = Estimate()
        #: Its arguments were large the last time: pack them without a copy.
        self.large = False
        #: No new task will use it; those that wait still do.
        self.forgotten = False

    def __repr__(self) -> str:
        return f"<Function {self.id} {self.name}>"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a user asked for a task."""

    retries: int = 3
    """How often a task that had started is tried again when its worker is lost."""
    timeout: float | None = None
    """Seconds of running, for each call."""


#: What a task consists of, for the slots of its subclasses. `Task` has none: some of them are
#: futures too, and of all the bases of a class only one may have slots.
TASK_FIELDS = (
    "attempts",
    "cost",
    "flags",
    "function",
    "id",
    "items",
    "nbytes",
    "payload",
    "terms",
)


class Task:
    """One message to a worker. Subclasses say where its outcome goes."""

    function: Function
    flags: int
    payload: Payload
    nbytes: int
    terms: Terms
    items: int
    attempts: int
    id: int
    cost: float

    #: True for a task that stays with its slot when the worker is replaced.
    pinned = False

    def __init__(
        self, function: Function, flags: int, payload: Payload, nbytes: int, terms: Terms
    ) -> None:
        self.function = function
        self.flags = flags
        self.payload = payload
        self.nbytes = nbytes
        self.terms = terms
        self.items = 1
        self.attempts = 0
        #: The dispatch id under which it was sent last; 0 before.
        self.id = 0
        #: The service time that was expected when it was sent, in ns.
        self.cost = 0.0

    def start(self) -> bool:
        """It is about to be sent, for the first time or again. False: nobody wants it any more."""
        raise NotImplementedError

    def resolve(self, result: Result) -> None:
        """A worker has answered."""
        raise NotImplementedError

    def take_part(self, first: int, payload: Buffer) -> None:
        """Some values of a chunk, from item ``first`` on, came ahead. ValueError: unreadable."""

    def fail(self, error: BaseException) -> None:
        """It will not be answered."""
        raise NotImplementedError

    def split(self, item: int) -> "tuple[Sequence[Task], Task, Sequence[Task]]":
        """The parts before, at, and after the item during which a worker was lost."""
        return (), self, ()


class Broadcast(Protocol):
    """One task for each worker, sent at one moment: see ``run_on_all``."""

    def tasks(self, count: int) -> Sequence[Task]:
        """The tasks for ``count`` workers, in worker order."""

    def fail(self, error: BaseException) -> None:
        """It could not be sent."""


#: The slots of a host begin at its number, shifted by so many bits: worker order is host order.
SLOT_BITS = 20


@dataclass(slots=True, eq=False)
class Host:
    """A place with workers."""

    name: str
    slots: int
    """How many workers it should have."""
    number: int = 0
    timed: int = 0
    """How many tasks with a time limit its workers hold."""
    watching: bool = False
    last_timed: int = 0
    coming: int = 0
    """How many workers were ordered and are not there yet."""
    delay: float = 0.0
    """The round trip to it, in ns; 0: it is not known, or as good as none."""
    closed: BaseException | None = None
    """Why nobody of it is replaced any more."""
    done: int = 0
    """Calls that were done by workers which are gone."""
    barren: int = 0
    """Deaths in a row without a completed call, while other hosts completed some."""
    died: int = -1
    """When a worker died last, in ns, and what had been done here and elsewhere by then."""
    done_here: int = 0
    done_elsewhere: int = 0

    def slot(self, index: int) -> int:
        """The number of one of its slots."""
        return (self.number << SLOT_BITS) + index

    def holds(self, slot: int) -> bool:
        """Is this slot one of its own?"""
        return slot >> SLOT_BITS == self.number


class Worker:
    """A connected, initialised worker."""

    __slots__ = (
        *("busy", "dead", "done", "functions", "host", "id", "last_heard", "nbytes"),
        *("joined", "pid", "python", "recalling", "retiring", "round_trip", "sent", "slot"),
        *("tasks", "version", "work"),
    )

    def __init__(
        self, id: int, slot: int, host: Host, pid: int, python: str = "", version: str = ""
    ) -> None:
        self.id = id
        self.slot = slot
        self.host = host
        self.pid = pid
        self.python = python
        self.version = version
        self.joined = 0
        #: What it holds, by dispatch id, in the order in which it will run.
        self.tasks: dict[int, Task] = {}
        #: The functions that it knows.
        self.functions: set[int] = set()
        #: Service time of what it holds, as expected, in ns.
        self.work = 0.0
        self.nbytes = 0
        #: Service time of all that it has done, in ns.
        self.busy = 0
        self.round_trip = RoundTrip()
        self.last_heard = 0
        self.sent = 0
        self.done = 0
        self.recalling = False
        self.retiring = False
        self.dead = False

    @property
    def state(self) -> str:
        """``idle``, ``busy``, ``retiring`` or ``lost``."""
        if self.dead:
            return "lost"
        if self.retiring:
            return "retiring"
        return "busy" if self.tasks else "idle"

    def __repr__(self) -> str:
        return (
            f"<Worker {self.id} on {self.host.name}, pid {self.pid}, {self.state}, "
            f"{len(self.tasks)} in hand, {self.done} done>"
        )


@dataclass(frozen=True, slots=True)
class WatchHost:
    """Let the host's supervisor watch time limits, or stop it."""

    host: Host
    on: bool


@dataclass(frozen=True, slots=True)
class RecallTasks:
    """Ask the worker's supervisor for what the worker has not started, up to ``last``."""

    worker: Worker
    last: int


@dataclass(frozen=True, slots=True)
class RetireWorker:
    """Let the worker end once it has done what it holds."""

    worker: Worker


@dataclass(frozen=True, slots=True)
class ReplaceWorker:
    """Start another worker in this slot."""

    host: Host
    slot: int


@dataclass(frozen=True, slots=True)
class DropHost:
    """Give a host up: nothing gets done there."""

    host: Host
    reason: str


@dataclass(frozen=True, slots=True)
class BreakPool:
    """The pool cannot go on."""

    error: BaseException


Action = WatchHost | RecallTasks | RetireWorker | ReplaceWorker | DropHost | BreakPool


@dataclass(slots=True)
class Counts:
    """What has happened so far; `Stats` says what each figure of tasks means."""

    submitted: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    retried: int = 0
    recalled: int = 0
    workers_lost: int = 0
    timeouts: int = 0
    #: Deaths less completions since the last quiet moment.
    trouble: int = field(default=0, repr=False)
