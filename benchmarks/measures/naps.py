"""Tasks that sleep for a millisecond on 200 real workers, beside what the machine can sleep."""

from functools import partial

from ..machine import NAP, Sleepers
from ..peers import MACHINE, OURS, AsyncPoolPeer, Loop
from ..plan import Plan, interleave, rate
from ..processes import raise_descriptor_limit
from ..report import Report
from ..tasks import nap

WORKERS = 200


def measure(plan: Plan) -> Report:
    """Let plain processes and workers, as many, take turns in sleeping."""
    raise_descriptor_limit()
    sleepers, count = Sleepers(), plan.count(100_000, 30_000)
    peer = AsyncPoolPeer(Loop(), WORKERS)
    figures = interleave(
        {
            MACHINE: partial(sleepers.rate, WORKERS, 1.0),
            OURS: partial(rate, count, partial(peer.repeat, nap, NAP, count)),
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
