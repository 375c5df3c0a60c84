"""`map`: with defaults, one item at a time, and a thousand at a time."""

from collections.abc import Iterable
from functools import partial

from ..peers import EXECUTOR, MULTIPROCESSING, OURS, Loop, Peer, blocking, opened
from ..plan import Plan, interleave, rate
from ..report import Report
from ..tasks import increment

GENERATOR = "Pool, from a generator"


def mapped(peer: Peer, items: Iterable[int], count: int, chunksize: int | None) -> None:
    """Take every result of one `map`, as they come, and check them."""
    if sum(peer.map(increment, items, chunksize)) != count * (count + 1) // 2:
        raise ValueError("the results are wrong")


def speed(peer: Peer, count: int, chunksize: int | None, sized: bool = True) -> float:
    """Return how many items a second go through `map`."""
    items = range(count) if sized else (number for number in range(count))
    return rate(count, partial(mapped, peer, items, count, chunksize))


def defaults(plan: Plan) -> Report:
    """Ours with nothing said, streaming, against the peers' fastest ways to map."""
    count = plan.count(2_000_000, 1_000_000)
    starters = blocking(Loop())
    with opened({name: starters[name] for name in (EXECUTOR, MULTIPROCESSING, OURS)}) as peers:
        figures = interleave(
            {
                EXECUTOR: partial(speed, peers[EXECUTOR], count, 1000),
                MULTIPROCESSING: partial(speed, peers[MULTIPROCESSING], count, None),
                OURS: partial(speed, peers[OURS], count, None),
                GENERATOR: partial(speed, peers[OURS], count, None, sized=False),
            },
            plan.rounds(11, 5),
        )
    report = Report()
    report.record("map, Pool with defaults, peers at their best", "items/s", figures)
    report.at_least(
        "map with defaults: Pool / ProcessPoolExecutor, chunksize 1,000",
        figures[OURS],
        figures[EXECUTOR],
        1.2,
    )
    report.at_least(
        "map with defaults: Pool / multiprocessing.Pool.map (a barrier)",
        figures[OURS],
        figures[MULTIPROCESSING],
        0.7,
    )
    return report


def chunked(name: str, chunksize: int, count: int, rounds: int) -> Report:
    """Map with one chunksize for all."""
    with opened(blocking(Loop())) as peers:
        figures = interleave(
            {name: partial(speed, peer, count, chunksize) for name, peer in peers.items()}, rounds
        )
    report = Report()
    report.record(name, "items/s", figures)
    return report


def one_by_one(plan: Plan) -> Report:
    """Map with an item a message: the default of all the peers but multiprocessing.Pool."""
    return chunked("map, chunksize 1", 1, plan.count(50_000, 10_000), plan.rounds(5))


def by_thousands(plan: Plan) -> Report:
    """Map with a thousand items a message."""
    return chunked("map, chunksize 1,000", 1000, plan.count(2_000_000, 500_000), plan.rounds(7))
