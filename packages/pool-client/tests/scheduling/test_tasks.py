"""The records that the scheduler works with."""

import dataclasses

import pytest

from pool_client.scheduling.tasks import (
    BreakPool,
    Counts,
    Function,
    Host,
    RecallTasks,
    ReplaceWorker,
    RetireWorker,
    Task,
    Terms,
    WatchHost,
    Worker,
)
from pool_protocol.messages import RESULT, Result


@pytest.fixture
def function():
    return Function(7, "module.work", b"pickle", by_value=False)


def test_a_function_says_what_it_is(function):
    assert repr(function) == "<Function 7 module.work>"
    assert function.estimate.mean is None
    assert not function.large


def test_terms_are_those_of_a_pool_by_default():
    assert Terms() == Terms(retries=3, timeout=None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Terms().retries = 5


def test_a_task_begins_unsent_and_is_one_call(function):
    task = Task(function, 4, b"payload", 7, Terms(retries=1))
    assert (task.id, task.items, task.attempts, task.cost) == (0, 1, 0, 0.0)
    assert (task.function, task.flags, task.payload, task.nbytes) == (function, 4, b"payload", 7)
    assert task.terms.retries == 1


def test_a_task_that_is_one_call_is_blamed_whole(function):
    task = Task(function, 0, b"", 0, Terms())
    assert task.split(0) == ((), task, ())
    assert task.split(17) == ((), task, ())
    task.take_part(0, b"which only a chunk has")


def test_where_an_outcome_goes_is_for_subclasses_to_say(function):
    task = Task(function, 0, b"", 0, Terms())
    with pytest.raises(NotImplementedError):
        task.start()
    with pytest.raises(NotImplementedError):
        task.resolve(Result(RESULT, 0, 0, 1, b"", ()))
    with pytest.raises(NotImplementedError):
        task.fail(ValueError())


def test_a_worker_says_how_it_is(function):
    worker = Worker(3, 1, Host("box", 2), pid=99)
    assert worker.state == "idle"
    worker.tasks[1] = Task(function, 0, b"", 0, Terms())
    assert worker.state == "busy"
    assert repr(worker) == "<Worker 3 on box, pid 99, busy, 1 in hand, 0 done>"
    worker.retiring = True
    assert worker.state == "retiring"
    worker.dead = True
    assert worker.state == "lost"


def test_actions_can_be_compared():
    host = Host("box", 2)
    worker = Worker(3, 1, host, pid=99)
    error = ValueError()
    assert WatchHost(host, True) == WatchHost(host, True) != WatchHost(host, False)
    assert RecallTasks(worker, 5) == RecallTasks(worker, 5) != RecallTasks(worker, 6)
    assert RetireWorker(worker) == RetireWorker(worker)
    assert ReplaceWorker(host, 1) == ReplaceWorker(host, 1) != ReplaceWorker(host, 2)
    assert BreakPool(error) == BreakPool(error)


def test_counts_begin_at_nothing_and_keep_the_trouble_to_themselves():
    counts = Counts()
    assert set(dataclasses.asdict(counts).values()) == {0}
    assert "trouble" not in repr(counts)
