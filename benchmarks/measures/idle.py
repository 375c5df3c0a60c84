"""Idle: what a pool without tasks costs."""

import asyncio
import os
import time

from ..peers import OURS, WORKERS, AsyncPoolPeer, ExecutorPeer, Loop, start_ours, workers_of
from ..plan import Plan
from ..processes import processor_time
from ..report import Report, Target

LIMIT = 1.0
"""Milliseconds of processor time a second, of all processes together: a thousandth of one CPU."""


def cost(pids: list[int], loop: Loop | None, seconds: float) -> float:
    """Do nothing and return the processor time of the processes, in ms a second."""
    before = [processor_time(pid) for pid in pids]
    if loop is None:
        time.sleep(seconds)
    else:
        loop.run(asyncio.sleep(seconds))
    after = [processor_time(pid) for pid in pids]
    return (sum(after) - sum(before)) / seconds * 1e3


def measure(plan: Plan) -> Report:
    """A pool with a thread of its own, then one on an event loop of the caller's."""
    seconds, report, loop = plan.count(8, 3), Report(), Loop()
    pools: list[tuple[str, ExecutorPeer | AsyncPoolPeer, Loop | None]] = [
        ('own thread', start_ours(), None), ('on a loop', AsyncPoolPeer(loop, WORKERS), loop)]
    for kind, peer, used in pools:
        workers = workers_of(peer)
        supervisor = peer.together(parent_of_worker, None, 1)[0]
        time.sleep(1)
        figure = cost([os.getpid(), supervisor, *workers], used, seconds)
        peer.close()
        report.record(f'idle, {kind}', 'ms/s', {OURS: [figure]})
        report.targets.append(Target(f'idle pool, {kind}: processor time of all its processes',
                                     figure, LIMIT, at_most=True, unit='ms/s'))
    return report


def parent_of_worker(_: None) -> int:
    """Return the process id of the worker's supervisor."""
    return os.getppid()
