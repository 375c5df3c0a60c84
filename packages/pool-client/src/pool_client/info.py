"""What a pool tells about itself: its hosts, its workers, and what has happened so far."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pool_client.errors import HostError
from pool_client.hosts.host import State
from pool_client.scheduling.tasks import Worker

if TYPE_CHECKING:
    from pool_client.engine import Engine
    from pool_client.hosts.host import HostRunner


@dataclass(frozen=True, slots=True)
class HostInfo:
    """A host as it is now.

    ``state`` is starting, up, backing off (before it is tried again), leaving, dropped, or closed
    (with its pool), and ``reason`` why it is not up. Seconds, bytes; what is not known is None, 0
    or empty.
    """

    name: str
    state: str
    reason: str
    joined: bool
    """Its workers were started by hand, and joined."""
    wanted: int
    """How many workers it is to have."""
    workers: int
    """How many it has."""
    cpus: int
    memory: int
    python: str
    version: str
    """The release of pool-worker there."""
    round_trip: float | None


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker as it is now."""

    id: int
    host: str
    pid: int
    state: str
    """idle, busy, retiring or lost."""
    tasks_done: int
    """Calls that it has done."""
    python: str
    version: str
    round_trip: float | None
    """Seconds that a task is under way rather than running, at best; None: not measured yet."""


@dataclass(frozen=True, slots=True)
class Stats:
    """What has happened in a pool so far.

    A task is what is sent at once: a call, a chunk of a map, a worker's part of ``run_on_all``.
    Each is in one place: ``submitted`` is the sum of ``completed``, ``failed``, ``cancelled``,
    ``waiting`` and ``held``. While the pool works, a task that moves may be seen twice or missed.
    """

    workers: int = 0
    submitted: int = 0
    """Also counts the parts of a chunk whose worker was lost, in place of the chunk."""
    completed: int = 0
    """Answered by a worker, with a result or an exception."""
    failed: int = 0
    """Given up by the pool: over their time limit, lost too often, or with the pool itself."""
    cancelled: int = 0
    """Not wanted any more when their turn came."""
    waiting: int = 0
    """In no worker's hands yet; ``run_on_all`` is one as long as it waits."""
    held: int = 0
    """In workers' hands, running or next."""
    retried: int = 0
    """How often a task was tried again that had started on a worker which was lost."""
    recalled: int = 0
    """How often a task was taken back from a worker that had not started it."""
    timeouts: int = 0
    """How many of ``failed`` were over their time limit."""
    workers_lost: int = 0
    hosts_lost: int = 0
    """How often a host was lost that had been up."""
    hosts_joined: int = 0
    """How many hosts have joined."""


def host_info(runner: "HostRunner") -> HostInfo:
    """A host as it is now."""
    standing = runner.standing  # once: this may be any thread
    info = standing.info
    return HostInfo(
        name=runner.spec.name,
        state=standing.state.value,
        reason=_reason(standing.error),
        joined=runner.joined,
        wanted=runner.wanted,
        workers=runner.seats.ready,
        cpus=0 if info is None else info.cpus,
        memory=0 if info is None else info.memory,
        python="" if info is None else info.python,
        version="" if info is None else info.version,
        round_trip=runner.heart.round_trip,
    )


def _reason(error: BaseException | None) -> str:
    """Why a host is not up, or was not lately; the host is named beside it."""
    if error is None:
        return ""
    return error.reason if isinstance(error, HostError) else str(error)


def worker_info(worker: Worker) -> WorkerInfo:
    """A worker as it is now."""
    least = worker.round_trip.least
    return WorkerInfo(
        id=worker.id,
        host=worker.host.name,
        pid=worker.pid,
        state=worker.state,
        tasks_done=worker.done,
        python=worker.python,
        version=worker.version,
        round_trip=least / 1e9 if least else None,
    )


def stats(engine: "Engine") -> Stats:
    """What has happened so far."""
    scheduler, fleet = engine.scheduler, engine.fleet
    counts = scheduler.counts
    return Stats(
        workers=len(scheduler.workers),
        submitted=counts.submitted,
        completed=counts.completed,
        failed=counts.failed,
        cancelled=counts.cancelled,
        waiting=scheduler.waiting,
        held=scheduler.held,
        retried=counts.retried,
        recalled=counts.recalled,
        timeouts=counts.timeouts,
        workers_lost=counts.workers_lost,
        hosts_lost=fleet.hosts_lost,
        hosts_joined=0 if fleet.joining is None else fleet.joining.count,
    )


def made_of(engine: "Engine") -> str:
    """The hosts of a pool that lives, in a line: each with its workers, joined, or why dropped."""
    parts = []
    for runner in list(engine.fleet.runners):
        text = f"{runner.spec.name}/{runner.wanted or 'auto'}"
        if runner.joined:
            text += " (joined)"
        standing = runner.standing
        gone = standing.info is None and standing.state is not State.CLOSED
        if gone and standing.error is not None:
            text += f" ({standing.state}: {_reason(standing.error).partition(chr(10))[0]})"
        parts.append(text)
    return ", ".join(parts) or "no hosts"
