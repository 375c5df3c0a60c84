"""What cannot be pickled or unpickled fails its own future, no other and no connection."""

import asyncio
import contextlib
import pickle
import sys
import threading
import traceback
import types

import numpy
import pytest
from support import running_pool, wait_until, worker_pids

from faults import tasks
from pool_client import FrameTooLarge, Pool, RemoteException, WorkerLost

MB = 1_000_000


def check_neighbours(pool, submit, workers_live: bool = True):
    """Run *submit* among good tasks, check that those succeed, and return its exception.

    With *workers_live*, no worker may have been replaced.
    """
    before = sorted(worker_pids(pool))
    good = [pool.submit(tasks.double, n) for n in range(20)]
    future = submit()
    good += [pool.submit(tasks.double, n) for n in range(20, 40)]
    other = pool.submit(tasks.same, "another function")
    error = future.exception(30)
    assert [one.result(30) for one in good] == list(range(0, 80, 2))
    assert other.result(30) == "another function"
    if workers_live:
        assert sorted(worker_pids(pool)) == before
    return error


@contextlib.contextmanager
def module_that_workers_lack():
    """Make a module with a function ``missing``, which can be imported in this process only."""
    module = types.ModuleType("only_in_this_process")

    def missing(value):
        return value

    missing.__module__, missing.__qualname__ = module.__name__, "missing"
    module.missing = missing
    sys.modules[module.__name__] = module
    try:
        yield module
    finally:
        del sys.modules[module.__name__]


UNPICKLABLE = {
    "lock": (threading.Lock, "lock"),
    "generator": (tasks.make_generator, "generator"),
    "frame": (sys._getframe, "frame"),
}


@pytest.mark.parametrize("kind", UNPICKLABLE)
def test_unpicklable_argument(kind):
    """An argument that cannot be pickled fails that future alone, and the error names it."""
    make, word = UNPICKLABLE[kind]
    with running_pool(2) as pool:
        error = check_neighbours(pool, lambda: pool.submit(tasks.same, make()))
        assert isinstance(error, pickle.PicklingError)
        assert word in str(error)


@pytest.mark.parametrize("kind", UNPICKLABLE)
def test_unpicklable_result(kind):
    """A result that cannot be pickled fails that future alone, and the error names it."""
    make = {
        "lock": tasks.make_lock,
        "generator": tasks.make_generator,
        "frame": tasks.make_frame,
    }[kind]
    with running_pool(2) as pool:
        error = check_neighbours(pool, lambda: pool.submit(make))
        assert isinstance(error, pickle.PicklingError)
        assert UNPICKLABLE[kind][1] in str(error)


def test_unpicklable_function():
    """A function that cannot be pickled fails that future alone: its closure holds a lock."""
    lock = threading.Lock()

    def locked():
        return lock

    with running_pool(2) as pool:
        error = check_neighbours(pool, lambda: pool.submit(locked))
        assert isinstance(error, pickle.PicklingError)
        assert "lock" in str(error)
        error = check_neighbours(pool, lambda: pool.submit(locked))
        assert isinstance(error, pickle.PicklingError)


def test_unpicklable_items_in_a_map():
    """In a mapped input each unpicklable item fails at its own place: locks among numbers."""
    items = [1, threading.Lock(), 3, threading.Lock(), 5]
    with running_pool(2) as pool:
        for chunksize in (None, 1, 5):
            results = pool.map(tasks.same, items, chunksize=chunksize)
            assert next(results) == 1
            with pytest.raises(pickle.PicklingError, match="lock"):
                next(results)
            assert next(results) == 3
            with pytest.raises(pickle.PicklingError, match="lock"):
                next(results)
            assert next(results) == 5
            assert list(results) == []


@pytest.mark.parametrize("chunksize", [None, 1, 10])
def test_unpicklable_results_in_a_map(chunksize):
    """An unpicklable result of a chunk fails at its own place: locks among numbers."""

    def lock_or_same(number):
        return tasks.make_lock() if number % 4 == 2 else number

    with running_pool(2) as pool:
        results = pool.map(lock_or_same, range(20), chunksize=chunksize)
        for number in range(20):
            if number % 4 == 2:
                with pytest.raises(pickle.PicklingError, match="lock"):
                    next(results)
            else:
                assert next(results) == number


def test_argument_that_does_not_unpickle():
    """The original error of unpickling an argument in the worker arrives on that future."""
    with running_pool(1) as pool:
        error = check_neighbours(pool, lambda: pool.submit(tasks.same, tasks.AtUnpickling("error")))
        assert isinstance(error, tasks.Boom)
        assert "misbehaved" in str(error)


def test_function_that_does_not_unpickle():
    """A function that the worker cannot import fails alone; the next call runs its own function."""
    with module_that_workers_lack() as module, running_pool(1) as pool:
        for _ in range(3):
            error = check_neighbours(pool, lambda: pool.submit(module.missing, 1))
            assert isinstance(error, ImportError)
            assert "only_in_this_process" in str(error)
        bad = [pool.submit(module.missing, n) for n in range(20)]
        good = [pool.submit(tasks.same, n) for n in range(20)]
        assert all(isinstance(one.exception(30), ImportError) for one in bad)
        assert [one.result(30) for one in good] == list(range(20))


def test_mapped_function_that_does_not_unpickle():
    """A mapped function that the worker cannot import fails each item, and the pool goes on."""
    with module_that_workers_lack() as module, running_pool(2) as pool:
        results = pool.map(module.missing, range(100))
        with pytest.raises(ImportError, match="only_in_this_process"):
            next(results)
        results.close()


@pytest.mark.parametrize("kind", ["attributed", "KeyboardInterrupt", "GeneratorExit"])
def test_exceptions_keep_type_and_traceback(kind):
    """An exception keeps type and attributes, and has the remote traceback as its cause."""
    kinds = {
        "attributed": tasks.Attributed,
        "KeyboardInterrupt": KeyboardInterrupt,
        "GeneratorExit": GeneratorExit,
    }
    with running_pool(1) as pool:
        error = check_neighbours(pool, lambda: pool.submit(tasks.raise_this, kind))
        assert type(error) is kinds[kind]
        assert isinstance(error.__cause__, RemoteException)
        assert "raise_this" in str(error.__cause__)
        if kind == "attributed":
            assert error.detail == {"why": "deep"}


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        ("two arguments", "TwoArguments", "this and that"),
        ("bad reduce", "BadReduce", "reduced"),
        ("lock", "HoldsLock", "locked"),
        ("fails to rebuild", "FailsToRebuild", "rebuilt"),
        ("bad text", "BadText", ""),
    ],
)
def test_troublesome_exceptions(kind, name, text):
    """An exception that does not survive a round trip arrives as RemoteException, type and text."""
    with running_pool(1) as pool:
        error = check_neighbours(pool, lambda: pool.submit(tasks.raise_this, kind))
        shown = "".join(traceback.format_exception(error))
        if kind == "bad text":
            assert name in type(error).__name__ + shown
        else:
            assert type(error) is RemoteException
            assert name in str(error)
        assert text in shown
        assert "raise_this" in shown


@pytest.mark.parametrize("kind", ["StopIteration", "CancelledError"])
def test_exceptions_that_futures_treat_specially(kind):
    """A task that raises StopIteration or CancelledError does not hang sync or async callers."""

    async def call(pool):
        with pytest.raises(BaseException, match=r"stopped|not by the user|StopIteration|^$"):
            await asyncio.wait_for(pool.run_async(tasks.raise_this, kind), 20)

    with running_pool(1) as pool:
        future = pool.submit(tasks.raise_this, kind)
        wait_until(future.done, what="the future")
        asyncio.run(call(pool))
        with pytest.raises(BaseException, match=r"stopped|not by the user|StopIteration|^$"):
            pool.run(tasks.raise_this, kind)
        results = pool.map(tasks.raise_this, [kind])
        with pytest.raises(BaseException, match=r"stopped|not by the user|StopIteration|^$"):
            next(results)


def test_exception_of_a_class_that_nobody_can_import():
    """An exception of a class made inside the task arrives with its name and text."""
    with running_pool(1) as pool:
        error = check_neighbours(pool, lambda: pool.submit(tasks.raise_this, "local class"))
        shown = "".join(traceback.format_exception(error))
        assert "Local" in shown
        assert "unfindable" in shown


@pytest.mark.parametrize("kind", ["lock", "two arguments", "bad reduce", "fails to rebuild"])
def test_troublesome_exceptions_in_a_chunk(kind):
    """Such an exception takes none of its chunk with it: one among twenty mapped items."""

    def raise_in_the_middle(number):
        if number == 10:
            tasks.raise_this(kind)
        return number

    with running_pool(1) as pool:
        results = pool.map(raise_in_the_middle, range(20), chunksize=20)
        assert [next(results) for _ in range(10)] == list(range(10))
        with pytest.raises(RemoteException):
            next(results)
        assert list(results) == list(range(11, 20))


# Misbehaviour at each of the four places. Pickling a task cannot crash: it is this very process.


@pytest.mark.parametrize("how", ["exit", "error", "mute"])
def test_misbehaviour_when_a_task_is_pickled(how):
    """sys.exit or an error while the client pickles an argument fails that future alone."""
    with running_pool(2) as pool:
        error = check_neighbours(pool, lambda: pool.submit(tasks.same, tasks.AtPickling(how)))
        assert error is not None
        assert "AtPickling" in "".join(traceback.format_exception(error)) or isinstance(
            error, SystemExit | tasks.Boom
        )


@pytest.mark.parametrize("how", ["crash", "exit", "error", "mute"])
def test_misbehaviour_when_a_task_is_unpickled(how):
    """A crash, sys.exit or error while the worker unpickles an argument fails that future alone."""
    kinds = {
        "crash": WorkerLost,
        "exit": SystemExit,
        "error": tasks.Boom,
        "mute": tasks.Mute,
    }
    with running_pool(2, retries=1) as pool:
        error = check_neighbours(
            pool,
            lambda: pool.submit(tasks.same, tasks.AtUnpickling(how)),
            workers_live=how != "crash",
        )
        assert isinstance(error, kinds[how])
        if how == "crash":
            assert error.attempts == 2


@pytest.mark.parametrize("how", ["crash", "exit", "error", "mute"])
def test_misbehaviour_when_a_result_is_pickled(how):
    """A crash, sys.exit or error while the worker pickles a result fails that future alone."""
    kinds = {
        "crash": WorkerLost,
        "exit": SystemExit | pickle.PicklingError,
        "error": tasks.Boom | pickle.PicklingError,
        "mute": pickle.PicklingError,
    }
    with running_pool(2, retries=1) as pool:
        error = check_neighbours(
            pool, lambda: pool.submit(tasks.make_at_pickling, how), workers_live=how != "crash"
        )
        assert isinstance(error, kinds[how])


@pytest.mark.parametrize("how", ["exit", "error", "mute"])
def test_misbehaviour_when_a_result_is_unpickled(how):
    """sys.exit or an error while the client unpickles a result fails that future alone."""
    with running_pool(2) as pool:
        error = check_neighbours(pool, lambda: pool.submit(tasks.make_at_unpickling, how))
        kinds = {"exit": SystemExit, "error": tasks.Boom, "mute": tasks.Mute}
        assert isinstance(error, kinds[how] | pickle.UnpicklingError | RemoteException)


@pytest.mark.parametrize("how", ["exit", "error", "mute"])
def test_misbehaviour_when_an_error_is_unpickled(how):
    """The same while the client unpickles an exception: the remote one stands in for it."""
    with running_pool(2) as pool:
        error = check_neighbours(pool, lambda: pool.submit(tasks.raise_for_others, how))
        assert type(error) is RemoteException
        assert "raise_for_others" in str(error)


def test_misbehaving_result_on_the_callers_loop():
    """The same with the engine on the running loop: sys.exit in a result leaves the loop alone."""

    async def main():
        async with Pool(1) as pool:
            bad = pool.run_async(tasks.make_at_unpickling, "exit")
            good = [pool.run_async(tasks.double, n) for n in range(20)]
            with pytest.raises((SystemExit, pickle.UnpicklingError, RemoteException)):
                await bad
            assert await asyncio.gather(*good) == list(range(0, 40, 2))

    asyncio.run(main())


@pytest.mark.parametrize("how", ["crash", "exit", "error", "mute"])
def test_misbehaviour_in_a_chunk(how):
    """The same inside a chunk fails one item: unpickling the argument, and pickling the result."""
    items = [tasks.AtUnpickling(how) if n == 7 else n for n in range(20)]

    def same_or_bad(number):
        return tasks.AtPickling(how) if number == 7 else number

    with running_pool(2, retries=1) as pool:
        for results in (
            pool.map(tasks.same, items, chunksize=10),
            pool.map(same_or_bad, range(20), chunksize=10),
        ):
            assert [next(results) for _ in range(7)] == list(range(7))
            with pytest.raises(BaseException) as caught:
                next(results)
            assert not isinstance(caught.value, StopIteration)
            assert list(results) == list(range(8, 20))


def test_deep_recursion_in_an_argument():
    """An argument nested 100,000 deep fails with RecursionError, on its future."""
    with running_pool(1) as pool:
        error = check_neighbours(pool, lambda: pool.submit(tasks.same, tasks.nest(100_000)))
        assert isinstance(error, RecursionError)


def test_deep_recursion_in_a_result():
    """A result nested 100,000 deep fails with RecursionError, on its future."""
    with running_pool(1) as pool:
        error = check_neighbours(pool, lambda: pool.submit(tasks.nest, 100_000))
        assert isinstance(error, RecursionError)


# Large objects


def in_a_buffer(size):
    """An array, which travels beside the pickle."""
    return numpy.zeros(size, numpy.uint8)


@pytest.mark.parametrize("make", [bytes, bytearray, in_a_buffer])
def test_over_max_message(make):
    """One byte over max_message fails before anything is sent, the byte before it passes."""
    with running_pool(1, max_message=200_000) as pool:
        passes, fails = 150_000, 200_001
        assert pool.run(tasks.size_of, make(passes)) == passes
        while fails - passes > 1:
            size = (passes + fails) // 2
            error = pool.submit(tasks.size_of, make(size)).exception(30)
            if error is None:
                passes = size
            else:
                assert isinstance(error, FrameTooLarge)
                fails = size
        assert 199_000 < passes < 200_000
        assert isinstance(
            check_neighbours(pool, lambda: pool.submit(tasks.size_of, make(fails))), FrameTooLarge
        )
        assert "200,000" in str(pool.submit(tasks.size_of, make(fails)).exception(30))
        [result] = pool.map(tasks.size_of, [make(passes - 1000)])
        assert result == passes - 1000
        for size in range(passes - 20, passes + 20):
            with contextlib.suppress(FrameTooLarge):
                assert list(pool.map(tasks.size_of, [make(size)], timeout=30)) == [size]


def test_the_least_max_message():
    """It holds an error with its traceback; one that is larger is told, and the worker stays."""
    with pytest.raises(ValueError, match="max_message must be at least 4096, not 4095"):
        Pool(1, max_message=4095, lazy_create=True)

    def fail(size):
        raise ValueError("x" * size)

    with running_pool(1, max_message=4096) as pool:
        assert str(pool.submit(fail, 100).exception(30)) == "x" * 100
        assert isinstance(check_neighbours(pool, lambda: pool.submit(fail, 10_000)), FrameTooLarge)
        assert pool.stats().workers_lost == 0


def test_result_and_function_over_max_message():
    """A result or a function over max_message fails its own future with FrameTooLarge."""
    ballast = bytes(300_000)

    def heavy():
        return len(ballast)

    with running_pool(1, max_message=200_000) as pool:
        error = check_neighbours(pool, lambda: pool.submit(tasks.zeros, 300_000))
        assert isinstance(error, FrameTooLarge)
        error = check_neighbours(pool, lambda: pool.submit(heavy))
        assert isinstance(error, FrameTooLarge)


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 1 << 20, 100 * MB])
def test_large_bytes_there_and_back(size):
    """Large data arrives unchanged, at the borders of out-of-band transfer too."""
    with running_pool(1) as pool:
        data = bytearray(size)
        data[0], data[-1] = 1, 2
        back = pool.run(tasks.same, data)
        assert type(back) is bytearray
        assert back == data
        frozen = bytes(data)
        assert pool.run(tasks.same, frozen) == frozen


def test_large_items_mapped():
    """Mapped items of 5 MB each go there and back, in bounded memory."""
    with running_pool(2) as pool:
        sizes = [len(one) for one in pool.map(tasks.same, (bytes(5 * MB) for _ in range(30)))]
        assert sizes == [5 * MB] * 30


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("size", [2_200_000_000, (4 << 30) + 17])
def test_huge_objects(size):
    """Objects beyond 2 GiB and 4 GiB go there and back, with no limit set."""
    with running_pool(1) as pool:
        data = pool.run(tasks.zeros, size)
        assert len(data) == size
        assert pool.run(tasks.size_of, data) == size
