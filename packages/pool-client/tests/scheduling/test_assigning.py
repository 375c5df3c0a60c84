"""How tasks get into workers' hands, by example."""

import pytest
from scheduler_model import (
    MS,
    SECOND,
    RecordingBroadcast,
    answer,
    function,
    known,
    make,
    outcomes,
    result,
    single,
)

from pool_client.errors import PoolBroken
from pool_client.scheduling import policy
from pool_client.scheduling.scheduler import Scheduler


@pytest.mark.parametrize("kind", [function, known])
def test_a_lone_task_is_as_any_other(kind):
    """Whichever way it goes to its worker, the same is noted of it."""
    notes = []
    for lone in (True, False):
        scheduler, _, two = make(2)
        func = kind()
        task = single(func, nbytes=5)
        if lone:
            assert scheduler.lone(task, MS) == [(two, [task])]
        else:
            scheduler.submit([task])
            assert scheduler.assign(MS) == [(two, [task])]
        on_its_way = (task.id, task.cost, two.work, two.nbytes, two.sent, two.last_heard)
        rest = (scheduler.held, scheduler.finished, list(two.tasks), scheduler.take_actions())
        scheduler.submit([single(func)])
        answer(scheduler, two, 9 * MS)
        after = (two.round_trip.mean, two.nbytes, len(scheduler.assign(9 * MS)), scheduler.counts)
        notes.append((on_its_way, rest, after))
        assert len(outcomes(task)) == 1
    assert notes[0] == notes[1]


def test_a_lone_task_that_was_withdrawn():
    scheduler, one = make()
    task = single(function())
    task.calls[0].withdrawn = True
    assert scheduler.lone(task, 0) == []
    assert outcomes(task) == ["withdrawn"]
    assert scheduler.finished
    assert (scheduler.counts.submitted, one.state) == (1, "idle")


def test_a_task_that_is_not_alone():
    """Whatever else there is to look at, the task is not touched."""
    task = single(function())
    scheduler, *_ = make(2)
    scheduler.lone(single(function()), 0)
    assert scheduler.lone(task, 0) is None, "another runs"
    scheduler, _ = make()
    scheduler.broadcast(RecordingBroadcast(function()))
    assert scheduler.lone(task, 0) is None, "something waits"
    scheduler, one = make()
    scheduler.suspend(one)
    assert scheduler.lone(task, 0) is None, "nobody is idle"
    scheduler, _ = make()
    scheduler.break_with(PoolBroken("gone"))
    assert scheduler.lone(task, 0) is None, "the pool is broken"
    scheduler, _ = make(max_tasks=5)
    assert scheduler.lone(task, 0) is None, "workers retire"
    scheduler, _ = make()
    assert scheduler.lone(single(function(), timeout=1.0), 0) is None, "its time is limited"
    assert (task.id, task.calls[0].outcomes, scheduler.counts.submitted) == (0, [], 0)


def test_without_workers_tasks_wait():
    scheduler = Scheduler()
    scheduler.submit([single(function())])
    scheduler.broadcast(RecordingBroadcast(function()))
    assert scheduler.assign(0) == []
    assert scheduler.waiting == 2


def test_a_broadcast_waits_for_workers_too():
    scheduler = Scheduler()
    broadcast = RecordingBroadcast(function())
    scheduler.broadcast(broadcast)
    assert scheduler.assign(0) == []
    assert not broadcast.lowered


def test_an_unknown_function_goes_one_to_each_worker():
    scheduler, *workers = make(3)
    scheduler.submit(single(function()) for _ in range(10))
    sent = scheduler.assign(0)
    assert {one.id for one, _ in sent} == {1, 2, 3}
    assert [len(tasks) for _, tasks in sent] == [1, 1, 1]
    assert all(len(one.tasks) == 1 for one in workers)


def test_long_tasks_go_one_to_each_worker():
    scheduler, *workers = make(4)
    func = known(SECOND)
    scheduler.submit(single(func) for _ in range(100))
    scheduler.assign(0)
    assert [len(one.tasks) for one in workers] == [1, 1, 1, 1]


def test_tiny_tasks_fill_one_worker_first():
    scheduler, *workers = make(4)
    func = known(1000)
    scheduler.submit(single(func) for _ in range(20))
    [(_, batch)] = scheduler.assign(0)
    assert len(batch) == 20
    assert sorted(len(one.tasks) for one in workers) == [0, 0, 0, 20]


def test_many_tiny_tasks_are_dealt_out_to_all():
    scheduler, *workers = make(4)
    func = known(1000)
    scheduler.submit(single(func) for _ in range(100_000))
    scheduler.assign(0)
    held = [len(one.tasks) for one in workers]
    assert min(held) > 100
    assert max(held) <= policy.MAX_TASKS


def test_a_busy_worker_is_refilled_before_an_idle_one_is_woken():
    scheduler, one, two = make(2)
    func = known(1000)
    scheduler.submit(single(func) for _ in range(20))
    [(busy, _)] = scheduler.assign(0)
    answer(scheduler, busy, count=10, nanos=1000)
    scheduler.submit(single(func) for _ in range(5))
    [(again, _)] = scheduler.assign(0)
    assert again is busy
    assert len(busy.tasks) == 15
    assert {one.state, two.state} == {"busy", "idle"}


@pytest.mark.parametrize("qsize", [1, 3])
def test_qsize_is_kept_to(qsize):
    scheduler, one = make(qsize=qsize)
    func = known(1000)
    scheduler.submit(single(func) for _ in range(50))
    while scheduler.waiting:
        scheduler.assign(0)
        assert len(one.tasks) == min(qsize, 50 - scheduler.counts.completed)
        answer(scheduler, one, count=1)
    answer(scheduler, one)
    assert scheduler.finished


def test_qsize_prefetches_behind_a_long_task():
    scheduler, one = make(qsize=2)
    func = known(SECOND)
    scheduler.submit([single(func), single(func), single(func)])
    scheduler.assign(0)
    assert len(one.tasks) == 2


def test_large_arguments_only_go_to_an_idle_worker():
    scheduler, one = make()
    func = known(1000)
    large = single(func, nbytes=policy.LARGE_BYTES + 1)
    scheduler.submit([single(func), large])
    assert len(scheduler.assign(0)[0][1]) == 1
    answer(scheduler, one)
    assert scheduler.assign(0) == [(one, [large])]


def test_a_workers_hands_are_limited_in_bytes():
    scheduler, one = make()
    func = known(1000)
    scheduler.submit(single(func, nbytes=policy.LARGE_BYTES) for _ in range(100))
    scheduler.assign(0)
    assert 1 < len(one.tasks) < 100
    assert one.nbytes <= policy.MAX_BYTES


def test_a_far_worker_gets_large_arguments_ahead():
    """Or it would wait for the way there and back between any two."""
    scheduler, one = make()
    one.host.delay = 40_000_000
    func = known(1000)
    scheduler.submit(single(func, nbytes=2 * policy.LARGE_BYTES) for _ in range(10))
    scheduler.assign(0)
    assert len(one.tasks) == 10


def test_dispatch_ids_rise():
    scheduler, one, two = make(2)
    func = function()
    scheduler.submit(single(func) for _ in range(6))
    seen = []
    while not scheduler.finished:
        for _, tasks in scheduler.assign(0):
            seen += [task.id for task in tasks]
        answer(scheduler, one)
        answer(scheduler, two)
    assert seen == sorted(set(seen))
    assert seen[0] > 0


def test_a_withdrawn_task_is_passed_over():
    scheduler, one = make()
    func = function()
    tasks = [single(func) for _ in range(3)]
    tasks[0].calls[0].withdrawn = tasks[1].calls[0].withdrawn = True
    scheduler.submit(tasks)
    assert scheduler.assign(0) == [(one, [tasks[2]])]
    assert outcomes(tasks[0]) == ["withdrawn"]


def test_when_all_are_withdrawn_the_worker_stays_idle():
    scheduler, one = make()
    task = single(function())
    task.calls[0].withdrawn = True
    scheduler.submit([task])
    assert scheduler.assign(0) == []
    assert scheduler.finished
    assert one.state == "idle"
    scheduler.submit([single(function())])
    assert len(scheduler.assign(0)) == 1


def test_a_worker_with_enough_in_hand_is_left_alone():
    scheduler, one = make()
    func = known(10_000)
    scheduler.submit(single(func) for _ in range(1000))
    scheduler.assign(0)
    held = len(one.tasks)
    assert held > 50
    answer(scheduler, one, count=1, nanos=10_000)
    assert scheduler.assign(0) == []
    answer(scheduler, one, count=held - 10, nanos=10_000)
    assert len(scheduler.assign(0)) == 1


def test_answers_that_free_no_place_bring_nothing_new():
    scheduler, one = make(qsize=2)
    func = known(1000)
    scheduler.submit(single(func) for _ in range(4))
    scheduler.assign(0)
    scheduler.results(one, [result(999)], 0)
    assert scheduler.assign(0) == []
