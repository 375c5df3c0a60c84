"""Single tasks with 2,000 connected workers beside 2: what a worker more costs the client."""

from functools import partial

from ..peers import OURS, AsyncPoolPeer, Loop
from ..plan import Plan, interleave
from ..processes import own_processor_time, raise_descriptor_limit
from ..report import Report
from ..simulated import registered
from ..tasks import increment
from .single import singles

FEW, MANY = 2, 2000
PROGRAMS = 2


def measure(plan: Plan) -> Report:
    """Take turns between the two pools, whose workers are in as many programs."""
    raise_descriptor_limit()
    loop, count = Loop(), plan.count(100_000, 50_000)
    costs: dict[int, list[float]] = {FEW: [], MANY: []}
    with registered():
        pools = {workers: start(loop, workers) for workers in costs}

    def timed(workers: int) -> float:
        before = own_processor_time()
        figure = singles(pools[workers], increment, count)
        costs[workers].append((own_processor_time() - before) / count * 1e6)
        return figure

    for workers in costs:
        singles(pools[workers], increment, count // 10)
    figures = interleave(
        {str(workers): partial(timed, workers) for workers in costs}, plan.rounds(11), 60
    )
    for pool in pools.values():
        pool.close()
    report = Report()
    for workers in costs:
        name = f"{workers:,} simulated workers"
        report.record(f"single tasks, async, {name}", "tasks/s", {OURS: figures[str(workers)]})
        report.record(f"processor time of the client, {name}", "µs/task", {OURS: costs[workers]})
    report.at_least(
        "single tasks: 2,000 simulated workers / 2", figures[str(MANY)], figures[str(FEW)], 0.8
    )
    report.at_most(
        "client processor time of a task: 2,000 simulated workers / 2",
        costs[MANY],
        costs[FEW],
        1.25,
    )
    return report


def start(loop: Loop, workers: int) -> AsyncPoolPeer:
    """Start a pool of simulated workers."""
    hosts = [f"simulated://program-{number}/{workers // PROGRAMS}" for number in range(PROGRAMS)]
    return AsyncPoolPeer(loop, 0, hosts=hosts)
