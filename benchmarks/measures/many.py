"""A thousand local workers: how long until each has run a task, and what each weighs."""

import os
import time

from pool_client import Pool

from ..peers import OURS
from ..plan import Plan
from ..processes import raise_descriptor_limit, unshared
from ..report import Report, Target

SECONDS_FOR_ALL = 20.0
MEGABYTES = 4.0


def measure(plan: Plan) -> Report:
    """Start them, let each say its process id, weigh them, end them."""
    raise_descriptor_limit()
    workers, report = plan.count(1000, 200), Report()
    begin = time.perf_counter()
    with Pool(workers) as pool:
        pids = pool.run_on_all(os.getpid)
        seconds = time.perf_counter() - begin
        if len(set(pids)) != workers:
            raise ValueError(f"{len(set(pids))} workers of {workers} ran the task")
        sizes = [unshared(pid) for pid in pids]
        begin = time.perf_counter()
    ended = time.perf_counter() - begin
    name = f"{workers:,} local workers"
    report.record(f"{name}, each has run a task", "s", {OURS: [seconds]})
    report.record(f"{name}, ended", "s", {OURS: [ended]})
    report.record(f"{name}, memory of each", "MB", {OURS: [sum(sizes) / workers]})
    report.targets.append(
        Target(
            f"{name} connected, each having run a task",
            seconds,
            SECONDS_FOR_ALL * workers / 1000,
            at_most=True,
            unit="s",
        )
    )
    report.targets.append(
        Target(
            f"{name}: unshared memory of each, on average",
            sum(sizes) / workers,
            MEGABYTES,
            at_most=True,
            unit="MB",
        )
    )
    return report
