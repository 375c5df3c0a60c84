"""The futures: those of submit against what concurrent.futures promises, those of run_async."""

import asyncio
import concurrent.futures
import copy
import gc
import logging
import pickle
import random
import threading
import time
import weakref
from concurrent.futures import CancelledError, Future

import pytest
import support

from pool_client import futures
from pool_client.futures import AsyncTaskFuture, TaskFuture

BOTH = pytest.mark.parametrize("make", [Future, TaskFuture])


def together(*functions):
    """Call the functions in threads of their own, at the same moment; their results."""
    barrier = threading.Barrier(len(functions))
    results = [None] * len(functions)

    def run(index, function):
        barrier.wait(30)
        results[index] = function()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a thread hangs"
    return results


def later(function):
    """Call a function once the other threads are likely to wait."""

    def run():
        time.sleep(0.02)
        return function()

    return run


# -- what both kinds of future do


@BOTH
def test_a_result(make):
    future = make()
    assert (future.done(), future.running(), future.cancelled()) == (False, False, False)
    assert future.set_running_or_notify_cancel()
    assert future.running()
    future.set_result(42)
    assert (future.done(), future.running(), future.cancelled()) == (True, False, False)
    assert future.result() == future.result(timeout=0) == 42
    assert future.exception() is None
    assert not future.cancel()


@BOTH
def test_an_error(make):
    future = make()
    future.set_running_or_notify_cancel()
    error = KeyError("key")
    future.set_exception(error)
    assert future.exception() is error
    with pytest.raises(KeyError) as caught:
        future.result()
    assert caught.value is error
    assert future.done()
    assert not future.cancel()


@BOTH
def test_cancelled_before_it_runs(make):
    future = make()
    seen = []
    future.add_done_callback(seen.append)
    assert future.cancel()
    assert future.cancel(), "again"
    assert seen == [future]
    assert (future.done(), future.cancelled(), future.running()) == (True, True, False)
    assert not future.set_running_or_notify_cancel()
    with pytest.raises(CancelledError):
        future.result()
    with pytest.raises(CancelledError):
        future.exception(timeout=0)


@BOTH
def test_not_cancelled_once_it_runs(make):
    future = make()
    future.set_running_or_notify_cancel()
    assert not future.cancel()
    assert not future.cancelled()
    future.set_result(1)
    assert future.result() == 1


@BOTH
def test_a_wait_that_takes_too_long(make):
    future = make()
    for wait in (future.result, future.exception):
        with pytest.raises(TimeoutError):
            wait(timeout=0)
        with pytest.raises(concurrent.futures.TimeoutError):
            wait(0.001)
    future.set_running_or_notify_cancel()
    future.set_result(1)
    assert future.result(0) == 1


@BOTH
@pytest.mark.parametrize("ending", ["result", "error", "cancel"])
def test_a_thread_that_waits_is_woken(make, ending):
    future = make()

    def wait():
        try:
            return future.result(20)
        except BaseException as error:
            return type(error)

    def end():
        if ending == "cancel":
            future.cancel()
            return
        future.set_running_or_notify_cancel()
        if ending == "result":
            future.set_result("done")
        else:
            future.set_exception(KeyError())

    *waiters, _ = together(wait, wait, wait, later(end))
    assert waiters == [{"result": "done", "error": KeyError, "cancel": CancelledError}[ending]] * 3


@BOTH
def test_callbacks_come_in_order_and_late_ones_at_once(make):
    future = make()
    seen = []
    for name in "abc":
        future.add_done_callback(lambda done, name=name: seen.append((name, done.result())))
    future.set_running_or_notify_cancel()
    future.set_result(1)
    assert seen == [("a", 1), ("b", 1), ("c", 1)]
    future.add_done_callback(lambda done: seen.append("late"))
    assert seen[-1] == "late"


@BOTH
def test_a_callback_that_raises_is_logged_and_the_others_still_come(make, caplog):
    future = make()
    seen = []
    future.add_done_callback(lambda _: 1 / 0)
    future.add_done_callback(seen.append)
    with caplog.at_level(logging.ERROR, "concurrent.futures"):
        future.set_running_or_notify_cancel()
        future.set_result(1)
        future.add_done_callback(lambda _: 1 / 0)
    assert seen == [future]
    assert caplog.text.count("ZeroDivisionError") == 2


@BOTH
def test_a_callback_may_use_the_future(make):
    future = make()
    seen = []

    def callback(done):
        seen.append(done.result())
        done.add_done_callback(lambda again: seen.append(again.done()))

    future.add_done_callback(callback)
    future.set_running_or_notify_cancel()
    future.set_result(1)
    assert seen == [1, True]


@BOTH
@pytest.mark.parametrize("when", ["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"])
def test_wait(make, when):
    good, bad, late = make(), make(), make()
    for future in (good, bad, late):
        future.set_running_or_notify_cancel()
    good.set_result(1)
    done, pending = concurrent.futures.wait([good, bad, late], timeout=0, return_when=when)
    assert (done, pending) == ({good}, {bad, late})

    def end():
        bad.set_exception(KeyError())
        if when == "ALL_COMPLETED":
            late.set_result(2)

    (done, pending), _ = together(
        lambda: concurrent.futures.wait([bad, late], timeout=20, return_when=when), later(end)
    )
    assert bad in done
    assert (late in done) == (when == "ALL_COMPLETED")
    assert pending == {bad, late} - done


@BOTH
def test_as_completed(make):
    pending = [make() for _ in range(5)]
    for future in pending:
        future.set_running_or_notify_cancel()
    pending[0].set_result(0)

    def end():
        for number, future in list(enumerate(pending))[:0:-1]:
            future.set_result(number)

    seen, _ = together(
        lambda: list(concurrent.futures.as_completed(pending, timeout=20)), later(end)
    )
    assert len(seen) == 5
    assert set(seen) == set(pending)


@BOTH
def test_as_completed_in_time_or_not_at_all(make):
    future = make()
    with pytest.raises(TimeoutError):
        list(concurrent.futures.as_completed([future], timeout=0.001))


@BOTH
def test_an_error_that_is_false_is_an_error(make):
    class Empty(Exception):
        def __len__(self):
            return 0

    future = make()
    future.set_running_or_notify_cancel()
    future.set_exception(Empty())
    assert isinstance(future.exception(), Empty)


# -- where ours is different


def test_wait_sees_a_cancelled_future_at_once():
    future, other = TaskFuture(), TaskFuture()
    future.cancel()
    done, _ = concurrent.futures.wait([future], timeout=20)
    assert done == {future}
    assert list(concurrent.futures.as_completed([future], timeout=20)) == [future]
    (done, _), _ = together(
        lambda: concurrent.futures.wait([other], timeout=20), later(other.cancel)
    )
    assert done == {other}


def test_what_came_first_counts():
    future = TaskFuture()
    future.set_running_or_notify_cancel()
    future.set_result(1)
    future.set_result(2)
    future.set_exception(KeyError())
    assert future.result() == 1
    cancelled = TaskFuture()
    cancelled.cancel()
    cancelled.set_result(1)
    assert cancelled.cancelled()


def test_a_task_that_is_tried_again_goes_on_running():
    future = TaskFuture()
    assert future.set_running_or_notify_cancel()
    assert future.set_running_or_notify_cancel()
    future.set_result(1)
    assert not future.set_running_or_notify_cancel()


def test_a_signal_that_came_just_before_the_wait_is_seen():
    """As one that another thread has received, it does not end the wait for a lock by itself."""
    future = TaskFuture()
    with support.unnoticed_interrupt(), pytest.raises(KeyboardInterrupt):
        future.result()
    assert not future.done()


def test_even_an_exit_in_a_callback_is_only_logged(caplog):
    future = TaskFuture()
    seen = []

    def leave(_):
        raise SystemExit

    future.add_done_callback(leave)
    future.add_done_callback(seen.append)
    with caplog.at_level(logging.ERROR, "concurrent.futures"):
        future.set_result(1)
    assert seen == [future]
    assert "SystemExit" in caplog.text


def test_nothing_is_made_before_somebody_waits():
    future = TaskFuture()
    future.set_running_or_notify_cancel()
    future.set_result(1)
    assert future.result() == 1
    assert set(vars(future)) == {"_state", "_result", "_exception"}


def test_it_says_what_it_is():
    future = TaskFuture()
    assert "state=pending" in repr(future)
    future.set_running_or_notify_cancel()
    assert "state=running" in repr(future)
    future.set_result([])
    assert "returned list" in repr(future)
    failed, cancelled = TaskFuture(), TaskFuture()
    failed.set_exception(KeyError())
    cancelled.cancel()
    assert "raised KeyError" in repr(failed)
    assert "state=cancelled" in repr(cancelled)


def test_an_unknown_attribute_is_unknown():
    with pytest.raises(AttributeError, match=r"TaskFuture.*nonsense"):
        _ = TaskFuture().nonsense


def test_it_does_not_travel():
    for refuse in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="result"):
            refuse(TaskFuture())


def test_a_failed_future_is_freed_without_the_collector():
    future = TaskFuture()
    future.set_exception(KeyError())
    gc.disable()
    try:
        with pytest.raises(KeyError):
            future.result()
        gone = weakref.ref(future)
        future.exception().__traceback__ = None
        del future
        assert gone() is None
    finally:
        gc.enable()


def test_locks_are_renewed_after_a_fork(monkeypatch):
    monkeypatch.setattr(TaskFuture, "lock", TaskFuture.lock)
    before = TaskFuture.lock
    futures.renew_locks()
    assert TaskFuture.lock is not before
    future = TaskFuture()
    future.set_result(1)
    assert future.result() == 1


# -- races


def test_cancelling_and_sending_at_the_same_moment():
    outcomes = set()
    for _ in range(300):
        future = TaskFuture()
        seen = []
        future.add_done_callback(seen.append)

        def send(future=future):
            if not future.set_running_or_notify_cancel():
                return False
            future.set_result(1)
            return True

        cancelled, sent = together(future.cancel, send)
        assert cancelled != sent, "one of them wins, and both know who"
        assert future.cancelled() == cancelled
        assert seen == [future]
        outcomes.add(sent)
    assert outcomes


def test_callbacks_added_while_it_is_done_come_exactly_once():
    for _ in range(300):
        future = TaskFuture()
        seen = []
        together(
            lambda: future.set_result(1),  # noqa: B023 - the threads are over before the next turn
            lambda: [future.add_done_callback(lambda _, n=n: seen.append(n)) for n in range(20)],  # noqa: B023
        )
        assert sorted(seen) == list(range(20))


def test_waiting_in_many_ways_while_it_is_done():
    for _ in range(200):
        some = [TaskFuture() for _ in range(3)]
        order = random.sample(some, 3)

        def end(order=order):
            for future in order:
                future.set_running_or_notify_cancel()
                future.set_result(1)

        waited, completed, result, _ = together(
            lambda some=some: concurrent.futures.wait(some, timeout=20),
            lambda some=some: list(concurrent.futures.as_completed(some, timeout=20)),
            lambda some=some: some[2].result(20),
            end,
        )
        assert waited.done == set(completed) == set(some)
        assert result == 1


def test_two_that_end_it_at_the_same_moment():
    for _ in range(300):
        future = TaskFuture()
        seen = []
        future.add_done_callback(lambda done, seen=seen: seen.append(done.result()))
        together(
            lambda future=future: future.set_result(1),
            lambda future=future: future.set_result(2),
        )
        assert seen == [future.result()]


def test_conditions_made_at_the_same_moment_are_one():
    for _ in range(300):
        future = TaskFuture()
        first, second, waiters, more = together(
            lambda future=future: future._condition,
            lambda future=future: future._condition,
            lambda future=future: future._waiters,
            lambda future=future: future._waiters,
        )
        assert first is second
        assert waiters is more


def test_asyncio_wraps_it():
    async def main():
        future, cancelled = TaskFuture(), TaskFuture()
        wrapped = asyncio.wrap_future(future)
        timer = threading.Timer(0.01, future.set_result, [5])
        timer.start()
        assert await wrapped == 5
        timer.join()
        asyncio.wrap_future(cancelled).cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert cancelled.cancelled()

    asyncio.run(main())


# -- asyncio's


class Engine:
    """Takes note of what nobody wants any more."""

    def __init__(self):
        self.given_up = []

    def give_up(self, future):
        self.given_up.append(future)


@pytest.fixture
def engine():
    return Engine()


def run(main):
    """Run a coroutine function with a loop in debug mode, which looks closer."""
    return asyncio.run(asyncio.wait_for(main(), 20), debug=True)


def soon(future, value=None, error=None):
    """Settle a future in a later turn of the loop."""
    loop = future.get_loop()
    if error is None:
        loop.call_later(0.01, lambda: future.done() or future.set_result(value))
    else:
        loop.call_later(0.01, lambda: future.done() or future.set_exception(error))


def make_async(engine=None):
    future = AsyncTaskFuture(loop=asyncio.get_running_loop())
    future.engine = engine
    return future


def test_it_can_be_awaited():
    async def main():
        future = make_async()
        soon(future, 1)
        assert await future == 1
        assert await future == 1

    run(main)


def test_it_stands_where_a_coroutine_can(engine):
    async def main():
        future, failing = make_async(engine), make_async(engine)
        soon(future, 1)
        soon(failing, error=KeyError())
        task = asyncio.create_task(future, name="from a future")
        assert "from a future" in repr(task)
        assert await task == 1
        with pytest.raises(KeyError):
            await asyncio.get_running_loop().create_task(failing)
        assert engine.given_up == []

    run(main)


def test_a_task_of_a_future_that_is_done():
    async def main():
        future = make_async()
        future.set_result(1)
        assert await asyncio.create_task(future) == 1

    run(main)


def test_in_a_task_group(engine):
    async def main():
        first, second = make_async(engine), make_async(engine)
        soon(first, 1)
        soon(second, 2)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(first), group.create_task(second)]
        assert [task.result() for task in tasks] == [1, 2]

    run(main)


def test_a_task_group_that_fails_gives_the_others_up(engine):
    async def main():
        bad, other, unstarted = make_async(engine), make_async(engine), make_async(engine)
        soon(bad, error=KeyError())
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(bad)
                group.create_task(other)
        assert other.cancelled()
        assert engine.given_up == [other]
        task = asyncio.create_task(unstarted)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert unstarted.cancelled(), "cancelled before its first step"
        assert engine.given_up == [other, unstarted]

    run(main)


def test_wait_for_gives_it_up(engine):
    async def main():
        future, done = make_async(engine), make_async(engine)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(future, 0.01)
        assert future.cancelled()
        assert engine.given_up == [future]
        soon(done, 1)
        assert await asyncio.wait_for(done, 20) == 1

    run(main)


def test_gather_and_as_completed(engine):
    async def main():
        some = [make_async(engine) for _ in range(3)]
        for number, future in enumerate(some):
            soon(future, number)
        assert await asyncio.gather(*some) == [0, 1, 2]
        # As coroutines are, the futures themselves are refused here.
        done, _ = await asyncio.wait([asyncio.create_task(future) for future in some])
        assert {task.result() for task in done} == {0, 1, 2}
        assert sorted([await future for future in asyncio.as_completed(some)]) == [0, 1, 2]
        abandoned = [make_async(engine) for _ in range(2)]
        gathered = asyncio.gather(*abandoned)
        gathered.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gathered
        assert set(engine.given_up) == set(abandoned)

    run(main)


def test_shielded_it_goes_on(engine):
    async def main():
        future = make_async(engine)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(future), 0.001)
        soon(future, 1)
        assert await future == 1
        assert engine.given_up == []

    run(main)


def test_cancelling_is_told_once_and_only_when_it_is_not_done(engine):
    async def main():
        future, done, alone = make_async(engine), make_async(engine), make_async()
        assert future.cancel("why")
        assert not future.cancel()
        assert engine.given_up == [future]
        with pytest.raises(asyncio.CancelledError, match="why"):
            await future
        done.set_result(1)
        assert not done.cancel()
        assert engine.given_up == [future]
        assert alone.cancel()

    run(main)


def test_the_protocol_of_a_coroutine(engine):
    async def main():
        future, closed, thrown = (make_async(engine) for _ in range(3))
        assert future.send(None) is future
        future.set_result(3)
        with pytest.raises(StopIteration) as stop:
            future.send(None)
        assert stop.value.value == 3
        closed.send(None)
        closed.close()
        assert not closed.done(), "the work goes on"
        thrown.send(None)
        with pytest.raises(KeyError):
            thrown.throw(KeyError())
        assert not thrown.done()
        closed.cancel()
        thrown.cancel()

    run(main)


def test_it_has_no_dictionary(engine):
    async def main():
        future = make_async(engine)
        assert not hasattr(future, "__dict__")
        future.cancel()

    run(main)


def test_what_an_interrupted_wait_has_left_locked_is_given_back():
    """`concurrent.futures.wait` locks one after the other, and Ctrl-C may come in between."""
    locked = [TaskFuture() for _ in range(3)]
    for future in locked:
        future._condition.acquire()
    futures.let_go()
    thread = threading.Thread(target=locked[0].set_result, args=(42,), daemon=True)
    thread.start()
    thread.join(30)
    assert locked[0].done()
    futures.let_go()
