"""The scheduler by example. Its state machine has a file of its own, test_scheduler_machine.py."""

from concurrent.futures import CancelledError

import pytest
from scheduler_model import (
    MS,
    SECOND,
    RecordingBroadcast,
    answer,
    chunk,
    function,
    known,
    lost,
    make,
    outcomes,
    result,
    single,
    unaccounted,
    worker,
)

from pool_client.errors import PoolBroken, TaskTimeout, WorkerLost
from pool_client.scheduling.scheduler import Scheduler
from pool_client.scheduling.tasks import (
    BreakPool,
    Host,
    RecallTasks,
    ReplaceWorker,
    RetireWorker,
    WatchHost,
)
from pool_protocol.messages import RESULT, Result, ResultFlag
from pool_protocol.parts import pack_part

# -- answers


def test_a_task_goes_to_an_idle_worker_and_comes_back():
    scheduler, one = make()
    task = single(function())
    assert scheduler.finished
    scheduler.submit([task])
    assert (scheduler.waiting, scheduler.held, scheduler.finished) == (1, 0, False)
    assert scheduler.assign(0) == [(one, [task])]
    assert (scheduler.waiting, scheduler.held, scheduler.finished) == (0, 1, False)
    [answered], _ = scheduler.results(one, [result(task.id)], MS)
    assert answered is task
    assert scheduler.finished
    assert (scheduler.counts.submitted, scheduler.counts.completed, one.done) == (1, 1, 1)


def part(id, first, values=b"values"):
    """Some of a chunk's values, ahead of its result."""
    return Result(RESULT, ResultFlag.PART, 0, 0, pack_part(id, first, values), ())


def test_parts_of_a_result_come_ahead_of_it():
    """They are the chunk's, and nothing is counted before the result itself is there."""
    scheduler, one = make()
    task = chunk(function(), 5)
    scheduler.submit([task])
    scheduler.assign(0)
    answers = [part(task.id, 0), part(task.id, 2, b"more"), part(task.id, 0)]
    assert scheduler.results(one, answers, MS) == ([], [])
    assert task.parts == [(0, b"values"), (2, b"more"), (0, b"values")]
    assert (scheduler.held, scheduler.counts.completed, one.done) == (1, 0, 0)
    [answered], _ = scheduler.results(one, [part(task.id, 3), result(task.id)], 2 * MS)
    assert answered is task
    assert len(task.parts) == 4
    assert (scheduler.held, one.done, unaccounted(scheduler)) == (0, 5, 0)


def test_parts_that_are_nobodys_are_dropped():
    scheduler, one = make()
    task = chunk(function(), 5)
    scheduler.submit([task])
    scheduler.assign(0)
    short = Result(RESULT, ResultFlag.PART, 0, 0, b"short", ())
    assert scheduler.results(one, [part(task.id + 1, 0), short], MS) == ([], [])
    answer(scheduler, one)
    assert scheduler.results(one, [part(task.id, 0)], MS) == ([], [])
    assert task.parts == []


def test_unknown_and_repeated_answers_are_dropped():
    scheduler, one = make()
    scheduler.submit([single(function())])
    scheduler.assign(0)
    [id] = one.tasks
    assert scheduler.results(one, [result(777)], 0) == ([], [])
    assert len(scheduler.results(one, [result(id), result(id)], 0)[0]) == 1
    assert scheduler.results(one, [result(id)], 0) == ([], [])
    assert (scheduler.held, scheduler.counts.completed) == (0, 1)
    assert scheduler.results(one, [], 0) == ([], [])


def test_a_chunks_service_time_is_shared_by_its_calls():
    scheduler, one = make()
    func = function()
    scheduler.submit([chunk(func, 10)])
    scheduler.assign(0)
    answer(scheduler, one, nanos=10_000)
    assert func.estimate.mean == 1000
    assert one.done == 10


def test_each_function_is_timed_by_its_own_calls():
    scheduler, one = make(qsize=9)
    short, long = known(1000, id=1), known(1000, id=2)
    tasks = [single(short), chunk(short, 9), single(long), single(short)]
    scheduler.submit(tasks)
    scheduler.assign(0)
    nanos = [1000, 9000, MS, 1000]
    answers = [result(task.id, nanos) for task, nanos in zip(tasks, nanos, strict=True)]
    assert len(scheduler.results(one, answers, MS)[0]) == 4
    assert short.estimate.mean == pytest.approx(1000)
    assert long.estimate.mean > 10_000
    assert one.busy == sum(nanos)


# -- losses


def test_a_worker_lost_while_idle_is_replaced():
    scheduler, one = make()
    scheduler.lost(one, lost(one), 0)
    assert scheduler.take_actions() == [ReplaceWorker(one.host, one.slot)]
    assert scheduler.take_actions() == []
    assert scheduler.workers == {}
    assert (scheduler.counts.workers_lost, one.state) == (1, "lost")


def test_only_the_task_that_was_running_is_blamed():
    scheduler, one = make(qsize=3)
    func = known()
    tasks = [single(func, retries=0) for _ in range(3)]
    scheduler.submit(tasks)
    scheduler.assign(0)
    scheduler.lost(one, lost(one, started=tasks[0].id), 0)
    [error] = outcomes(tasks[0])
    assert isinstance(error, WorkerLost)
    assert (error.host, error.pid, error.exitcode, error.attempts) == ("box", one.pid, -9, 1)
    assert "work1" in str(error)
    two = worker(2)
    scheduler.joined(two, 0)
    [(_, again)] = scheduler.assign(0)
    assert again == tasks[1:], "in their old order"


def test_a_lost_task_is_tried_again_as_often_as_it_may():
    scheduler = Scheduler()
    task = single(function(), retries=2)
    scheduler.submit([task])
    ids = []
    for number in range(1, 4):
        one = worker(number)
        scheduler.joined(one, 0)
        scheduler.assign(0)
        ids.append(task.id)
        assert not task.calls[0].outcomes
        scheduler.lost(one, lost(one, started=task.id), 0)
    [error] = outcomes(task)
    assert error.attempts == 3
    assert scheduler.counts.retried == 2
    assert ids == sorted(set(ids))


def test_without_its_supervisor_everything_in_hand_counts_as_started():
    scheduler, one = make(qsize=3)
    func = known()
    tasks = [single(func, retries=0), single(func, retries=1), chunk(func, 5, retries=0)]
    scheduler.submit(tasks)
    scheduler.assign(0)
    scheduler.lost(one, lost(one, started=tasks[0].id), 0, known=False)
    assert isinstance(outcomes(tasks[0])[0], WorkerLost)
    assert not tasks[1].calls[0].outcomes
    assert {type(outcome) for outcome in outcomes(tasks[2])} == {WorkerLost}
    assert scheduler.waiting == 1


def test_a_chunk_is_split_at_the_item_that_was_running():
    scheduler, one = make()
    func = function()
    task = chunk(func, 5, retries=1)
    scheduler.submit([task])
    scheduler.assign(0)
    scheduler.lost(one, lost(one, started=task.id, item=2), 0)
    two = worker(2)
    scheduler.joined(two, 0)
    again = []
    while not scheduler.finished:
        again += [part for _, tasks in scheduler.assign(0) for part in tasks]
        answer(scheduler, two)
    assert [len(part.calls) for part in again] == [2, 1, 2]
    assert [part.attempts for part in again] == [0, 1, 0]
    assert [item for part in again for item in part.calls] == task.calls, "in order"
    assert len(outcomes(task)) == 5


def test_at_most_once_holds_for_the_items_before_the_blamed_one():
    scheduler, one = make()
    task = chunk(function(), 5, retries=0)
    scheduler.submit([task])
    scheduler.assign(0)
    scheduler.lost(one, lost(one, started=task.id, item=2), 0)
    assert [len(item.outcomes) for item in task.calls] == [1, 1, 1, 0, 0]
    assert scheduler.waiting == 1


def test_a_task_past_its_limit_is_not_tried_again():
    scheduler, one = make()
    task = single(function(), timeout=1.5)
    scheduler.submit([task])
    scheduler.assign(0)
    scheduler.lost(one, lost(one, started=task.id, reason="timeout"), 0)
    [error] = outcomes(task)
    assert isinstance(error, TaskTimeout)
    assert "work1" in str(error)
    assert "1.5 s" in str(error)
    assert scheduler.counts.timeouts == 1
    assert scheduler.finished


def test_a_timeout_in_a_chunk_concerns_its_own_item():
    scheduler, one = make()
    task = chunk(function(), 4, timeout=1.0)
    scheduler.submit([task])
    scheduler.assign(0)
    scheduler.lost(one, lost(one, started=task.id, item=1, reason="timeout"), 0)
    assert [len(item.outcomes) for item in task.calls] == [0, 1, 0, 0]
    assert isinstance(task.calls[1].outcomes[0], TaskTimeout)
    assert scheduler.waiting == 2


def test_at_most_once_holds_in_a_chunk_that_timed_out():
    scheduler, one = make()
    task = chunk(function(), 3, timeout=1.0, retries=0)
    scheduler.submit([task])
    scheduler.assign(0)
    scheduler.lost(one, lost(one, started=task.id, item=1, reason="timeout"), 0)
    assert [type(item.outcomes[0]) for item in task.calls[:2]] == [WorkerLost, TaskTimeout]
    assert not task.calls[2].outcomes


def test_nothing_goes_to_a_worker_whose_stream_has_ended():
    scheduler, one = make(qsize=3)
    func = known()
    tasks = [single(func) for _ in range(4)]
    scheduler.submit(tasks)
    scheduler.assign(0)
    scheduler.suspend(one)
    assert one.state == "lost"
    answer(scheduler, one, count=1)
    assert scheduler.assign(0) == []
    scheduler.recalled(one, started=tasks[1].id, last=tasks[2].id)
    assert scheduler.assign(0) == []
    assert not scheduler.needs_tick
    scheduler.lost(one, lost(one, started=tasks[1].id), 0)
    assert (scheduler.held, scheduler.waiting) == (0, 3)


# -- replacing workers


def test_a_worker_retires_after_its_last_call():
    scheduler, one = make(max_tasks=3)
    func = known(1000)
    scheduler.submit(single(func) for _ in range(5))
    scheduler.assign(0)
    assert scheduler.take_actions() == [RetireWorker(one)]
    assert (len(one.tasks), one.state) == (3, "retiring")
    answer(scheduler, one)
    assert scheduler.assign(0) == []
    scheduler.lost(one, lost(one, exitcode=0), 0)
    assert scheduler.take_actions() == [ReplaceWorker(one.host, one.slot)]
    assert scheduler.counts.workers_lost == 0, "that was expected"
    two = worker(2)
    scheduler.joined(two, 0)
    assert len(scheduler.assign(0)[0][1]) == 2


def test_a_retiring_worker_that_fails_on_the_way_counts_as_lost():
    scheduler, one = make(max_tasks=1)
    scheduler.submit([single(function())])
    scheduler.assign(0)
    answer(scheduler, one)
    scheduler.lost(one, lost(one, exitcode=1), 0)
    assert scheduler.counts.workers_lost == 1


def test_a_partly_used_worker_is_refilled_up_to_its_limit():
    scheduler, one = make(max_tasks=4, qsize=3)
    func = known(1000)
    scheduler.submit(single(func) for _ in range(9))
    scheduler.assign(0)
    assert len(one.tasks) == 3
    answer(scheduler, one, count=1)
    scheduler.assign(0)
    assert len(one.tasks) == 3
    assert one.state == "retiring"
    answer(scheduler, one, count=1)
    assert scheduler.assign(0) == []


def test_a_broadcast_counts_towards_the_limit():
    scheduler, one = make(max_tasks=1)
    scheduler.broadcast(RecordingBroadcast(function()))
    scheduler.assign(0)
    assert one.state == "retiring"


# -- taking back


def test_what_waits_behind_a_silent_worker_is_taken_back():
    scheduler, one, two = make(2)
    func = known(1000)
    tasks = [single(func) for _ in range(10)]
    scheduler.submit(tasks)
    [(busy, _)] = scheduler.assign(0)
    assert scheduler.needs_tick
    scheduler.tick(5 * MS)
    assert scheduler.take_actions() == []
    scheduler.tick(SECOND)
    assert scheduler.take_actions() == [RecallTasks(busy, tasks[-1].id)]
    assert func.estimate.mean > 1000
    scheduler.tick(2 * SECOND)
    assert scheduler.take_actions() == [], "it was asked already"
    scheduler.recalled(busy, started=tasks[0].id, last=tasks[-1].id)
    assert list(busy.tasks) == [tasks[0].id]
    assert scheduler.counts.recalled == 9
    sent = scheduler.assign(2 * SECOND)
    assert all(one is not busy for one, _ in sent)
    assert not busy.recalling
    assert {one.state, two.state} == {"busy"}


def test_nothing_more_goes_to_a_worker_that_hangs_until_it_answers():
    scheduler, one = make(qsize=3)
    func = known(1000)
    tasks = [single(func) for _ in range(3)]
    scheduler.submit(tasks)
    scheduler.assign(0)
    scheduler.tick(SECOND)
    scheduler.recalled(one, started=tasks[0].id, last=tasks[2].id)
    assert scheduler.assign(SECOND) == []
    assert not scheduler.needs_tick
    answer(scheduler, one, now=2 * SECOND)
    [(_, again)] = scheduler.assign(2 * SECOND)
    assert again[0] is tasks[1]


def test_what_was_sent_after_the_question_stays():
    scheduler, one = make(qsize=4)
    func = known(1000)
    tasks = [single(func) for _ in range(6)]
    scheduler.submit(tasks[:3])
    scheduler.assign(0)
    scheduler.tick(SECOND)
    [recall] = scheduler.take_actions()
    answer(scheduler, one, now=SECOND, count=1)
    scheduler.submit(tasks[3:])
    scheduler.assign(SECOND)
    scheduler.recalled(one, started=tasks[1].id, last=recall.last)
    assert list(one.tasks.values()) == [tasks[1], tasks[3], tasks[4]]


def test_a_worker_that_had_started_nothing_is_idle_after_a_recall():
    scheduler, one = make()
    func = known(1000)
    scheduler.submit(single(func) for _ in range(3))
    scheduler.assign(0)
    scheduler.recalled(one, started=0, last=99)
    assert one.state == "idle"
    assert (one.work, one.nbytes, one.sent) == (0, 0, 0)
    assert len(scheduler.assign(0)[0][1]) == 3


def test_an_answer_that_takes_nothing_back_lets_the_question_be_asked_again():
    scheduler, one = make()
    func = known(1000)
    scheduler.submit(single(func) for _ in range(3))
    scheduler.assign(0)
    for _ in range(2):
        scheduler.tick(SECOND)
        assert len(scheduler.take_actions()) == 1
        scheduler.recalled(one, started=0, last=0)
    assert len(one.tasks) == 3


def test_a_retiring_worker_keeps_what_it_has():
    scheduler, _ = make(max_tasks=2)
    func = known(1000)
    scheduler.submit(single(func) for _ in range(2))
    scheduler.assign(0)
    scheduler.take_actions()
    scheduler.tick(SECOND)
    assert scheduler.take_actions() == []


def test_a_worker_that_is_as_slow_as_expected_is_left_alone():
    scheduler, _ = make(qsize=2)
    func = known(10 * SECOND)
    scheduler.submit(single(func) for _ in range(2))
    scheduler.assign(0)
    scheduler.tick(5 * SECOND)
    assert scheduler.take_actions() == []


# -- time limits


def test_a_host_is_watched_while_tasks_have_limits():
    scheduler, one = make()
    func = function()
    scheduler.submit([single(func, timeout=1.0)])
    scheduler.assign(0)
    assert scheduler.take_actions() == [WatchHost(one.host, True)]
    assert scheduler.needs_tick
    answer(scheduler, one, now=SECOND)
    scheduler.tick(SECOND + MS)
    assert scheduler.take_actions() == [], "more of them may come"
    scheduler.submit([single(func, timeout=1.0)])
    scheduler.assign(SECOND)
    assert scheduler.take_actions() == []
    answer(scheduler, one, now=2 * SECOND)
    scheduler.tick(9 * SECOND)
    assert scheduler.take_actions() == [WatchHost(one.host, False)]
    assert not scheduler.needs_tick
    scheduler.tick(10 * SECOND)
    assert scheduler.take_actions() == []


def test_limits_are_counted_through_losses_and_recalls():
    scheduler, one, two = make(2, qsize=3)
    func = known(1000)
    tasks = [single(func, timeout=1.0) for _ in range(6)]
    scheduler.submit(tasks)
    scheduler.assign(0)
    host = one.host
    assert host.timed == 6
    scheduler.recalled(one, started=min(one.tasks), last=max(one.tasks))
    assert host.timed == 4
    scheduler.lost(two, lost(two, started=min(two.tasks)), 0)
    assert host.timed == 1
    answer(scheduler, one)
    assert host.timed == 0


def test_a_broadcast_can_have_a_limit():
    scheduler, one, two = make(2)
    scheduler.broadcast(RecordingBroadcast(function(), timeout=1.0))
    scheduler.assign(0)
    assert one.host.timed == 2
    answer(scheduler, one)
    answer(scheduler, two)
    assert one.host.timed == 0


# -- broadcasts


def test_a_broadcast_goes_once_to_each_worker_in_worker_order():
    scheduler = Scheduler()
    workers = [worker(number, slot=slot) for number, slot in ((5, 1), (6, 2), (7, 0))]
    for one in workers:
        scheduler.joined(one, 0)
    broadcast = RecordingBroadcast(function())
    scheduler.broadcast(broadcast)
    sent = {one.slot: task for one, [task] in scheduler.assign(0)}
    assert [sent[slot] for slot in range(3)] == broadcast.parts


def test_a_broadcast_waits_for_what_came_before_and_goes_before_the_rest():
    scheduler, one, two = make(2)
    func = function()
    before, after = single(func), single(func)
    broadcast = RecordingBroadcast(function(2))
    scheduler.submit([before])
    scheduler.broadcast(broadcast)
    scheduler.submit([after])
    [(busy, [task])] = scheduler.assign(0)
    assert task is before
    assert scheduler.waiting == 2
    answer(scheduler, busy)
    assert {task for _, [task] in scheduler.assign(0)} == set(broadcast.parts)
    assert scheduler.assign(0) == []
    answer(scheduler, one)
    answer(scheduler, two)
    assert broadcast.over
    assert [tasks for _, tasks in scheduler.assign(0)] == [[after]]


def test_broadcasts_follow_each_other():
    scheduler, one = make()
    func = function()
    first, second, third = (RecordingBroadcast(func) for _ in range(3))
    between, last = single(func), single(func)
    scheduler.broadcast(first)
    scheduler.broadcast(second)
    scheduler.submit([between])
    scheduler.broadcast(third)
    scheduler.submit([last])
    order = []
    while not scheduler.finished:
        for _, tasks in scheduler.assign(0):
            order += tasks
        answer(scheduler, one)
    assert order == [*first.parts, *second.parts, between, *third.parts, last]


def test_a_withdrawn_broadcast_is_passed_over():
    scheduler, *_ = make(2)
    broadcast = RecordingBroadcast(function())
    broadcast.withdrawn = True
    task = single(function())
    scheduler.broadcast(broadcast)
    scheduler.submit([task])
    [(_, sent)] = scheduler.assign(0)
    assert sent == [task]
    assert broadcast.over


def test_a_part_of_a_broadcast_stays_with_its_slot():
    scheduler, one, two = make(2)
    broadcast = RecordingBroadcast(function())
    scheduler.broadcast(broadcast)
    scheduler.assign(0)
    part = one.tasks[min(one.tasks)]
    scheduler.lost(one, lost(one, started=part.id), 0)
    answer(scheduler, two)
    assert scheduler.assign(0) == []
    assert scheduler.waiting == 1
    three = worker(3, slot=one.slot)
    scheduler.joined(three, 0)
    assert scheduler.assign(0) == [(three, [part])]


def test_a_slot_can_owe_two_parts():
    scheduler, one = make()
    first, second = RecordingBroadcast(function()), RecordingBroadcast(function())
    scheduler.broadcast(first)
    scheduler.assign(0)
    stranger = worker(2, slot=one.slot)
    scheduler.joined(stranger, 0)
    scheduler.lost(one, lost(one), 0)
    scheduler.stop_waiting(one.host, ValueError())  # the stranger has the place already
    scheduler.broadcast(second)
    scheduler.assign(0)
    answer(scheduler, stranger)
    scheduler.assign(0)
    answer(scheduler, stranger)
    assert first.over
    assert second.over


def test_two_parts_for_one_slot_are_sent_one_after_the_other():
    scheduler = Scheduler()
    twins = [worker(1, slot=0), worker(2, slot=0)]
    for one in twins:
        scheduler.joined(one, 0)
    scheduler.suspend(twins[1])
    broadcast = RecordingBroadcast(function())
    scheduler.broadcast(broadcast)
    assert scheduler.assign(0) == [(twins[0], [broadcast.parts[0]])]
    answer(scheduler, twins[0])
    assert scheduler.assign(0) == [(twins[0], [broadcast.parts[1]])]


# -- accounts


def test_parts_of_a_broadcast_are_accounted_for():
    """It is one task as long as it waits, then one for each worker."""
    scheduler, one, two = make(2)
    scheduler.broadcast(RecordingBroadcast(function()))
    assert (scheduler.counts.submitted, scheduler.waiting) == (1, 1)
    scheduler.assign(0)
    assert (scheduler.counts.submitted, scheduler.held, unaccounted(scheduler)) == (2, 2, 0)
    answer(scheduler, one)
    scheduler.lost(two, lost(two, started=min(two.tasks)), 0)
    assert (scheduler.waiting, unaccounted(scheduler)) == (1, 0)
    scheduler.close(two.host, ConnectionError("gone"))
    counts = scheduler.counts
    assert (counts.submitted, counts.completed, counts.failed, counts.cancelled) == (2, 1, 1, 0)


def test_parts_of_a_chunk_are_accounted_for():
    """What it was split into counts in its place."""
    scheduler, one, _ = make(2)
    scheduler.submit([chunk(function(), 5, retries=0)])
    [(one, _)] = scheduler.assign(0)
    scheduler.lost(one, lost(one, started=min(one.tasks), item=2), 0)
    counts = scheduler.counts
    assert (counts.submitted, counts.failed, scheduler.waiting) == (3, 2, 1)
    assert unaccounted(scheduler) == 0


@pytest.mark.parametrize("way", ["lone", "queue", "broadcast"])
def test_what_nobody_wanted_any_more_counts_as_cancelled(way):
    scheduler, _ = make()
    if way == "broadcast":
        broadcast = RecordingBroadcast(function())
        broadcast.withdrawn = True
        scheduler.broadcast(broadcast)
    else:
        task = single(function())
        task.calls[0].withdrawn = True
        if way == "queue" or scheduler.lone(task, 0) is None:
            scheduler.submit([task])
    scheduler.assign(0)
    counts = scheduler.counts
    assert (counts.submitted, counts.cancelled, unaccounted(scheduler)) == (1, 1, 0)


@pytest.mark.parametrize(
    ("error", "cancelled"), [(CancelledError(), 3), (RuntimeError("it is over"), 0)]
)
def test_what_is_given_up_while_it_waits_is_accounted_for(error, cancelled):
    scheduler = Scheduler()
    scheduler.submit([single(function())])
    scheduler.broadcast(RecordingBroadcast(function()))
    scheduler.broadcast(RecordingBroadcast(function()))
    scheduler.cancel_waiting(error)
    counts = scheduler.counts
    assert (counts.cancelled, counts.failed) == (cancelled, 3 - cancelled)
    assert unaccounted(scheduler) == 0


def test_what_a_broken_pool_fails_is_accounted_for():
    scheduler, _ = make()
    func = function()
    scheduler.submit([single(func), single(func)])
    scheduler.assign(0)
    scheduler.broadcast(RecordingBroadcast(func))
    scheduler.break_with(PoolBroken("gone"))
    assert (scheduler.counts.failed, unaccounted(scheduler)) == (3, 0)


# -- the end


def test_what_waits_can_be_cancelled():
    scheduler, one = make()
    func = function()
    sent, waiting, behind = single(func), single(func), single(func)
    first, second = RecordingBroadcast(func), RecordingBroadcast(func)
    scheduler.submit([sent, waiting])
    scheduler.broadcast(first)
    scheduler.submit([behind])
    scheduler.broadcast(second)
    scheduler.assign(0)
    error = ValueError()
    scheduler.cancel_waiting(error)
    assert outcomes(waiting) == outcomes(behind) == [error]
    assert first.error is second.error is error
    assert scheduler.waiting == 0
    assert scheduler.held == 1
    answer(scheduler, one)
    assert scheduler.finished


def test_parts_that_wait_for_a_replacement_can_be_cancelled():
    scheduler, one = make()
    broadcast = RecordingBroadcast(function())
    scheduler.broadcast(broadcast)
    scheduler.assign(0)
    scheduler.lost(one, lost(one), 0)
    error = ValueError()
    scheduler.cancel_waiting(error)
    assert outcomes(broadcast.parts[0]) == [error]


def test_a_broken_pool_fails_everything_once():
    scheduler, one = make(qsize=2)
    func = known(1000)
    tasks = [single(func, timeout=1.0) for _ in range(4)]
    scheduler.submit(tasks)
    scheduler.assign(0)
    scheduler.take_actions()
    error = PoolBroken("out of order")
    scheduler.break_with(error)
    scheduler.break_with(PoolBroken("again"))
    assert scheduler.broken is error
    assert [outcomes(task) for task in tasks] == [[error]] * 4
    assert scheduler.take_actions() == [BreakPool(error)]
    assert scheduler.finished
    scheduler.tick(100 * SECOND)
    assert not scheduler.needs_tick
    assert scheduler.results(one, [result(task.id) for task in tasks], SECOND) == ([], [])
    scheduler.lost(one, lost(one), 0)


def test_a_pool_breaks_when_workers_die_and_nothing_gets_done():
    scheduler = Scheduler()
    host = Host("box", 1)
    number = 0
    while scheduler.broken is None:
        number += 1
        assert number < 10_000
        one = worker(number, host)
        scheduler.joined(one, 0)
        scheduler.lost(one, lost(one, exitcode=3), 0)
    assert number > 20
    assert isinstance(scheduler.broken, PoolBroken)
    assert "box" in str(scheduler.broken)
    assert "code 3" in str(scheduler.broken)


def test_a_pool_that_gets_things_done_bears_any_number_of_deaths():
    scheduler = Scheduler()
    func = function()
    for number in range(1, 2000):
        one = worker(number)
        scheduler.joined(one, 0)
        scheduler.submit([single(func)])
        scheduler.assign(0)
        answer(scheduler, one)
        scheduler.lost(one, lost(one), 0)
    assert scheduler.broken is None


def test_tasks_that_use_up_their_retries_are_progress_of_a_kind():
    scheduler = Scheduler()
    func = function()
    for number in range(1, 500):
        one = worker(number)
        scheduler.joined(one, 0)
        task = single(func, retries=0)
        scheduler.submit([task])
        scheduler.assign(0)
        scheduler.lost(one, lost(one, started=task.id), 0)
    assert scheduler.broken is None
