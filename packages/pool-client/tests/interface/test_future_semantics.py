"""What a future of `submit` and of `run_async` does."""

import asyncio
import contextlib
import logging
import threading
from concurrent.futures import CancelledError, Future, InvalidStateError, as_completed, wait
from typing import Any

import interface_tasks as tasks
import pytest
from support import wait_until


@pytest.fixture
def pool(shared: Any) -> Any:
    """Yield the pool of this file: these tests leave it as it is."""
    return shared


def test_states_of_a_good_task(pool: Any, gate: Any) -> None:
    """A future is not done while its task runs, and done after it."""
    future = pool.submit(tasks.pass_gate, gate.path, 5, gate.arrived)
    wait_until(gate.arrivals)
    assert not future.done()
    assert not future.cancelled()
    assert wait_until(future.running)
    gate.open()
    assert future.result(30) == 5
    assert (future.done(), future.running(), future.cancelled()) == (True, False, False)
    assert future.exception() is None


def test_pending_state(single: Any, gate: Any) -> None:
    """A task that was not sent does not count as running."""
    single.submit(tasks.pass_gate, gate.path)
    behind = single.submit(abs, -1)
    assert (behind.running(), behind.done()) == (False, False)


def test_result_twice(pool: Any) -> None:
    """A result can be asked for as often as one likes."""
    future = pool.submit(tasks.square, 4)
    assert [future.result(30), future.result(), future.result(0)] == [16, 16, 16]


def test_result_times_out(pool: Any, gate: Any) -> None:
    """``result(timeout)`` raises and leaves the task alone."""
    future = pool.submit(tasks.pass_gate, gate.path, 5)
    with pytest.raises(TimeoutError):
        future.result(timeout=0.05)
    with pytest.raises(TimeoutError):
        future.result(timeout=0)
    gate.open()
    assert future.result(30) == 5


def test_exception_times_out(pool: Any, gate: Any) -> None:
    """``exception(timeout)`` raises the same."""
    future = pool.submit(tasks.pass_gate, gate.path)
    with pytest.raises(TimeoutError):
        future.exception(timeout=0.05)


def test_exception(pool: Any) -> None:
    """``exception()`` returns what ``result()`` raises."""
    future = pool.submit(tasks.fail, 4)
    error = future.exception(30)
    assert isinstance(error, tasks.Oops)
    assert error.number == 4
    with pytest.raises(tasks.Oops) as caught:
        future.result()
    assert caught.value is error


def test_cancel_before_sending(single: Any, gate: Any) -> None:
    """A task that was not sent can be cancelled, and never runs."""
    single.submit(tasks.pass_gate, gate.path)
    behind = single.submit(tasks.note, gate.arrived)
    assert behind.cancel() is True
    assert behind.cancel() is True
    assert behind.cancelled()
    assert behind.done()
    with pytest.raises(CancelledError):
        behind.result(30)
    with pytest.raises(CancelledError):
        behind.exception(30)
    gate.open()
    assert single.run(abs, -1) == 1
    assert gate.arrivals() == 0


def test_cancel_while_running(pool: Any, gate: Any) -> None:
    """A running task is not cancelled, and its result arrives."""
    future = pool.submit(tasks.pass_gate, gate.path, 5, gate.arrived)
    wait_until(gate.arrivals)
    wait_until(future.running)
    assert future.cancel() is False
    gate.open()
    assert future.result(30) == 5


def test_cancel_when_done(pool: Any) -> None:
    """A future that is done stays as it is."""
    future = pool.submit(abs, -1)
    assert future.result(30) == 1
    assert future.cancel() is False
    assert not future.cancelled()


def test_cancelled_futures_wake_those_who_wait(single: Any, gate: Any) -> None:
    """A thread that waits for a result gets the cancellation."""
    single.submit(tasks.pass_gate, gate.path)
    behind = single.submit(abs, -1)
    seen: list[BaseException | None] = []

    def wait_for_it() -> None:
        try:
            behind.result(30)
        except CancelledError as error:
            seen.append(error)

    thread = threading.Thread(target=wait_for_it)
    thread.start()
    assert behind.cancel()
    thread.join(30)
    assert len(seen) == 1


def test_cancelled_futures_count_as_done(single: Any, gate: Any) -> None:
    """`wait` and `as_completed` get to know of a cancellation."""
    held = single.submit(tasks.pass_gate, gate.path)
    behind = [single.submit(abs, -n) for n in range(3)]
    waited: list[Any] = []
    thread = threading.Thread(target=lambda: waited.extend(wait(behind, timeout=30).done))
    thread.start()
    assert all(future.cancel() for future in behind)
    gate.open()
    thread.join(40)
    assert set(waited) == set(behind)
    assert set(as_completed([held, *behind], timeout=30)) == {held, *behind}


def test_callback(pool: Any) -> None:
    """A callback gets the future, once, done before it was added or not."""
    seen: list[Future[int]] = []
    future = pool.submit(abs, -1)
    future.add_done_callback(seen.append)
    assert future.result(30) == 1
    wait_until(lambda: seen)
    future.add_done_callback(seen.append)
    assert seen == [future, future]


def test_callback_of_a_cancelled_future(single: Any, gate: Any) -> None:
    """A callback is called for a cancellation."""
    single.submit(tasks.pass_gate, gate.path)
    behind = single.submit(abs, -1)
    seen: list[bool] = []
    behind.add_done_callback(lambda future: seen.append(future.cancelled()))
    assert behind.cancel()
    assert wait_until(lambda: seen) == [True]


def test_callback_that_raises(pool: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An error in a callback is logged; other callbacks and tasks are unharmed."""
    seen: list[int] = []

    def bad(future: Future[int]) -> None:
        raise RuntimeError("the callback is broken")

    future = pool.submit(abs, -1)
    with caplog.at_level(logging.ERROR):
        future.add_done_callback(bad)
        future.add_done_callback(lambda f: seen.append(f.result()))
        assert future.result(30) == 1
        assert wait_until(lambda: seen) == [1]
    assert "the callback is broken" in caplog.text
    assert pool.run(abs, -2) == 2


def test_callback_that_submits(pool: Any) -> None:
    """A callback may submit the next task."""
    results: list[int] = []
    finished = threading.Event()

    def go_on(future: Future[int]) -> None:
        results.append(future.result())
        if len(results) < 20:
            pool.submit(tasks.add, future.result(), 1).add_done_callback(go_on)
        else:
            finished.set()

    pool.submit(tasks.add, 0, 1).add_done_callback(go_on)
    assert finished.wait(30)
    assert results == list(range(1, 21))


def test_repr(pool: Any, gate: Any) -> None:
    """The repr of a future says its state and the type of its outcome."""
    held = pool.submit(tasks.pass_gate, gate.path)
    assert "finished" not in repr(held)
    future = pool.submit(abs, -1)
    future.result(30)
    assert "finished" in repr(future)
    assert "int" in repr(future)
    failed = pool.submit(tasks.fail, 1)
    failed.exception(30)
    assert "Oops" in repr(failed)


def test_nobody_else_sets_the_result(pool: Any) -> None:
    """A finished future keeps its result, whatever anybody tries to set."""
    future = pool.submit(abs, -1)
    assert future.result(30) == 1
    with contextlib.suppress(InvalidStateError):
        future.set_result(5)
    assert future.result() == 1


def test_futures_are_hashable_and_distinct(pool: Any) -> None:
    """Futures are keys, each its own."""
    futures = [pool.submit(abs, -1) for _ in range(10)]
    assert len(set(futures)) == 10


def test_many_threads_wait_for_one_future(pool: Any, gate: Any) -> None:
    """All threads that wait for one future are woken."""
    future = pool.submit(tasks.pass_gate, gate.path, 5)
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(future.result(30))) for _ in range(5)]
    for thread in threads:
        thread.start()
    gate.open()
    for thread in threads:
        thread.join(30)
    assert results == [5] * 5


def test_run_async_is_a_future_at_once(pool: Any) -> None:
    """`run_async` starts its task without being awaited."""

    async def main() -> int:
        future = pool.run_async(tasks.square, 5)
        assert asyncio.isfuture(future)
        assert not future.done()
        return await asyncio.wait_for(future, 30)

    assert asyncio.run(main()) == 25


def test_run_async_starts_at_the_call(pool: Any, gate: Any) -> None:
    """The task runs though nobody awaits the future yet."""

    async def main() -> None:
        future = pool.run_async(tasks.pass_gate, gate.path, 5, gate.arrived)
        await asyncio.to_thread(wait_until, gate.arrivals)
        gate.open()
        assert await asyncio.wait_for(future, 30) == 5
        assert await future == 5
        assert future.result() == 5

    asyncio.run(main())


@pytest.mark.parametrize(
    "wrapper",
    [asyncio.gather, asyncio.ensure_future, asyncio.create_task, asyncio.shield],
    ids=lambda wrapper: wrapper.__name__,
)
def test_run_async_wherever_awaitables_go(pool: Any, wrapper: Any) -> None:
    """asyncio's functions accept what `run_async` returns."""

    async def main() -> Any:
        result = await asyncio.wait_for(wrapper(pool.run_async(tasks.square, 5)), 30)
        return result if isinstance(result, list) else [result]

    assert asyncio.run(main()) == [25]


def test_run_async_in_a_task_group(pool: Any) -> None:
    """A task group runs what `run_async` returns."""

    async def main() -> list[int]:
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            jobs = [group.create_task(pool.run_async(tasks.square, n)) for n in range(5)]
        return [job.result() for job in jobs]

    assert asyncio.run(main()) == [0, 1, 4, 9, 16]


def test_error_in_a_task_group(pool: Any) -> None:
    """A task group gets the exception of a task."""

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.timeout(30), asyncio.TaskGroup() as group:
                group.create_task(pool.run_async(tasks.fail, 1))
        assert caught.group_contains(tasks.Oops)

    asyncio.run(main())


def test_asyncio_wait_and_as_completed(pool: Any, gate: Any) -> None:
    """`asyncio.as_completed` takes what `run_async` returns, and `asyncio.wait` its task."""

    async def main() -> None:
        held = asyncio.create_task(pool.run_async(tasks.pass_gate, gate.path, "held"))
        quick = asyncio.create_task(pool.run_async(abs, -1))
        done, pending = await asyncio.wait(
            [held, quick], timeout=30, return_when=asyncio.FIRST_COMPLETED
        )
        assert [future.result() for future in done] == [1]
        assert len(pending) == 1
        gate.open()
        jobs = [pool.run_async(abs, -n) for n in range(5)]
        values = [await each for each in asyncio.as_completed(jobs, timeout=30)]
        assert set(values) == set(range(5))
        assert await asyncio.wait_for(held, 30) == "held"

    asyncio.run(main())


def test_run_async_raises(pool: Any) -> None:
    """The task's exception is raised where it is awaited."""

    async def main() -> None:
        with pytest.raises(tasks.Oops) as caught:
            await asyncio.wait_for(pool.run_async(tasks.fail, 6), 30)
        assert caught.value.number == 6

    asyncio.run(main())


def test_cancelled_future_as_asyncio_does(single: Any, gate: Any) -> None:
    """A cancelled future raises `asyncio.CancelledError`, and what was not sent never runs."""

    async def main() -> None:
        held = single.run_async(tasks.pass_gate, gate.path, 1)
        behind = single.run_async(tasks.note, gate.arrived)
        assert behind.cancel()
        with pytest.raises(asyncio.CancelledError):
            await behind
        assert behind.cancelled()
        gate.open()
        assert await asyncio.wait_for(held, 30) == 1
        assert await asyncio.wait_for(single.run_async(abs, -1), 30) == 1

    asyncio.run(main())
    assert gate.arrivals() == 0


def test_wait_for_a_running_task(pool: Any, gate: Any) -> None:
    """`asyncio.wait_for` gives up on a running task; its result is dropped, the pool goes on."""

    async def main() -> None:
        future = pool.run_async(tasks.pass_gate, gate.path, 1, gate.arrived)
        await asyncio.to_thread(wait_until, gate.arrivals)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(future, 0.05)
        gate.open()
        jobs = [pool.run_async(abs, -n) for n in range(20)]
        assert await asyncio.wait_for(asyncio.gather(*jobs), 30) == list(range(20))

    asyncio.run(main())


def test_cancelling_a_running_async_task(pool: Any, gate: Any) -> None:
    """An async task that runs gets a real `CancelledError` in the worker."""

    async def main() -> None:
        future = pool.run_async(tasks.note_cancelled, gate.arrived, gate.path)
        await asyncio.to_thread(wait_until, gate.arrivals)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future
        await asyncio.to_thread(wait_until, lambda: tasks.noted(gate.path) == ["cancelled"])
        assert await asyncio.wait_for(pool.run_async(abs, -1), 30) == 1

    asyncio.run(main())


def test_callback_of_run_async_runs_on_its_loop(pool: Any) -> None:
    """A callback of an awaitable future is called in the loop's thread."""

    async def main() -> None:
        seen: list[int] = []
        future = pool.run_async(abs, -1)
        future.add_done_callback(lambda _: seen.append(threading.get_ident()))
        await asyncio.wait_for(future, 30)
        await asyncio.sleep(0)
        assert seen == [threading.get_ident()]

    asyncio.run(main())
