"""Who pays for a lost worker."""

import pytest
from scheduler_model import chunk, function, lost, single, worker

from pool_client.errors import TaskTimeout, WorkerLost
from pool_client.scheduling.blame import judge, lost_error


def judged(task, *, item=0, reason="", known=True):
    one = worker(1)
    task.id = 7
    report = lost(one, started=7, item=item, exitcode=-11, reason=reason)
    return judge(one, task, report, known)


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_task_is_tried_again_as_often_as_it_may(retries):
    task = single(function(), retries=retries)
    for attempt in range(1, retries + 1):
        assert judged(task) == ([task], [], 1)
        assert task.attempts == attempt
    again, [(failed, error)], retried = judged(task)
    assert (again, failed, retried) == ([], task, 0)
    assert isinstance(error, WorkerLost)
    assert error.attempts == retries + 1
    assert (error.host, error.pid, error.exitcode, error.task) == ("box", 1001, -11, "work1")


@pytest.mark.parametrize("item", range(4))
def test_of_a_chunk_one_item_is_blamed(item):
    task = chunk(function(), 4, retries=1)
    again, failed, retried = judged(task, item=item)
    assert [call for part in again for call in part.calls] == task.calls
    assert failed == []
    assert retried == 1
    assert [len(part.calls) for part in again if part.attempts] == [1]


def test_at_most_once_holds_for_what_ran_before_the_blamed_item():
    task = chunk(function(), 4, retries=0)
    again, failed, retried = judged(task, item=2)
    assert [part.calls for part in again] == [task.calls[3:]]
    assert [part.calls for part, _ in failed] == [task.calls[:2], task.calls[2:3]]
    assert {type(error) for _, error in failed} == {WorkerLost}
    assert retried == 0


def test_a_timeout_is_not_tried_again():
    task = chunk(function(), 3, timeout=1.5, retries=3)
    again, [(blamed, error)], retried = judged(task, item=1, reason="timeout")
    assert blamed.calls == [task.calls[1]]
    assert isinstance(error, TaskTimeout)
    assert str(error).startswith("work1 ran longer than its limit of 1.5 s")
    assert [part.calls for part in again] == [[task.calls[0]], [task.calls[2]]]
    assert retried == 0


def test_at_most_once_holds_beside_a_timeout():
    task = chunk(function(), 3, timeout=1.5, retries=0)
    again, failed, _ = judged(task, item=1, reason="timeout")
    assert [type(error) for _, error in failed] == [WorkerLost, TaskTimeout]
    assert [part.calls for part in again] == [[task.calls[2]]]


def test_when_nobody_knows_what_had_started_it_counts_whole():
    task = chunk(function(), 3, retries=1)
    assert judged(task, item=1, known=False) == ([task], [], 1)
    again, [(failed, _)], _ = judged(task, item=1, known=False)
    assert (again, failed) == ([], task)


def test_without_a_task_the_error_speaks_of_the_worker():
    one = worker(1)
    error = lost_error(one, lost(one, exitcode=3), 0)
    assert "code 3" in str(error)
    assert error.task == ""
