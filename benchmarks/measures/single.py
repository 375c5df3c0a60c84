"""Single tasks: each submitted with a future of its own, all of them, and then awaited."""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from ..peers import (
    DISTEX,
    DISTEX_100,
    EXECUTOR,
    MULTIPROCESSING,
    OURS,
    WORKERS,
    AsyncPoolPeer,
    DistexPeer,
    Loop,
    Peer,
    blocking,
    opened,
)
from ..plan import Plan, interleave, rate
from ..processes import own_processor_time
from ..report import Report
from ..tasks import closure, increment

MODULE = "function of a module"
MAIN = "function of __main__"
CLOSURE = "closure"


def functions() -> dict[str, Callable[[int], int]]:
    """Return a task of each kind; the one of `__main__` is in the module that is run."""
    return {MODULE: increment, MAIN: sys.modules["__main__"].increment_in_main, CLOSURE: closure()}


def singles(peer: Peer, func: Callable[[int], int], count: int) -> float:
    """Run single tasks, check their results and return how many a second."""
    totals: list[int] = []
    figure = rate(count, lambda: totals.append(peer.singles(func, count)))
    if totals != [count * (count + 1) // 2]:
        raise ValueError("the results are wrong")
    return figure


def asynchronous(plan: Plan) -> Report:
    """Single tasks, awaited; and what one costs the client in processor time."""
    loop, count, costs = Loop(), plan.count(100_000, 20_000), []
    starters: dict[str, Callable[[], Any]] = {
        DISTEX: partial(DistexPeer, loop, WORKERS),
        DISTEX_100: partial(DistexPeer, loop, WORKERS, 100),
        OURS: partial(AsyncPoolPeer, loop, WORKERS),
    }

    def timed(peer: Peer, func: Callable[[int], int]) -> float:
        before = own_processor_time()
        figure = singles(peer, func, count)
        costs.append((own_processor_time() - before) / count * 1e6)
        return figure

    with opened(starters) as peers:
        contestants = {
            (name, MODULE): partial(singles, peer, increment, count)
            for name, peer in peers.items()
            if name != OURS
        }
        contestants |= {
            (OURS, kind): partial(timed, peers[OURS], func) for kind, func in functions().items()
        }
        figures = interleave(contestants, plan.rounds(7), 100)
    report = Report()
    for kind in functions():
        report.record(
            f"single tasks, async, {kind}",
            "tasks/s",
            {name: v for (name, used), v in figures.items() if used == kind},
        )
    for kind in functions():
        ours = figures[OURS, kind]
        report.at_least(
            f"async single tasks, {kind}: Pool / distex", ours, figures[DISTEX, MODULE], 5
        )
        report.at_least(
            f"async single tasks, {kind}: Pool / distex qsize=100",
            ours,
            figures[DISTEX_100, MODULE],
            2.5,
        )
    report.record("processor time of the client, async", "µs/task", {OURS: costs})
    report.limit("client processor time of an async single task", costs, 5, "µs")
    return report


def blocking_singles(plan: Plan) -> Report:
    """Single tasks with `submit` and `result`."""
    loop, count = Loop(), plan.count(100_000, 10_000)
    # distex is not here: the futures of its `submit` need a running loop.
    starters = {name: start for name, start in blocking(loop).items() if name != DISTEX}
    with opened(starters) as peers:
        contestants = {
            (name, MODULE): partial(singles, peer, increment, count) for name, peer in peers.items()
        }
        contestants |= {
            (OURS, kind): partial(singles, peers[OURS], func, count)
            for kind, func in functions().items()
        }
        figures = interleave(contestants, plan.rounds(5), 110)
    report = Report()
    for kind in functions():
        report.record(
            f"single tasks, submit + result, {kind}",
            "tasks/s",
            {name: v for (name, used), v in figures.items() if used == kind},
        )
    for kind in functions():
        ours = figures[OURS, kind]
        report.at_least(
            f"submit + result, {kind}: Pool / ProcessPoolExecutor",
            ours,
            figures[EXECUTOR, MODULE],
            5,
        )
        report.at_least(
            f"submit + result, {kind}: Pool / multiprocessing.Pool",
            ours,
            figures[MULTIPROCESSING, MODULE],
            1.5,
        )
    return report
