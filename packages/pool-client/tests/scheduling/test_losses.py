"""Tasks taken out of workers' hands: to another host first, and what hosts do that go."""

import pytest
from scheduler_model import (
    MS,
    SECOND,
    Item,
    Recorder,
    RecordingBroadcast,
    chunk,
    function,
    lost,
    result,
    single,
    worker,
)

from pool_client.errors import WorkerLost
from pool_client.scheduling.policy import ELSEWHERE_NS
from pool_client.scheduling.scheduler import Scheduler
from pool_client.scheduling.tasks import DropHost, Host, RecallTasks, ReplaceWorker, RetireWorker

GONE = ConnectionError("it is gone")


class Pool:
    """A scheduler with some hosts, each with some workers."""

    def __init__(self, *counts, **settings):
        self.scheduler = Scheduler(**settings)
        self.hosts = [Host(f"box{n}", count, number=n) for n, count in enumerate(counts)]
        self.made = 0
        self.workers = [[self.join(host, i) for i in range(host.slots)] for host in self.hosts]

    def join(self, host, index, now=0):
        self.made += 1
        one = worker(self.made, host, host.slot(index))
        self.scheduler.joined(one, now)
        return one

    def fill(self, one, *tasks):
        """Put tasks into one worker's hands, whoever else is there."""
        others = {
            id: other for id, other in self.scheduler._roster.idle.items() if other is not one
        }
        for id in others:
            del self.scheduler._roster.idle[id]
        self.send(*tasks)
        assert list(one.tasks.values()) == list(tasks)
        self.scheduler._roster.idle.update(others)

    def send(self, *tasks, now=0):
        """Submit tasks; who got what, by worker."""
        self.scheduler.submit(tasks)
        return self.assign(now)

    def assign(self, now=0):
        return [(one, task) for one, batch in self.scheduler.assign(now) for task in batch]

    def lose(self, one, now=0, known=True, **report):
        started = next(iter(one.tasks), 0)
        self.scheduler.lost(one, lost(one, started, **report), now, known=known)

    def answer(self, one, now=0, count=None):
        answers = [result(id) for id in list(one.tasks)[:count]]
        for task, outcome in zip(*self.scheduler.results(one, answers, now), strict=True):
            task.resolve(outcome)

    def actions(self, kind):
        return [action for action in self.scheduler.take_actions() if isinstance(action, kind)]


def known(id=1):
    """A function whose service time is known: as many tasks are sent at once as may be."""
    func = function(id)
    func.estimate.add(MS)
    return func


class Looking(Recorder):
    """A task whose user looks at the pool the moment it fails."""

    def __init__(self, scheduler, seen, **settings):
        super().__init__(function(), [Item()], **settings)
        self._scheduler = scheduler
        self._seen = seen

    def fail(self, error):
        super().fail(error)
        scheduler = self._scheduler
        counts = scheduler.counts
        self._seen.append(
            (scheduler.held, scheduler.waiting, counts.workers_lost, scheduler.broken is not None)
        )


# -- another host first


def test_a_lost_task_goes_to_another_host_although_its_own_is_idle():
    pool = Pool(1, 1)
    [one], [other] = pool.workers
    task = single(function())
    [(first, _)] = pool.send(task)
    second = other if first is one else one
    pool.join(first.host, 5)
    pool.lose(first)
    assert pool.assign() == [(second, task)]


def test_it_waits_for_another_host_that_is_busy():
    pool = Pool(1, 1, qsize=1)
    [one], [other] = pool.workers
    tasks = [single(function()) for _ in range(2)]
    sent = dict(pool.send(*tasks))
    lost_task = sent[one]
    pool.lose(one)
    idle = pool.join(one.host, 0)
    assert pool.assign() == []
    assert pool.scheduler.waiting == 1
    assert pool.scheduler.needs_tick
    fresh = single(function(2))
    assert pool.send(fresh) == [(idle, fresh)], "others do not wait for it"
    pool.answer(other)
    assert pool.assign() == [(other, lost_task)]


def test_after_a_while_any_host_will_do():
    pool = Pool(1, 1, qsize=1)
    [one], _ = pool.workers
    tasks = [single(function()) for _ in range(2)]
    sent = dict(pool.send(*tasks))
    pool.lose(one, now=SECOND)
    idle = pool.join(one.host, 0)
    assert pool.assign(SECOND + ELSEWHERE_NS - 1) == []
    assert pool.assign(SECOND + ELSEWHERE_NS) == [(idle, sent[one])]


@pytest.mark.parametrize("reason", ["", "timeout"])
def test_who_sees_a_task_fail_sees_what_its_end_has_led_to(reason):
    pool = Pool(1, qsize=3)
    [one] = pool.workers[0]
    seen = []
    pool.send(Looking(pool.scheduler, seen, retries=0, timeout=1.0), *[single(known())] * 2)
    pool.lose(one, reason=reason)
    assert seen == [(0, 2, 1, False)]


def test_who_sees_a_pool_break_sees_that_it_is_broken():
    pool = Pool(1, qsize=2)
    [one] = pool.workers[0]
    seen = []
    pool.send(*[Looking(pool.scheduler, seen, retries=0) for _ in range(4)])
    pool.scheduler.counts.trouble = 10**6
    pool.lose(one)
    assert seen == [(0, 0, 1, True)] * 4


@pytest.mark.parametrize("known", [True, False], ids=["each by itself", "with their host"])
def test_workers_that_die_all_at_once_do_not_break_a_large_pool(known):
    """A pool of so many endures so many deaths, also when the last one of them is gone."""
    pool = Pool(100)
    [workers] = pool.workers
    for one in workers:
        pool.lose(one, known=known)
    assert pool.scheduler.broken is None
    assert pool.scheduler.counts.workers_lost == 100


def test_a_host_that_is_lost_is_one_death():
    """A pool that has nothing to do may lose it again and again, whatever its size."""
    pool = Pool(100, 1)
    host, workers = pool.hosts[0], pool.workers[0]
    for _ in range(20):
        for one in workers:
            pool.lose(one, known=False)
        workers = [pool.join(host, index) for index in range(100)]
    assert pool.scheduler.broken is None
    assert pool.scheduler.counts.trouble == 20


def test_where_there_is_no_other_host_it_goes_to_its_own():
    pool = Pool(2)
    one, other = pool.workers[0]
    task = single(function())
    [(first, _)] = pool.send(task)
    pool.lose(first)
    [(second, _)] = pool.assign()
    assert {first, second} == {one, other}


def test_when_the_other_hosts_end_it_goes_to_its_own():
    pool = Pool(1, 1, qsize=1)
    [one], [other] = pool.workers
    tasks = [single(function(), retries=3) for _ in range(2)]
    sent = dict(pool.send(*tasks))
    pool.lose(one)
    back = pool.join(one.host, 0)
    assert pool.assign() == []
    pool.lose(other)
    assert pool.assign() == [(back, sent[other])], "that one was lost elsewhere"
    pool.answer(back)
    assert pool.assign() == [(back, sent[one])]


def test_what_had_not_started_may_go_anywhere():
    pool = Pool(2, 1, qsize=3)
    one, beside = pool.workers[0]
    [other] = pool.workers[1]
    tasks = [single(known()) for _ in range(3)]
    pool.fill(one, *tasks)
    pool.fill(other, single(known()))
    pool.lose(one)
    assert pool.assign() == [(beside, tasks[1]), (beside, tasks[2])]
    pool.answer(other)
    assert pool.assign() == [(other, tasks[0])]


def test_it_goes_ahead_of_what_waits():
    pool = Pool(1, 1, qsize=1)
    [one], [other] = pool.workers
    tasks = [single(function()) for _ in range(4)]
    sent = dict(pool.send(*tasks))
    pool.lose(one)
    pool.assign()
    pool.answer(other)
    assert pool.assign() == [(other, sent[one])]


def test_a_worker_with_room_takes_it_behind_what_it_runs():
    pool = Pool(1, 1, qsize=2)
    [one], [other] = pool.workers
    pool.fill(other, single(known()), single(known()))
    task = single(known())
    pool.fill(one, task)
    pool.answer(other, count=1)
    pool.lose(one)
    assert pool.assign() == [(other, task)]
    assert len(other.tasks) == 2


def test_what_it_has_no_room_for_goes_on_looking():
    pool = Pool(1, 1, qsize=2)
    [one], [other] = pool.workers
    func = known()
    pool.fill(other, single(func), single(func))
    large = single(func, nbytes=10**6)
    pool.fill(one, large)
    pool.answer(other, count=1)
    pool.lose(one)
    pool.join(one.host, 0)
    assert pool.assign() == [], "it only goes to an idle worker, and not to its own host"
    assert pool.scheduler.waiting == 1
    pool.answer(other)
    assert pool.assign() == [(other, large)]


def test_several_keep_their_order():
    pool = Pool(3, 1, qsize=1)
    tasks = [single(function()) for _ in range(4)]
    sent = dict(pool.send(*tasks))
    gone = [one for one in sent if one.host is pool.hosts[0]]
    for one in gone:
        pool.lose(one)
    [other] = pool.workers[1]
    order = []
    for _ in gone:
        pool.answer(other)
        order += [task for _, task in pool.assign()]
    assert order == [sent[one] for one in gone]


def test_a_withdrawn_one_is_not_sent():
    pool = Pool(1, 1)
    task = single(function())
    [(first, _)] = pool.send(task)
    pool.lose(first)
    task.calls[0].withdrawn = True
    assert pool.assign() == []
    assert task.calls[0].outcomes == ["withdrawn"]
    assert pool.scheduler.finished


def test_it_can_be_cancelled_while_it_looks():
    pool = Pool(1, 1, qsize=1)
    [one], _ = pool.workers
    tasks = [single(function()) for _ in range(2)]
    sent = dict(pool.send(*tasks))
    pool.lose(one)
    pool.assign()
    pool.scheduler.cancel_waiting(ValueError("cancelled"))
    assert isinstance(sent[one].calls[0].outcomes[0], ValueError)
    assert pool.scheduler.waiting == 0


def test_a_broadcast_waits_for_what_is_looking():
    pool = Pool(1, 1, qsize=1)
    [one], [other] = pool.workers
    tasks = [single(function()) for _ in range(2)]
    pool.send(*tasks)
    pool.lose(one)
    pool.join(one.host, 0)
    broadcast = RecordingBroadcast(function(2))
    pool.scheduler.broadcast(broadcast)
    assert pool.assign() == []
    pool.answer(other)
    pool.assign()
    assert not broadcast.lowered
    pool.answer(other)
    pool.assign()
    assert broadcast.lowered


# -- hosts that are lost, or given up


def test_a_lost_host_gives_its_tasks_to_the_others():
    pool = Pool(2, 1, qsize=2)
    tasks = [single(function()) for _ in range(6)]
    pool.send(*tasks)
    for one in pool.workers[0]:
        pool.lose(one, known=False)
    assert pool.scheduler.coming == 2
    assert len(pool.actions(ReplaceWorker)) == 2
    [other] = pool.workers[1]
    while other.tasks:
        pool.answer(other)
        pool.assign()
    assert all(len(task.calls[0].outcomes) == 1 for task in tasks)


def test_nobody_of_a_host_that_was_given_up_is_replaced():
    pool = Pool(1, 1)
    [one], [other] = pool.workers
    task = single(function())
    pool.send(task)
    pool.scheduler.close(pool.hosts[0], GONE)
    pool.lose(one)
    assert pool.actions(ReplaceWorker) == []
    assert pool.scheduler.coming == 0
    pool.assign()
    assert list(other.tasks.values()) == [task]


def test_parts_of_a_broadcast_do_not_wait_for_a_host_that_is_gone():
    pool = Pool(1, 1)
    [one], [other] = pool.workers
    broadcast = RecordingBroadcast(function())
    pool.scheduler.broadcast(broadcast)
    pool.assign()
    pool.lose(one)
    first, _ = broadcast.parts
    assert not first.calls[0].outcomes, "it waits for the replacement"
    pool.scheduler.close(pool.hosts[0], GONE)
    assert first.calls[0].outcomes == [GONE]
    pool.answer(other)
    assert broadcast.over
    assert pool.scheduler.finished


def test_a_part_that_is_lost_with_a_closed_host_fails_with_its_reason():
    pool = Pool(1, 1)
    [one], _ = pool.workers
    broadcast = RecordingBroadcast(function())
    pool.scheduler.broadcast(broadcast)
    pool.assign()
    pool.scheduler.close(pool.hosts[0], GONE)
    pool.lose(one)
    assert broadcast.parts[0].calls[0].outcomes == [GONE]


def test_a_broadcast_does_without_those_of_whom_nobody_knows():
    pool = Pool(0, 1)
    pool.scheduler.expect(pool.hosts[0], 3)
    broadcast = RecordingBroadcast(function())
    pool.scheduler.broadcast(broadcast)
    assert pool.assign() == []
    pool.scheduler.stop_waiting(pool.hosts[0], GONE)
    assert len(pool.assign()) == 1
    assert len(broadcast.parts) == 1


def test_parts_of_workers_that_are_there_go_on_waiting_for_them():
    """One that is about to be replaced has its part kept for its replacement."""
    pool = Pool(1, max_tasks=1)
    [one] = pool.workers[0]
    pool.send(single(function()))
    pool.answer(one)
    broadcast = RecordingBroadcast(function())
    pool.scheduler.broadcast(broadcast)
    assert pool.assign() == []
    assert broadcast.lowered
    pool.scheduler.stop_waiting(pool.hosts[0], GONE)
    [part] = broadcast.parts
    assert not part.calls[0].outcomes
    pool.scheduler.lost(one, lost(one, exitcode=0), 0)
    newcomer = pool.join(pool.hosts[0], 0)
    assert pool.assign() == [(newcomer, part)]


def test_parts_of_workers_that_are_gone_do_not():
    pool = Pool(2)
    one, other = pool.workers[0]
    broadcast = RecordingBroadcast(function())
    pool.scheduler.broadcast(broadcast)
    pool.assign()
    pool.lose(one)
    pool.scheduler.stop_waiting(pool.hosts[0], GONE)
    assert broadcast.parts[0].calls[0].outcomes == [GONE]
    assert other.tasks, "that one has its part"


def test_a_host_that_only_kills_is_given_up():
    pool = Pool(1, 1, qsize=1)
    bad, good = pool.hosts
    [victim], [helper] = pool.workers
    dropped = []
    for now in range(10, 100, 10):
        pool.send(single(function(), retries=10), single(function(), retries=10), now=now)
        if victim.tasks:
            pool.lose(victim, now=now, exitcode=-11)
            victim = pool.join(bad, 0, now=now + 1)
        pool.assign(now + 2)
        pool.answer(helper, now + 3)
        pool.assign(now + 4)
        dropped += pool.actions(DropHost)
        if dropped:
            break
    assert [drop.host for drop in dropped] == [bad]
    assert "without completing anything" in dropped[0].reason
    assert "SIGSEGV" in dropped[0].reason
    assert good.barren == 0


# -- hosts that leave


def test_a_host_that_leaves_finishes_what_it_runs_and_hands_back_the_rest():
    pool = Pool(1, 1, qsize=3)
    [one], [other] = pool.workers
    tasks = [single(known()) for _ in range(3)]
    pool.fill(one, *tasks)
    held = list(one.tasks)
    pool.scheduler.leave(pool.hosts[0], GONE)
    actions = pool.scheduler.take_actions()
    assert actions == [RecallTasks(one, held[-1]), RetireWorker(one)]
    pool.scheduler.recalled(one, held[0], held[-1])
    assert list(one.tasks) == held[:1]
    pool.answer(one)
    assert one.state == "retiring"
    pool.scheduler.lost(one, lost(one, exitcode=0), 0)
    assert pool.actions(ReplaceWorker) == []
    assert pool.scheduler.counts.workers_lost == 0
    while other.tasks or pool.assign():
        pool.answer(other)
    assert all(len(task.calls[0].outcomes) == 1 for task in tasks)


def test_an_idle_host_that_leaves_gets_nothing_more():
    pool = Pool(2, 1)
    pool.scheduler.leave(pool.hosts[0], GONE)
    assert [action.worker for action in pool.actions(RetireWorker)] == pool.workers[0]
    tasks = [single(function()) for _ in range(3)]
    assert {one.host for one, _ in pool.send(*tasks)} == {pool.hosts[1]}


def test_a_worker_that_is_being_asked_or_retires_already_is_not_told_again():
    pool = Pool(3, qsize=2)
    one, two, three = pool.workers[0]
    pool.fill(one, single(known()), single(known()))
    pool.scheduler._roster.retire(one)
    pool.scheduler.suspend(two)
    pool.fill(three, single(known()), single(known()))
    three.recalling = True
    pool.scheduler.leave(pool.hosts[0], GONE)
    assert pool.scheduler.take_actions() == [
        RecallTasks(one, max(one.tasks)),
        RetireWorker(three),
    ]


def test_a_broadcast_is_not_meant_for_those_who_leave():
    pool = Pool(1, 1, qsize=1)
    [one], [other] = pool.workers
    pool.send(*[single(function()) for _ in range(2)])
    broadcast = RecordingBroadcast(function(2))
    pool.scheduler.broadcast(broadcast)
    pool.scheduler.leave(pool.hosts[0], GONE)
    for each in (one, other):
        pool.answer(each)
    assert [who for who, _ in pool.assign()] == [other]
    assert len(broadcast.parts) == 1


def test_when_all_leave_a_broadcast_waits_for_others():
    pool = Pool(1)
    [one] = pool.workers[0]
    pool.scheduler.leave(pool.hosts[0], GONE)
    broadcast = RecordingBroadcast(function())
    pool.scheduler.broadcast(broadcast)
    assert pool.assign() == []
    newcomer = pool.join(Host("new", 1, number=7), 0)
    assert [who for who, _ in pool.assign()] == [newcomer]
    assert one.tasks == {}


@pytest.mark.parametrize("retries", [0, 1])
def test_at_most_once_holds_for_what_a_lost_host_may_have_started(retries):
    pool = Pool(1, 1, qsize=3)
    tasks = [single(known(), retries=retries), chunk(known(), 3, retries=retries)]
    pool.fill(pool.workers[0][0], *tasks)
    pool.lose(pool.workers[0][0], known=False)
    for task in tasks:
        outcomes = [outcome for item in task.calls for outcome in item.outcomes]
        if retries:
            assert not outcomes
        else:
            assert {type(outcome) for outcome in outcomes} == {WorkerLost}
