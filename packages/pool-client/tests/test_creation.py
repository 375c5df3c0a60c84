"""Whether a pool could be created; more of it, with real hosts, is in faults/test_hosts.py."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from pool_client.errors import HostError, PoolBroken
from pool_client.hosts.creation import Creation, broken, combined
from pool_client.launchers import HostSpec


@dataclass(eq=False)
class Runner:
    """A host as far as its creation is concerned."""

    name: str
    wanted: int = 2
    ready: int = 0
    connected: bool = True
    joined: bool = False
    error: BaseException | None = None
    host: str = ""
    spec: HostSpec = field(init=False)

    def __post_init__(self):
        self.spec = HostSpec("play", self.name, self.wanted)

    @property
    def seats(self):
        return SimpleNamespace(ready=self.ready)

    @property
    def complete(self):
        return bool(self.wanted) and self.ready == self.wanted

    def overdue(self):
        return None if self.connected else HostError(self.name, "it is late")


class Fleet:
    """A fleet of such hosts, on a loop."""

    def __init__(self, *runners, timeout=20.0, least=None):
        self.active = list(runners)
        self.waited_for = list(runners)
        scheduler = SimpleNamespace(broken=None, stop_waiting=self.stop_waiting)
        self.engine = SimpleNamespace(
            loop=asyncio.get_running_loop(), scheduler=scheduler, pump=lambda: None
        )
        self.options = SimpleNamespace(connect_timeout=timeout, min_workers=least)
        for runner in runners:
            runner.host = runner.name
        self.creation = Creation(self)
        self.outcomes = []
        self.creation.when_done(self.outcomes.append)
        self.creation.start()

    @property
    def wanted(self):
        return sum(runner.wanted for runner in self.active)

    def stop_waiting(self, host, error):
        self.waited_for = [runner for runner in self.waited_for if runner.name != host]

    def look(self):
        ready = sum(runner.ready for runner in self.active)
        self.engine.scheduler.workers = dict.fromkeys(range(ready))
        self.creation.look()

    def fail(self, error):
        self.engine.scheduler.broken = error
        self.creation.settle(error)


def run(main):
    return asyncio.run(asyncio.wait_for(main, 20))


async def outcome(fleet):
    while not fleet.outcomes:
        await asyncio.sleep(0.005)
    return fleet.outcomes[0]


def test_when_every_worker_is_there_it_is_done():
    async def main():
        one, two = Runner("one"), Runner("two", 1)
        fleet = Fleet(one, two)
        fleet.look()
        one.ready = 2
        fleet.look()
        assert fleet.outcomes == []
        fleet.active.append(Runner("three", joined=True))
        two.ready = 1
        fleet.look()
        fleet.look()
        assert fleet.outcomes == [None]
        assert fleet.creation.done
        late = []
        fleet.creation.when_done(late.append)
        assert late == [None]

    run(main())


def test_a_host_without_a_number_is_waited_for():
    async def main():
        unknown = Runner("unknown", wanted=0)
        fleet = Fleet(unknown)
        fleet.look()
        assert fleet.outcomes == []
        unknown.wanted = unknown.ready = 3
        fleet.look()
        assert fleet.outcomes == [None]

    run(main())


def test_failures_are_told_when_the_others_are_up():
    async def main():
        good, bad, worse = Runner("good"), Runner("bad"), Runner("worse")
        fleet = Fleet(good, bad, worse)
        fleet.look()
        fleet.creation.failed(bad, HostError("bad", "no luck"))
        fleet.creation.failed(bad, HostError("bad", "again"))
        good.ready = 2
        fleet.look()
        assert fleet.outcomes == []
        fleet.creation.failed(worse, HostError("worse", "no power"))
        [error] = fleet.outcomes
        assert (error.host, "bad: no luck" in str(error)) == ("bad, worse", True)
        assert "worse: no power" in str(error)
        assert "again" not in str(error)

    run(main())


def test_when_time_is_over_the_late_and_the_failed_are_named():
    async def main():
        late, bad, slow = Runner("late", connected=False), Runner("bad"), Runner("slow")
        fleet = Fleet(late, bad, slow, timeout=0.05)
        fleet.look()
        fleet.creation.failed(bad, HostError("bad", "no luck"))
        error = await outcome(fleet)
        assert "late: it is late" in str(error)
        assert "bad: no luck" in str(error)

    run(main())


def test_workers_that_are_slow_are_counted():
    async def main():
        fleet = Fleet(Runner("one", ready=2), Runner("two", ready=1), timeout=0.05)
        fleet.look()
        error = await outcome(fleet)
        assert isinstance(error, PoolBroken)
        assert "only 3 of 4 workers were ready within 0.05 s: two (1 of 2)" in str(error)

    run(main())


def test_enough_is_enough_when_time_is_over():
    async def main():
        slow = Runner("slow")
        fleet = Fleet(Runner("one", ready=2), slow, timeout=0.05, least=2)
        fleet.look()
        assert await outcome(fleet) is None
        assert [runner.name for runner in fleet.waited_for] == ["one"]

    run(main())


def test_enough_is_enough_when_the_rest_is_in_trouble():
    async def main():
        bad = Runner("bad", connected=False)
        fleet = Fleet(Runner("one", ready=2), bad, least=2)
        fleet.look()
        assert fleet.outcomes == []
        bad.error = HostError("bad", "no luck")
        fleet.look()
        assert fleet.outcomes == [None]

    run(main())


def test_too_few_are_too_few():
    async def main():
        bad = Runner("bad", connected=False, error=HostError("bad", "no luck"))
        fleet = Fleet(Runner("one", ready=2), bad, least=3, timeout=0.05)
        fleet.look()
        assert fleet.outcomes == []
        assert "bad: it is late" in str(await outcome(fleet))

    run(main())


def test_only_the_first_outcome_counts():
    async def main():
        fleet = Fleet(Runner("one", ready=2))
        fleet.creation.settle(ValueError())
        fleet.creation.settle(None)
        fleet.look()
        assert [type(each) for each in fleet.outcomes] == [ValueError]

    run(main())


# -- errors


def test_one_error_stays_what_it_is():
    error = HostError("one", "no luck")
    assert combined([error]) is error


def test_several_are_told_together():
    first = HostError("one", "no luck\nat all")
    together = combined([first, HostError("two", "no power")])
    assert isinstance(together, HostError)
    assert str(together) == (
        "one, two: 2 hosts could not be started:\n  one: no luck\n    at all\n  two: no power"
    )
    assert together.__cause__ is first


def test_an_initializer_fails_everywhere():
    error = PoolBroken("the initializer failed")
    assert combined([HostError("one", "no luck"), error]) is error


@pytest.mark.parametrize("error", [HostError("box", "no such program"), PoolBroken("broken")])
def test_broken(error):
    """A HostError becomes the cause of a PoolBroken; a PoolBroken stays what it is."""
    made = broken(error)
    assert isinstance(made, PoolBroken)
    assert made is error or made.__cause__ is error
    assert str(error) in str(made)
