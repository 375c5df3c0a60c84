"""The errors: what they are, what they say, and that they survive a pickle."""

import concurrent.futures
import pickle
import signal
from concurrent.futures.process import BrokenProcessPool

import pytest

from pool_client import errors
from pool_client.errors import (
    HostError,
    PoolBroken,
    PoolError,
    RemoteException,
    TaskTimeout,
    WorkerLost,
    describe_exit,
)


def test_what_a_user_can_catch():
    assert issubclass(WorkerLost, BrokenProcessPool)
    assert issubclass(PoolBroken, BrokenProcessPool)
    assert issubclass(TaskTimeout, TimeoutError)
    assert issubclass(TaskTimeout, concurrent.futures.TimeoutError)
    assert issubclass(RemoteException, PoolError)
    assert issubclass(HostError, PoolError)
    assert all(issubclass(getattr(errors, name), Exception) for name in errors.__all__)


@pytest.mark.parametrize(
    "error",
    [
        RemoteException("Traceback: …", "module.Error"),
        HostError("box", "refused"),
        PoolBroken("out of order"),
        TaskTimeout("too long"),
        WorkerLost("box", 17, -11, 3, "memory", "module.work"),
        WorkerLost("box", 17, 1, 1),
    ],
)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_brings_all_of_it_back(error, protocol):
    back = pickle.loads(pickle.dumps(error, protocol))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)


def test_a_lost_worker_says_all_that_is_known():
    text = str(WorkerLost("box", 17, -signal.SIGSEGV, 4, "", "module.work"))
    for part in ("module.work", "SIGSEGV", "box", "17", "4 times"):
        assert part in text
    text = str(WorkerLost("box", 17, 5, 1))
    for part in ("the task", "code 5", "once"):
        assert part in text


@pytest.mark.parametrize(
    ("exitcode", "reason", "text"),
    [
        (0, "", "it exited with code 0"),
        (3, "", "it exited with code 3"),
        (-15, "", "it was ended by SIGTERM"),
        (-250, "", "it was ended by signal 250"),
        (-15, "killed", "it was ended by SIGTERM (killed)"),
        (-9, "timeout", "it was ended by SIGKILL (timeout)"),
    ],
)
def test_the_end_of_a_process_in_words(exitcode, reason, text):
    assert describe_exit(exitcode, reason) == text


def test_memory_is_named_where_it_is_known_and_hinted_at_where_it_is_likely():
    assert "want of memory" in describe_exit(-9, "memory")
    assert "short of memory" in describe_exit(-9)
    assert "memory" not in describe_exit(-9, "killed")


def test_a_host_error_names_the_host():
    error = HostError("user@box", "no route")
    assert (str(error), error.host, error.reason) == ("user@box: no route", "user@box", "no route")
