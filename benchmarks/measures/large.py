"""Large data there and back: 8 MiB of bytes and a NumPy array of 64 MiB."""

import time
from functools import partial
from typing import Any

from ..peers import EXECUTOR, OURS, Loop, Peer, blocking, opened
from ..plan import Plan, interleave
from ..report import Report
from ..tasks import identity

MIB = 1 << 20


def speed(peer: Peer, value: Any, size: int, times: int) -> float:
    """Send a value and get it back, and return the MiB a second of both ways together."""
    start = time.perf_counter()
    for _ in range(times):
        answer = peer.call(identity, value)
    seconds = time.perf_counter() - start
    if len(answer) != len(value) or answer[-1] != value[-1]:
        raise ValueError("what came back is not what was sent")
    return 2 * times * size / MIB / seconds


def measure(plan: Plan) -> Report:
    """One task at a time, so that what is measured is the way there and back."""
    import numpy

    small = bytes(range(256)) * (8 * MIB // 256)
    array = numpy.arange(8 * MIB, dtype="float64")
    report = Report()
    with opened(blocking(Loop())) as peers:
        for text, value, size, times, limit in (
            ("8 MiB of bytes", small, 8 * MIB, 5, 4),
            ("64 MiB array", array, 64 * MIB, 1, 6),
        ):
            figures = interleave(
                {name: partial(speed, peer, value, size, times) for name, peer in peers.items()},
                plan.rounds(11),
                60,
            )
            report.record(f"{text} there and back", "MiB/s", figures)
            report.at_least(
                f"{text}: Pool / ProcessPoolExecutor", figures[OURS], figures[EXECUTOR], limit
            )
    return report
