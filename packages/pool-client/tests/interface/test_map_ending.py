"""When a map starts, and how it ends: break, close, exceptions, shutdown, and nobody listening."""

import asyncio
import contextlib
import gc
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import interface_tasks as tasks
import pytest
from support import wait_until

from pool_client import Pool


@pytest.fixture
def pool(shared: Any) -> Any:
    """Yield the pool of this file: these tests leave it as it is."""
    return shared


def test_work_starts_at_the_call(pool: Any, gate: Any) -> None:
    """Tasks run before the iterator is advanced."""
    results = pool.map(tasks.pass_gate, [gate.path] * 2, range(2), [gate.arrived] * 2)
    wait_until(lambda: gate.arrivals() == 2)
    gate.open()
    assert list(results) == [0, 1]


def test_work_starts_at_the_call_for_generators(pool: Any, gate: Any) -> None:
    """The same holds for inputs of unknown length."""
    source = (n for n in range(2))
    results = pool.map(tasks.pass_gate, [gate.path] * 2, source, [gate.arrived] * 2)
    wait_until(lambda: gate.arrivals() == 2)
    gate.open()
    assert list(results) == [0, 1]


@pytest.mark.parametrize("chunksize", [None, 1, 10])
def test_sized_input_is_run_whole_at_shutdown(tmp_path: Any, chunksize: int | None) -> None:
    """A sized input whose iterator was never advanced is run whole by ``shutdown(wait=True)``."""
    path = str(tmp_path / "notes")
    with Pool(2) as pool:
        results = pool.map(tasks.note, [path] * 300, range(300), chunksize=chunksize)
    assert sorted(map(int, tasks.noted(path))) == list(range(300))
    assert list(results) == [None] * 300


def test_sized_input_is_run_whole_though_dropped(tmp_path: Any) -> None:
    """The same holds where nobody keeps the iterator."""
    path = str(tmp_path / "notes")
    with Pool(2) as pool:
        pool.map(tasks.note, [path] * 300, range(300))
        gc.collect()
    assert sorted(map(int, tasks.noted(path))) == list(range(300))


def test_sized_input_is_run_whole_beyond_buffersize(tmp_path: Any) -> None:
    """A small buffer does not keep the rest from running at the end."""
    path = str(tmp_path / "notes")
    with Pool(2) as pool:
        pool.map(tasks.note, [path] * 100, range(100), buffersize=5, chunksize=1)
    assert len(tasks.noted(path)) == 100


def test_results_after_shutdown(tmp_path: Any) -> None:
    """An iterator outlives the pool when its work was done."""
    with Pool(2) as pool:
        results = pool.map(tasks.square, range(100))
    assert list(results) == [n * n for n in range(100)]


def test_errors_of_a_dropped_map_are_dropped() -> None:
    """Nobody is told of an exception in a map that nobody listens to."""
    with Pool(2) as pool:
        pool.map(tasks.fail, range(20))
        gc.collect()
        assert pool.run(abs, -1) == 1


@pytest.mark.parametrize("how", ["close", "break", "drop"])
def test_leaving_early_cancels_the_rest(single: Any, gate: Any, how: str) -> None:
    """Leaving a map early cancels what was not sent."""
    items = ((gate.path, n, gate.arrived) for n in range(50))
    single.submit(tasks.pass_gate, gate.path)
    results = single.map(tasks.pass_gate, items, star=True, chunksize=1)
    if how == "break":
        gate.open()
        for _ in results:
            break
        del results
    elif how == "close":
        results.close()
    else:
        del results
    gc.collect()
    gate.open()
    assert single.run(abs, -1) == 1
    assert gate.arrivals() < 50
    before = gate.arrivals()
    assert [single.run(abs, -n) for n in range(5)] == list(range(5))
    assert gate.arrivals() == before


def test_closed_iterator_is_finished(pool: Any) -> None:
    """A closed iterator ends, and can be closed again."""
    results = pool.map(abs, itertools.count())
    assert next(results) == 0
    results.close()
    results.close()
    with pytest.raises(StopIteration):
        next(results)


def test_close_after_the_end(pool: Any) -> None:
    """An exhausted iterator can be closed."""
    results = pool.map(abs, [-1])
    assert list(results) == [1]
    results.close()


def test_close_stops_reading(pool: Any) -> None:
    """After ``close`` the input is not advanced any more."""
    read = []

    def source() -> Iterator[int]:
        for number in itertools.count():
            read.append(number)
            yield number

    results = pool.map(abs, source(), chunksize=1)
    next(results)
    results.close()
    before = len(read)
    assert pool.run(abs, -1) == 1
    assert len(read) == before


def test_closing_closes_the_generator(pool: Any) -> None:
    """An input that is a generator can clean up when its map is closed."""
    closed = []

    def source() -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            closed.append(True)

    with contextlib.closing(pool.map(abs, source())) as results:
        assert next(results) == 0
    del results
    gc.collect()
    assert closed == [True]


def test_an_error_cancels_the_rest(single: Any, tmp_path: Any) -> None:
    """After an exception, what was not sent never runs."""
    path = str(tmp_path / "notes")

    def work(number: int) -> int:
        tasks.note(path, number)
        return tasks.fail_on(number, 2)

    with pytest.raises(tasks.Oops):
        list(single.map(work, itertools.count(), chunksize=1, timeout=30))
    assert single.run(abs, -1) == 1
    ran = len(tasks.noted(path))
    assert single.run(abs, -1) == 1
    assert len(tasks.noted(path)) == ran
    assert ran < 1000


def test_pool_is_usable_inside_the_loop_over_results(pool: Any) -> None:
    """The body of a loop over results may use the pool."""
    for number in pool.map(abs, range(20)):
        assert pool.run(tasks.square, number) == number * number


def test_break_out_of_map_async(pool: Any) -> None:
    """`map_async` can be left early and closed; the pool goes on."""

    async def main() -> None:
        results = pool.map_async(abs, itertools.count(), timeout=30)
        async with contextlib.aclosing(results):
            async for result in results:
                if result == 10:
                    break
        assert [n async for n in results] == []
        assert await asyncio.wait_for(pool.run_async(abs, -1), 30) == 1

    asyncio.run(main())


def test_leaving_map_async_without_closing(pool: Any) -> None:
    """`map_async` left by a plain ``break`` is cleaned up with its loop."""

    async def main() -> None:
        async for result in pool.map_async(abs, itertools.count(), timeout=30):
            if result == 10:
                break
        assert await asyncio.wait_for(pool.run_async(abs, -1), 30) == 1

    asyncio.run(main())
    assert pool.run(abs, -1) == 1


def test_cancelling_the_consumer_of_map_async(pool: Any, gate: Any) -> None:
    """A consumer that is cancelled while it waits leaves a pool that works."""

    async def main() -> None:
        async def consume() -> None:
            async for _ in pool.map_async(tasks.pass_gate, [gate.path] * 10):
                pass

        consumer = asyncio.create_task(consume())
        await asyncio.sleep(0.05)
        consumer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consumer
        gate.open()
        assert await asyncio.wait_for(pool.run_async(abs, -1), 30) == 1

    asyncio.run(main())


def test_async_input_is_closed(pool: Any) -> None:
    """An async generator that is the input of a closed `map_async` can clean up, on its loop."""
    closed = []

    async def source() -> AsyncIterator[int]:
        try:
            for number in itertools.count():
                await asyncio.sleep(0)
                yield number
        finally:
            closed.append(asyncio.get_running_loop())

    async def main() -> Any:
        results = pool.map_async(abs, source(), timeout=30)
        async with contextlib.aclosing(results):
            async for _ in results:
                break
        return asyncio.get_running_loop()

    loop = asyncio.run(main())
    assert closed == [loop]


def test_map_async_starts_with_its_first_result(pool: Any) -> None:
    """`map_async` that nobody iterates over does no harm."""

    async def main() -> None:
        results = pool.map_async(abs, itertools.count())
        await results.aclose()
        assert await asyncio.wait_for(pool.run_async(abs, -1), 30) == 1

    asyncio.run(main())


def test_map_async_on_its_own(pool: Any) -> None:
    """`map_async` returns an async generator."""

    async def main() -> None:
        results = pool.map_async(abs, [-1, -2, -3])
        assert results.__aiter__() is results
        assert await anext(results) == 1
        assert [n async for n in results] == [2, 3]
        with pytest.raises(StopAsyncIteration):
            await anext(results)

    asyncio.run(main())


def test_map_after_shutdown() -> None:
    """A pool that was shut down maps no more."""
    with Pool(1) as pool:
        assert pool.run(abs, -1) == 1
    with pytest.raises(RuntimeError):
        list(pool.map(abs, [1]))


def test_shutdown_with_cancel_futures_ends_a_map(gate: Any) -> None:
    """``shutdown(cancel_futures=True)`` does not run a map to its end."""
    pool = Pool(1, qsize=1)
    pool.map(tasks.pass_gate, [gate.path] * 30, range(30), [gate.arrived] * 30, chunksize=1)
    wait_until(gate.arrivals)
    pool.shutdown(wait=False, cancel_futures=True)
    gate.open()
    pool.shutdown()
    assert gate.arrivals() < 5
