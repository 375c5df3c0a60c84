"""Memory: of a worker, and of the client while it maps ten million items."""

import os
from collections.abc import Iterable
from itertools import count

from pool_client import Pool

from ..peers import OURS, Loop, blocking, opened, workers_of
from ..plan import Plan
from ..processes import resident, unshared
from ..report import Report, Target
from ..stats import median
from ..tasks import increment

ITEMS = 10_000_000


def workers(plan: Plan) -> Report:
    """The unshared memory of a worker that has run a few tasks."""
    report = Report()
    with opened(blocking(Loop())) as peers:
        for name, peer in peers.items():
            sizes = [unshared(pid) for pid in workers_of(peer)]
            report.record("memory of a worker", "MB", {name: sizes})
        parent = peers[OURS].call(os.getppid)
        report.record("memory of the supervisor", "MB", {OURS: [unshared(parent)]})
    return report


def mapping(plan: Plan) -> Report:
    """How far the client's resident memory strays while items of an unbounded input go by."""
    with Pool(2) as pool:
        sizes = sampled(pool.map(increment, count()))
    settled = sizes[len(sizes) // 10 :]
    drift = max(abs(size - settled[0]) for size in settled)
    report = Report()
    report.record("resident memory over 10 million items", "MB", {OURS: [median(sizes)]})
    report.targets.append(
        Target(
            "resident memory over 10 million mapped items: change",
            drift,
            20,
            at_most=True,
            unit="MB",
        )
    )
    return report


def sampled(results: Iterable[int]) -> list[float]:
    """Take the results and return the resident memory, in MB, at each hundredth of the way."""
    sizes, step = [], ITEMS // 100
    for expected, result in enumerate(results, 1):
        if result != expected:
            raise ValueError("the results are wrong")
        if result % step == 0:
            sizes.append(resident())
            if result == ITEMS:
                break
    return sizes
