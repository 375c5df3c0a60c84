"""Tasks that sleep for a millisecond on 200 real workers, beside what the machine can sleep."""

from functools import partial

from ..machine import NAP, Sleepers
from ..peers import MACHINE, OURS, AsyncPoolPeer, Loop
from ..plan import Plan, interleave
from ..processes import raise_descriptor_limit
from ..report import Report
from ..tasks import nap

WORKERS = 200
WAITING = 50 * WORKERS
"""Tasks that are submitted at any moment: enough to keep all workers busy."""


def measure(plan: Plan) -> Report:
    """Let plain processes and workers, as many, take turns in sleeping."""
    raise_descriptor_limit()
    sleepers, seconds = Sleepers(), plan.count(2, 1)
    peer = AsyncPoolPeer(Loop(), WORKERS)
    figures = interleave(
        {
            MACHINE: partial(sleepers.rate, WORKERS, seconds),
            OURS: partial(peer.sustained, nap, NAP, WAITING, seconds),
        },
        plan.rounds(9),
        60,
    )
    peer.close()
    sleepers.close()
    report = Report()
    report.record("sleeps of 1 ms, 200 processes", "a second", figures)
    report.at_least(
        "tasks that sleep 1 ms on 200 workers: Pool / the machine",
        figures[OURS],
        figures[MACHINE],
        0.7,
    )
    return report
