"""Idle: what a pool without tasks costs."""

import asyncio
import os
import time

from ..peers import OURS, WORKERS, AsyncPoolPeer, Loop, Peer, start_ours, workers_of
from ..plan import Plan
from ..processes import processor_time
from ..report import Report, Target

LIMIT = 1.0
"""Milliseconds of processor time a second, of all processes together: a thousandth of one CPU."""


def cost(others: list[int], loop: Loop | None, seconds: float) -> float:
    """Do nothing; return the processor time of this and other processes, in ms a second."""
    before = sum(map(processor_time, others))
    ours = time.process_time()
    if loop is None:
        time.sleep(seconds)
    else:
        loop.run(asyncio.sleep(seconds))
    ours = time.process_time() - ours
    return (ours + sum(map(processor_time, others)) - before) / seconds * 1e3


def measure(plan: Plan) -> Report:
    """A pool with a thread of its own, then one on an event loop of the caller's."""
    seconds, report, loop = plan.count(8, 3), Report(), Loop()
    pools: list[tuple[str, Peer, Loop | None]] = [
        ("own thread", start_ours(), None),
        ("on a loop", AsyncPoolPeer(loop, WORKERS), loop),
    ]
    for kind, peer, used in pools:
        workers = workers_of(peer)
        supervisor = peer.call(os.getppid)
        time.sleep(1)
        figure = cost([supervisor, *workers], used, seconds)
        peer.close()
        report.record(f"idle, {kind}", "ms/s", {OURS: [figure]})
        report.targets.append(
            Target(
                f"idle pool, {kind}: processor time of all its processes",
                figure,
                LIMIT,
                at_most=True,
                unit="ms/s",
            )
        )
    return report
