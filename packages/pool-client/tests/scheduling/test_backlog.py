"""What waits: the queue, broadcasts that divide it, and what belongs to one slot."""

from scheduler_model import RecordingBroadcast, function, single, worker

from pool_client.scheduling.backlog import Backlog


def make(count):
    func = function()
    return [single(func) for _ in range(count)]


def lower(backlog, *workers):
    """Let a broadcast through; its parts by slot."""
    backlog.lower(workers)
    return {one.slot: backlog.take_pinned(one.slot) for one in workers}


def test_tasks_wait_in_order():
    backlog = Backlog()
    tasks = make(3)
    assert backlog.add(iter(tasks[:2])) == 2
    assert backlog.add(tasks[2:]) == 1
    assert backlog.add([]) == 0
    assert list(backlog.queue) == tasks
    assert len(backlog) == 3
    assert not backlog.blocked


def test_what_comes_back_goes_to_the_head():
    backlog = Backlog()
    tasks = make(4)
    backlog.add(tasks[2:])
    backlog.give_back(0, tasks[:2])
    assert list(backlog.queue) == tasks


def test_a_broadcast_divides_the_queue():
    backlog = Backlog()
    before, after = make(2)
    broadcast = RecordingBroadcast(function())
    backlog.add([before])
    backlog.add_broadcast(broadcast)
    backlog.add([after])
    assert list(backlog.queue) == [before]
    assert (len(backlog), backlog.blocked) == (3, False)
    backlog.queue.clear()
    assert backlog.blocked
    parts = lower(backlog, worker(5, slot=1), worker(6, slot=0))
    assert [parts[slot] for slot in (0, 1)] == broadcast.parts
    assert list(backlog.queue) == [after]
    assert (len(backlog), backlog.blocked) == (1, False)


def test_one_broadcast_after_the_other():
    backlog = Backlog()
    first, second, third = (RecordingBroadcast(function()) for _ in range(3))
    [between] = make(1)
    for broadcast in (first, second):
        backlog.add_broadcast(broadcast)
    backlog.add([between])
    backlog.add_broadcast(third)
    assert len(backlog) == 4
    one = worker(1)
    lower(backlog, one)
    assert (first.lowered, second.lowered, list(backlog.queue)) == (True, False, [])
    assert backlog.blocked
    lower(backlog, one)
    assert (second.lowered, third.lowered, list(backlog.queue)) == (True, False, [between])
    assert not backlog.blocked


def test_parts_that_were_not_taken_hold_the_next_broadcast_back():
    backlog = Backlog()
    for _ in range(2):
        backlog.add_broadcast(RecordingBroadcast(function()))
    one = worker(1)
    backlog.lower([one])
    assert not backlog.blocked
    part = backlog.take_pinned(one.slot)
    assert backlog.blocked
    backlog.give_back(one.slot, [part])
    assert not backlog.blocked
    assert backlog.take_pinned(one.slot) is part


def test_what_comes_back_to_a_slot_is_next_there():
    backlog = Backlog()
    broadcast = RecordingBroadcast(function())
    backlog.add_broadcast(broadcast)
    backlog.lower([worker(1, slot=0), worker(2, slot=0)])
    [task] = make(1)
    first = backlog.take_pinned(0)
    backlog.give_back(0, [task, first])
    assert list(backlog.queue) == [task]
    assert backlog.take_pinned(0) is first
    assert backlog.take_pinned(0) is broadcast.parts[1]
    assert backlog.pinned == {}


def test_giving_everything_up():
    backlog = Backlog()
    tasks = make(2)
    first, second, third = (RecordingBroadcast(function()) for _ in range(3))
    backlog.add_broadcast(first)
    backlog.lower([worker(1)])
    backlog.add(tasks[:1])
    backlog.add_broadcast(second)
    backlog.add(tasks[1:])
    backlog.add_broadcast(third)
    error = ValueError()
    everything = backlog.clear()
    assert len(everything) == 5
    for one in everything:
        one.fail(error)
    assert [task.calls[0].outcomes for task in (*tasks, *first.parts)] == [[error]] * 3
    assert second.error is third.error is error
    assert len(backlog) == 0
    assert not backlog.blocked
    assert backlog.clear() == []
