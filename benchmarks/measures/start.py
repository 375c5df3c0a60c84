"""Start: until the first result, and until both workers have run a task."""

import time
from collections.abc import Callable
from functools import partial

from ..peers import LOKY, OURS, Loop, Peer, blocking, workers_of
from ..plan import Plan, interleave
from ..report import Report
from ..tasks import increment


def first_result(start: Callable[[], Peer]) -> float:
    """Start a pool and return the milliseconds until its first result is there."""
    return started(start, lambda peer: peer.call(increment, 1))


def all_ready(start: Callable[[], Peer]) -> float:
    """Start a pool and return the milliseconds until each worker has run a task."""
    return started(start, workers_of)


def started(start: Callable[[], Peer], use: Callable[[Peer], object]) -> float:
    """Start a pool, use it, end it; return the milliseconds up to the end of the use."""
    begin = time.perf_counter()
    peer = start()
    try:
        use(peer)
        return (time.perf_counter() - begin) * 1e3
    finally:
        peer.close()


def measure(plan: Plan) -> Report:
    """Start and end each contestant anew in each round."""
    report, starters = Report(), blocking(Loop())
    for text, use in (
        ("start to first result", first_result),
        ("start to two workers ready", all_ready),
    ):
        figures = interleave(
            {name: partial(use, start) for name, start in starters.items()}, plan.rounds(9), 50
        )
        report.record(text, "ms", figures)
    report.at_most("two workers ready: Pool / loky", figures[OURS], figures[LOKY], 1.5)
    return report
