"""Who pays for a lost worker. Pure.

The task that was running is blamed, and of a chunk the one item; whatever else the worker held had
not started. Only where nobody knows what had started does everything count as started.
"""

from collections.abc import Sequence
from typing import NamedTuple

from pool_client.errors import TaskTimeout, WorkerLost
from pool_client.scheduling.tasks import Task, Worker
from pool_protocol.messages import Lost


class Verdict(NamedTuple):
    """What becomes of a task whose worker was lost while it ran."""

    again: Sequence[Task]
    """What is to be run again, in order."""
    failed: Sequence[tuple[Task, Exception]]
    """What is not, and why."""
    retried: int
    """How many of ``again`` are blamed."""


def judge(worker: Worker, task: Task, report: Lost, known: bool) -> Verdict:
    """The verdict on a task that ``worker`` had started, or may have (``known`` False)."""
    before, blamed, after = task.split(report.item) if known else ((), task, ())
    again: list[Task] = []
    failed: list[tuple[Task, Exception]] = []
    retried = 0
    for part in (*before, blamed):
        # The items before the blamed one ran too, but it was not they who took the worker down.
        if part is blamed or task.terms.retries == 0:
            part.attempts += 1
        if part is blamed and report.reason == "timeout":
            failed.append((part, _timeout(task)))
        elif part.attempts > task.terms.retries:
            failed.append((part, lost_error(worker, report, part.attempts, task.function.name)))
        else:
            again.append(part)
            retried += part is blamed
    return Verdict([*again, *after], failed, retried)


def _timeout(task: Task) -> TaskTimeout:
    return TaskTimeout(
        f"{task.function.name} ran longer than its limit of {task.terms.timeout} s; "
        "its worker was killed and replaced"
    )


def lost_error(worker: Worker, report: Lost, attempts: int, task: str = "") -> WorkerLost:
    """The error of a task that lost its worker for the last time."""
    return WorkerLost(worker.host.name, worker.pid, report.exitcode, attempts, report.reason, task)
