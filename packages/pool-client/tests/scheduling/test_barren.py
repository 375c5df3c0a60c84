"""Hosts on which workers die and nothing gets done."""

from scheduler_model import lost, worker

from pool_client.scheduling.barren import MAX_BARREN, Barren
from pool_client.scheduling.roster import Roster
from pool_client.scheduling.tasks import Host


class World:
    """Two hosts with workers that come and die."""

    def __init__(self):
        self.roster = Roster()
        self.barren = Barren(self.roster)
        self.bad, self.good = Host("bad", 2, number=0), Host("good", 2, number=1)
        self.now = 0
        self.made = 0
        self.other = self.join(self.good)

    def join(self, host):
        self.now += 1
        self.made += 1
        made = worker(self.made, host)
        self.roster.join(made, self.now)
        return made

    def die(self, one, **report):
        self.now += 1
        self.roster.remove(one)
        return self.barren.died(one, lost(one, **report), self.now)


def test_a_host_that_only_kills_while_others_work_is_named():
    world = World()
    for _ in range(MAX_BARREN - 1):
        one = world.join(world.bad)
        world.other.done += 1
        assert world.die(one) is None
    one = world.join(world.bad)
    world.other.done += 1
    reason = world.die(one, exitcode=-11)
    assert "5 times in a row" in reason
    assert "SIGSEGV" in reason


def test_deaths_alone_say_nothing():
    world = World()
    for _ in range(50):
        assert world.die(world.join(world.bad)) is None
    assert world.bad.barren == 0


def test_what_others_did_before_counts_once():
    world = World()
    world.other.done = 1000
    for _ in range(50):
        assert world.die(world.join(world.bad)) is None
    assert world.bad.barren == 1


def test_whoever_completes_anything_is_forgiven():
    world = World()
    for _ in range(20):
        one = world.join(world.bad)
        world.other.done += 1
        one.done += world.made % 3 == 0
        assert world.die(one) is None
    assert world.bad.barren < MAX_BARREN


def test_another_worker_of_the_same_host_counts_for_it():
    world = World()
    beside = world.join(world.bad)
    for _ in range(20):
        world.other.done += 1
        beside.done += 1
        assert world.die(world.join(world.bad)) is None
    assert world.bad.barren == 0


def test_workers_that_die_together_count_once():
    world = World()
    together = [world.join(world.bad) for _ in range(13)]
    for one in together:
        world.other.done += 1
        assert world.die(one) is None
    assert world.bad.barren == 1


def test_a_task_past_its_limit_is_not_the_hosts_fault():
    world = World()
    for _ in range(20):
        one = world.join(world.bad)
        world.other.done += 1
        assert world.die(one, reason="timeout") is None
    assert world.bad.barren == 0


def test_what_workers_did_who_are_gone_is_not_forgotten():
    """Otherwise the end of a good worker would look like progress lost."""
    world = World()
    world.other.done = 100
    assert world.die(world.other) is None
    assert world.good.done == 100
    one = world.join(world.good)
    one.done = 1
    world.die(one)
    assert world.good.barren == 0


def test_what_others_did_who_are_gone_counts_as_well():
    """Workers that are replaced after each task get things done, too."""
    world = World()
    reasons = []
    for _ in range(MAX_BARREN):
        helper = world.join(world.good)
        helper.done = 1
        world.die(helper, exitcode=0)
        reasons.append(world.die(world.join(world.bad)))
    assert reasons[:-1] == [None] * (MAX_BARREN - 1)
    assert reasons[-1]
