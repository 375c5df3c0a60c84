"""Round trip: one task at a time, beside 64 bytes to a bare process and back."""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from ..machine import Echo
from ..peers import (
    DISTEX,
    EXECUTOR,
    MACHINE,
    OURS,
    WORKERS,
    AsyncPoolPeer,
    Loop,
    blocking,
    opened,
)
from ..plan import Plan, interleave
from ..report import Report
from ..stats import median
from ..tasks import increment

ASYNC = "Pool, async"


def trips(call: Callable[..., Any], count: int, *args: Any) -> float:
    """Make round trips one after the other and return the median of their times, in µs."""
    clock, times = time.perf_counter, []
    for _ in range(count):
        start = clock()
        call(*args)
        times.append(clock() - start)
    return median(times) * 1e6


async def awaited_trips(call: Callable[..., Awaitable[int]], count: int) -> float:
    """Do the same with something to await."""
    clock, times = time.perf_counter, []
    for _ in range(count):
        start = clock()
        await call(increment, 1)
        times.append(clock() - start)
    return median(times) * 1e6


def awaited(loop: Loop, peer: Any, count: int) -> float:
    """Make a block of round trips on the event loop."""
    return loop.run(awaited_trips(peer.call_async, count))


def measure(plan: Plan) -> Report:
    """Take turns in blocks of a hundred trips."""
    echo, loop, block = Echo(), Loop(), 100
    starters: dict[str, Callable[[], Any]] = {
        **blocking(loop),
        ASYNC: partial(AsyncPoolPeer, loop, WORKERS),
    }
    with opened(starters) as peers:
        contestants: dict[str, Callable[[], float]] = {MACHINE: partial(trips, echo.trip, block)}
        for name, peer in peers.items():
            if name in (DISTEX, ASYNC):
                contestants[name] = partial(awaited, loop, peer, block)
            else:
                contestants[name] = partial(trips, peer.call, block, increment, 1)
        figures = interleave(contestants, plan.rounds(20, 20))
    echo.close()
    report, bare = Report(), figures.pop(MACHINE)
    at_once = {DISTEX: figures.pop(DISTEX), OURS: figures.pop(ASYNC)}
    report.record("round trip, async", "µs", {MACHINE: bare, **at_once})
    report.record("round trip, sync", "µs", {MACHINE: bare, **figures})
    report.at_most("round trip, async: Pool / bare socketpair", at_once[OURS], bare, 1.5)
    report.at_most(
        "round trip, sync: Pool / ProcessPoolExecutor", figures[OURS], figures[EXECUTOR], 0.7
    )
    return report
