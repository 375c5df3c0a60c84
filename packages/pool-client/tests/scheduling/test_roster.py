"""Which of the workers can take tasks."""

from scheduler_model import MS, function, single, worker

from pool_client.scheduling.roster import Roster
from pool_client.scheduling.tasks import Host


def make(*hosts, **settings):
    """A roster with a worker on each host."""
    roster = Roster(**settings)
    made = [worker(number, host) for number, host in enumerate(hosts, 1)]
    for one in made:
        roster.join(one, 5)
    return roster, made


def give(one, count, cost=0.0):
    for id in range(len(one.tasks) + 1, len(one.tasks) + count + 1):
        one.tasks[id] = single(function())
        one.work += cost


def test_who_joins_is_idle_and_expected_no_more():
    host = Host("box", 2)
    roster = Roster()
    roster.expect(host, 2)
    assert (roster.coming, host.coming) == (2, 2)
    one, other = worker(1, host), worker(2, host)
    roster.join(one, 7)
    assert (roster.coming, host.coming) == (1, 1)
    assert (one.joined, one.last_heard) == (7, 7)
    roster.join(other, 8)
    roster.join(worker(3, host), 9)
    assert (roster.coming, host.coming) == (0, 0), "one that nobody expected"
    assert list(roster.idle) == list(roster.workers) == [1, 2, 3]


def test_who_was_expected_may_not_come():
    host = Host("box", 2)
    roster = Roster()
    roster.expect(host, 2)
    roster.expect(host, -2)
    assert (roster.coming, host.coming) == (0, 0)


def test_by_load():
    roster, [one] = make(Host("box", 1))
    give(one, 1)
    roster.settle(one)
    assert one.id in roster.open
    give(one, 1, cost=100 * MS)
    roster.settle(one)
    assert one.id in roster.deep
    one.tasks.clear()
    roster.settle(one)
    assert (list(roster.idle), list(roster.open), list(roster.deep)) == ([1], [], [])
    assert (one.work, one.nbytes) == (0, 0)


def test_by_number():
    roster, [one] = make(Host("box", 1), qsize=2)
    roster.idle.clear()
    give(one, 1)
    roster.settle(one)
    assert one.id in roster.open
    roster.open.clear()
    give(one, 1)
    roster.settle(one)
    assert not roster.open
    roster.settle(one, reopen=False)
    assert not roster.open


def test_who_retires_gets_nothing_more():
    roster, [one, other] = make(Host("box", 2), Host("box", 2))
    give(other, 1)
    roster.settle(other)
    for each in (one, other):
        roster.retire(each)
        assert each.id not in roster.open
        roster.settle(each)
    assert one.id not in roster.idle
    assert other.id not in roster.open
    assert other.id in roster.workers


def test_who_is_suspended_or_gone_is_nowhere():
    roster, [one, other] = make(Host("box", 2), Host("box", 2))
    give(one, 2)
    roster.settle(one)
    roster.suspend(one)
    roster.settle(one)
    assert one.dead
    assert one.id in roster.workers
    roster.remove(one)
    roster.remove(other)
    for place in (roster.workers, roster.idle, roster.open, roster.deep):
        assert not place


def test_by_host():
    here, there = Host("here", 2), Host("there", 1)
    roster, [one, two, far] = make(here, here, there)
    assert roster.at(here) == [one, two]
    assert roster.elsewhere(here)
    assert roster.elsewhere(there)
    roster.retire(far)
    assert not roster.elsewhere(here), "it takes nothing any more"
    roster.suspend(one)
    assert roster.elsewhere(there)
    roster.suspend(two)
    assert not roster.elsewhere(there)


def test_who_stays():
    here, there = Host("here", 1), Host("there", 1)
    roster, [one, far] = make(here, there)
    there.closed = ConnectionError("gone")
    assert roster.staying == [one]
    assert far.id in roster.workers


def test_idle_workers_take_first():
    roster, [one, other] = make(Host("box", 2), Host("box", 2))
    give(one, 1)
    roster.idle.pop(one.id)
    roster.settle(one)
    assert list(roster.takers()) == [other, one]
