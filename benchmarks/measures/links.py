"""Hosts that are far away: a line with a delay, and what crosses ssh in a second."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pool_client import Pool

from ..peers import OURS
from ..plan import Plan, interleave, rate
from ..report import Report
from ..tasks import increment

#: Where the stand-in for ssh is, and the sshd on loopback.
TESTS = Path(__file__).parents[2] / "packages" / "pool-client" / "tests"
if str(TESTS) not in sys.path:
    sys.path.append(str(TESTS))

#: Seconds each way.
DELAY = 0.02
MIB = 1 << 20
SIZE = 100 * MIB

NEAR = "Pool, no delay"
QSIZE_2 = "Pool, qsize=2"
CAT = "cat | ssh cat"


@contextmanager
def far(delay: float, **options: Any) -> Iterator[Pool]:
    """Open a pool of two workers at the end of a line of this delay, which know the function."""
    from hosts import fake_ssh

    command = fake_ssh.command(delay)
    with Pool(0, "ssh://far/2", ssh_command=command, **options) as pool:
        singles(pool, 100)
        yield pool


def singles(pool: Pool, count: int) -> None:
    """Submit tiny tasks one by one, and wait for all of them."""
    futures = [pool.submit(increment, number) for number in range(count)]
    if sum(future.result() for future in futures) != count * (count + 1) // 2:
        raise ValueError("the results are wrong")


def mapped(pool: Pool, count: int) -> None:
    """Map with defaults, and take every result."""
    if sum(pool.map(increment, range(count))) != count * (count + 1) // 2:
        raise ValueError("the results are wrong")


def measure(plan: Plan) -> Report:
    """Take the same pool with a delay of 20 ms each way and with none."""
    few, many = plan.count(400, 200), plan.count(40_000, 20_000)
    items = plan.count(8_000_000, 4_000_000)
    with far(0) as near_pool, far(DELAY) as far_pool, far(DELAY, qsize=2) as lockstep:
        single = interleave(
            {
                QSIZE_2: lambda: rate(few, partial(singles, lockstep, few)),
                OURS: lambda: rate(many, partial(singles, far_pool, many)),
                NEAR: lambda: rate(many, partial(singles, near_pool, many)),
            },
            plan.rounds(5),
        )
        whole = interleave(
            {
                OURS: lambda: rate(items, partial(mapped, far_pool, items)),
                NEAR: lambda: rate(items, partial(mapped, near_pool, items)),
            },
            plan.rounds(7),
        )
    report = Report()
    report.record("single tasks, 20 ms each way", "tasks/s", single)
    report.record("map with defaults, 20 ms each way", "items/s", whole)
    report.at_least(
        "single tasks, 20 ms each way: Pool / Pool with qsize=2", single[OURS], single[QSIZE_2], 200
    )
    report.at_least("map, 20 ms each way: Pool / without delay", whole[OURS], whole[NEAR], 0.5)
    return report


def large(plan: Plan) -> Report:
    """Send an array of 100 MiB through a real sshd, as a task's argument and with cat."""
    import numpy
    from hosts import sshd

    if sshd.find() is None:
        print(sshd.MISSING)
        return Report()
    array = numpy.random.default_rng(0).integers(0, 1 << 62, SIZE // 8)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "array").write_bytes(array)
        server = stack.enter_context(sshd.Sshd(folder / "sshd"))
        pool = stack.enter_context(Pool(0, server.host(1), ssh_command=server.command))
        if pool.run(last, array) != int(array[-1]):
            raise ValueError("what arrived is not what was sent")
        words = [*server.command, "-p", str(server.port), "127.0.0.1", "cat >/dev/null"]
        figures = interleave(
            {
                CAT: partial(speed, partial(cat, folder / "array", words)),
                OURS: partial(speed, partial(pool.run, last, array)),
            },
            plan.rounds(7),
        )
    report = Report()
    report.record("100 MiB array through ssh", "MiB/s", figures)
    report.at_least(
        "100 MiB array through ssh: Pool / cat | ssh cat", figures[OURS], figures[CAT], 0.7
    )
    return report


def last(array: Any) -> int:
    """Return the last number of an array."""
    return int(array[-1])


def cat(file: Path, words: list[str]) -> None:
    """Send a file with ssh alone."""
    with file.open("rb") as data:
        subprocess.run(words, stdin=data, check=True)


def speed(send: Any) -> float:
    """Return how many MiB a second are sent."""
    begin = time.perf_counter()
    send()
    return SIZE / MIB / (time.perf_counter() - begin)
