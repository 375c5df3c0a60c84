"""Exceptions of tasks: their type, their remote traceback, and that nothing else is harmed."""

import asyncio
import pickle
import sys
import threading
import traceback
from typing import Any

import interface_tasks as tasks
import pytest

from pool_client import PickleType, Pool, RemoteException


class TwoArguments(Exception):
    """An exception whose pickle cannot be loaded, as its arguments are not those of `__init__`."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


class WillNotReduce(Exception):
    """An exception that cannot be pickled."""

    def __reduce__(self) -> Any:
        raise TypeError("not me")


def raise_two(_: Any = None) -> None:
    """Raise the one."""
    raise TwoArguments(1, 2)


def raise_unpicklable(_: Any = None) -> None:
    """Raise the other."""
    raise WillNotReduce("the text of it")


@pytest.fixture
def pool(shared: Any) -> Any:
    """Yield the pool of this file: these tests leave it as it is."""
    return shared


@pytest.mark.parametrize(
    "error",
    [ValueError("v"), KeyError("k"), OSError(2, "no such"), tasks.Oops(7), StopIteration(3)],
)
def test_type_and_arguments(pool: Any, error: Exception) -> None:
    """An exception arrives as what it was."""

    def work() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        pool.run(work)
    assert caught.value.args == error.args


def test_cause_is_the_remote_traceback(pool: Any) -> None:
    """The cause is a `RemoteException` whose text is the worker's traceback."""
    with pytest.raises(tasks.Oops) as caught:
        pool.run(tasks.fail, 5)
    cause = caught.value.__cause__
    assert isinstance(cause, RemoteException)
    text = str(cause)
    assert "Traceback (most recent call last)" in text
    assert "in fail" in text
    assert "raise Oops(number)" in text
    assert "Oops: 5" in text


def test_printed_traceback_shows_both_sides(pool: Any) -> None:
    """What Python prints for it has the worker's lines and the client's."""
    try:
        pool.run(tasks.fail, 5)
    except tasks.Oops:
        text = traceback.format_exc()
    assert "raise Oops(number)" in text
    assert "test_printed_traceback_shows_both_sides" in text


def test_cause_of_every_form(pool: Any) -> None:
    """Every way to a result gives the cause."""
    errors = [pool.submit(tasks.fail, 1).exception(30)]
    for call in (lambda: pool.run(tasks.fail, 1), lambda: list(pool.map(tasks.fail, [1]))):
        with pytest.raises(tasks.Oops) as caught:
            call()
        errors.append(caught.value)

    async def main() -> None:
        with pytest.raises(tasks.Oops) as caught:
            await pool.run_async(tasks.fail, 1)
        errors.append(caught.value)
        with pytest.raises(tasks.Oops) as caught:
            async for _ in pool.map_async(tasks.fail, [1]):
                pass
        errors.append(caught.value)

    asyncio.run(main())
    assert len(errors) == 5
    assert all(isinstance(error.__cause__, RemoteException) for error in errors)


def test_chained_exceptions_are_in_the_text(pool: Any) -> None:
    """What an exception was raised from can be read in the remote text."""

    def work() -> None:
        try:
            tasks.fail(3)
        except tasks.Oops as error:
            raise ValueError("second") from error

    with pytest.raises(ValueError, match="second") as caught:
        pool.run(work)
    assert "Oops: 3" in str(caught.value.__cause__)


def test_notes_are_in_the_text(pool: Any) -> None:
    """Notes on an exception are not lost."""

    def work() -> None:
        error = ValueError("noted")
        error.add_note("look here")
        raise error

    with pytest.raises(ValueError, match="noted") as caught:
        pool.run(work)
    assert "look here" in str(caught.value.__cause__)


def test_exception_group(pool: Any) -> None:
    """An exception group arrives as one."""

    def work() -> None:
        raise ExceptionGroup("several", [ValueError(1), KeyError(2)])

    with pytest.raises(ExceptionGroup) as caught:
        pool.run(work)
    assert [type(error) for error in caught.value.exceptions] == [ValueError, KeyError]


def test_system_exit(single: Any) -> None:
    """`sys.exit` in a task is its exception, and the worker lives."""
    worker = single.run(tasks.pid)
    with pytest.raises(SystemExit) as caught:
        single.run(sys.exit, 3)
    assert caught.value.code == 3
    assert single.run(tasks.pid) == worker


def test_keyboard_interrupt_raised_by_a_task(single: Any) -> None:
    """A `KeyboardInterrupt` that a task raises is its exception, and the worker lives."""

    def work() -> None:
        raise KeyboardInterrupt

    worker = single.run(tasks.pid)
    assert isinstance(single.submit(work).exception(30), KeyboardInterrupt)
    assert single.run(tasks.pid) == worker


@pytest.mark.parametrize(
    ("work", "name"), [(raise_two, "TwoArguments"), (raise_unpicklable, "WillNotReduce")]
)
def test_exception_that_cannot_travel(pool: Any, work: Any, name: str) -> None:
    """An exception that does not survive the way is a `RemoteException` with its type and text."""
    with pytest.raises(Exception, match=name) as caught:
        pool.run(work)
    assert isinstance(caught.value, RemoteException)
    assert "Traceback" in str(caught.value)
    assert pool.run(abs, -1) == 1


def test_exception_that_cannot_travel_in_a_chunk(pool: Any) -> None:
    """Such an exception takes nothing of its chunk with it."""

    def work(number: int) -> int:
        if number == 2:
            raise_unpicklable()
        return number

    results = pool.map(work, range(5), chunksize=5, timeout=30)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(RemoteException, match="WillNotReduce"):
        next(results)


@pytest.mark.parametrize("size", [0, 1_000_000])
def test_argument_that_cannot_be_pickled(pool: Any, size: int) -> None:
    """An argument that cannot be pickled fails that future, and is named."""
    future = pool.submit(tasks.keywords, "x" * size, threading.Lock())
    error = future.exception(30)
    assert isinstance(error, pickle.PicklingError)
    assert "lock" in str(error).lower()
    assert pool.run(abs, -1) == 1


def test_function_that_cannot_be_pickled(pool: Any) -> None:
    """A function that cannot be pickled fails its future, and is named."""
    lock = threading.Lock()

    def hold() -> Any:
        return lock

    error = pool.submit(hold).exception(30)
    assert isinstance(error, pickle.PicklingError)
    assert "hold" in str(error)
    assert pool.run(abs, -1) == 1


@pytest.mark.parametrize("make", [threading.Lock, lambda: (n for n in range(3))])
def test_result_that_cannot_be_pickled(single: Any, make: Any) -> None:
    """A result that cannot be pickled fails its future; the worker lives."""
    worker = single.run(tasks.pid)
    assert isinstance(single.submit(make).exception(30), pickle.PicklingError)
    assert single.run(tasks.pid) == worker


def test_unpicklable_result_names_the_function(pool: Any) -> None:
    """The error names what cannot be pickled."""

    def make_lock() -> Any:
        return threading.Lock()

    with pytest.raises(pickle.PicklingError, match=r"(?i)lock"):
        pool.run(make_lock)


def test_an_error_harms_no_other_task(pool: Any) -> None:
    """Among many tasks, those that fail fail, and the others do not."""
    futures = [pool.submit(tasks.fail_on, n, n if n % 3 == 0 else -1) for n in range(60)]
    for number, future in enumerate(futures):
        error = future.exception(30)
        assert isinstance(error, tasks.Oops) if number % 3 == 0 else future.result() == number


def test_asynchronous_error(pool: Any) -> None:
    """An async function's exception is like any other."""
    with pytest.raises(tasks.Oops) as caught:
        pool.run(tasks.afail, 5)
    assert "in afail" in str(caught.value.__cause__)


def test_the_error_does_not_keep_the_pool(pool: Any) -> None:
    """An exception that arrived can be pickled again."""
    error = pool.submit(tasks.fail, 5).exception(30)
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, tasks.Oops)


@pytest.mark.parametrize("kind", [PickleType.cloudpickle, PickleType.dill])
def test_exceptions_with_other_picklers(kind: PickleType) -> None:
    """The data pickler in use makes no difference to exceptions."""
    pytest.importorskip(kind.name)
    with Pool(1, data_pickle=kind) as pool, pytest.raises(tasks.Oops) as caught:
        pool.run(tasks.fail, 5)
    assert isinstance(caught.value.__cause__, RemoteException)


def test_wrong_number_of_arguments(pool: Any) -> None:
    """A call that does not fit its function is a `TypeError` of the task."""
    with pytest.raises(TypeError, match="add"):
        pool.run(tasks.add, 1, 2, 3)
