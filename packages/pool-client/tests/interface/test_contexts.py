"""From where a pool is used: threads, loops, inside a running loop, and where it must refuse."""

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import interface_tasks as tasks
import pytest

from pool_client import Pool


async def aiter_of(*values: Any) -> AsyncIterator[Any]:
    """Yield the values."""
    for value in values:
        await asyncio.sleep(0)
        yield value


async def use_asynchronously(pool: Any) -> None:
    """Use every asynchronous method."""
    async with asyncio.timeout(30):
        assert await pool.run_async(tasks.square, 3) == 9
        assert [n async for n in pool.map_async(abs, [-1, -2])] == [1, 2]
        assert len(set(await pool.run_on_all_async(tasks.pid))) == pool.total_workers()
        assert await asyncio.wrap_future(pool.submit(abs, -4)) == 4
        await pool.ready.wait()
        assert pool.is_ready()


def use_synchronously(pool: Any) -> None:
    """Use every synchronous method."""
    assert pool.run(tasks.square, 3) == 9
    assert list(pool.map(abs, [-1, -2], timeout=30)) == [1, 2]
    assert len(set(pool.run_on_all(tasks.pid))) == pool.total_workers()
    assert pool.submit(abs, -4).result(30) == 4
    assert pool.is_ready()


def in_a_thread(func: Callable[[], Any]) -> Any:
    """Return what *func* returns in a thread, or raise what it raises there."""
    outcome: list[Any] = []

    def target() -> None:
        try:
            outcome.extend([True, func()])
        except BaseException as error:
            outcome.extend([False, error])

    thread = threading.Thread(target=target)
    thread.start()
    thread.join(50)
    assert outcome, "the thread did not end"
    if not outcome[0]:
        raise outcome[1]
    return outcome[1]


@pytest.fixture
def pool(shared: Any) -> Any:
    """Yield the pool of this file: these tests leave it as it is."""
    return shared


def test_main_thread(pool: Any) -> None:
    """Every synchronous method works from the main thread."""
    use_synchronously(pool)


def test_another_thread(pool: Any) -> None:
    """Every synchronous method works from a thread other than the creator's."""
    in_a_thread(lambda: use_synchronously(pool))


def test_made_in_another_thread() -> None:
    """A pool made and ended in a thread works."""

    def job() -> None:
        with Pool(2) as pool:
            use_synchronously(pool)

    in_a_thread(job)


def test_made_here_ended_there() -> None:
    """A pool may be shut down by another thread than that which made it."""
    pool = in_a_thread(lambda: Pool(1))
    assert pool.run(abs, -1) == 1
    in_a_thread(pool.shutdown)
    assert pool.total_workers() == 0


def test_many_threads_at_once(pool: Any) -> None:
    """Many threads use one pool and each gets its own results."""
    results: dict[int, list[int]] = {}

    def job(base: int) -> None:
        futures = [pool.submit(tasks.add, base, n) for n in range(100)]
        mapped = list(pool.map(tasks.add, [base] * 100, range(100), timeout=30))
        results[base] = [future.result(30) for future in futures] + mapped

    threads = [threading.Thread(target=job, args=(base,)) for base in range(0, 6000, 1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert results == {base: [base + n for n in range(100)] * 2 for base in range(0, 6000, 1000)}


def test_asynchronous_methods_from_a_loop(pool: Any) -> None:
    """Every asynchronous method works from a loop that the pool does not know."""
    asyncio.run(use_asynchronously(pool))


def test_one_loop_after_another(pool: Any) -> None:
    """A pool is not bound to the first loop that used it."""
    for _ in range(3):
        asyncio.run(use_asynchronously(pool))


def test_loops_in_several_threads(pool: Any) -> None:
    """Loops in several threads use one pool at the same time."""
    outcomes: list[BaseException | None] = []

    def job() -> None:
        try:
            asyncio.run(use_asynchronously(pool))
        except BaseException as error:
            outcomes.append(error)
        else:
            outcomes.append(None)

    threads = [threading.Thread(target=job) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert outcomes == [None] * 3


def test_synchronous_methods_inside_a_running_loop(pool: Any) -> None:
    """Blocking methods block, and work, inside a running loop, as a notebook needs."""

    async def main() -> None:
        use_synchronously(pool)

    asyncio.run(main())


def test_made_and_used_inside_a_running_loop() -> None:
    """A pool can be made, used and ended synchronously inside a running loop."""

    async def main() -> None:
        with Pool(2) as pool:
            use_synchronously(pool)
            await use_asynchronously(pool)

    asyncio.run(main())


def test_plain_constructor_inside_a_running_loop() -> None:
    """A pool that is neither awaited nor entered works inside a running loop."""

    async def main() -> None:
        pool = Pool(2)
        assert await asyncio.wait_for(pool.run_async(abs, -1), 30) == 1
        use_synchronously(pool)
        await use_asynchronously(pool)
        await pool.shutdown_async()

    asyncio.run(main())


def test_await_pool() -> None:
    """``await pool`` gives the pool, created, with every method at hand."""

    async def main() -> None:
        made = Pool(2)
        pool = await made
        assert pool is made
        assert pool.is_ready()
        assert pool.total_workers() == 2
        await use_asynchronously(pool)
        use_synchronously(pool)
        await pool.shutdown_async()

    asyncio.run(main())


def test_async_with() -> None:
    """``async with`` gives a pool whose asynchronous methods work, and closes it."""

    async def main() -> Any:
        async with Pool(2) as pool:
            assert pool.is_ready()
            await use_asynchronously(pool)
        return pool

    pool = asyncio.run(main())
    assert pool.total_workers() == 0
    assert not pool.is_ready()


def test_async_with_adds_no_thread() -> None:
    """``async with`` puts the engine on the running loop, without a thread."""

    async def main() -> None:
        before = set(threading.enumerate())
        async with Pool(1) as pool:
            assert await pool.run_async(abs, -1) == 1
            assert not set(threading.enumerate()) - before

    asyncio.run(main())


def test_async_with_uvloop() -> None:
    """``async with`` works on a running uvloop."""
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        async with Pool(2) as pool:
            await use_asynchronously(pool)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_async_with_from_other_threads() -> None:
    """With the engine on the loop, the blocking methods work from any other thread."""

    async def main() -> None:
        async with Pool(2) as pool:
            await asyncio.wait_for(asyncio.to_thread(use_synchronously, pool), 30)

    asyncio.run(main())


def test_async_with_from_another_loop() -> None:
    """With the engine on one loop, another loop may use the pool as well."""

    async def main() -> None:
        async with Pool(2) as pool:
            other = asyncio.to_thread(lambda: asyncio.run(use_asynchronously(pool)))
            await asyncio.wait_for(other, 30)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda pool: pool.run(abs, -1), "run_async"),
        (lambda pool: list(pool.map(abs, [-1])), "map_async"),
        (lambda pool: pool.run_on_all(tasks.pid), "run_on_all_async"),
        (lambda pool: pool.submit(abs, -1).result(), "wrap_future"),
        (lambda pool: pool.submit(abs, -1).exception(), "wrap_future"),
        (lambda pool: concurrent.futures.wait([pool.submit(abs, -1)]), "wrap_future"),
        (lambda pool: list(concurrent.futures.as_completed([pool.submit(abs, -1)])), "wrap_future"),
    ],
    ids=["run", "map", "run_on_all", "result", "exception", "wait", "as_completed"],
)
def test_refuses_where_it_would_deadlock(call: Callable[[Any], Any], named: str) -> None:
    """On the thread of the loop that carries the engine, a blocking method names the other one."""

    async def main() -> None:
        async with Pool(1) as pool:
            with pytest.raises(RuntimeError, match=named):
                call(pool)
            assert await asyncio.wait_for(pool.run_async(abs, -1), 30) == 1

    asyncio.run(main())


def test_futures_that_are_done_or_limited_need_not_refuse() -> None:
    """Nothing has to be waited for, or not for ever."""

    async def main() -> None:
        async with Pool(1) as pool:
            future = pool.submit(abs, -1)
            with pytest.raises(TimeoutError):
                future.result(0.01)
            assert await asyncio.wait_for(asyncio.wrap_future(future), 30) == 1
            assert future.result() == 1
            assert list(concurrent.futures.as_completed([future])) == [future]

    asyncio.run(main())


def test_options_refuse_as_well() -> None:
    """The views of `options` refuse where the pool does."""

    async def main() -> None:
        async with Pool(1) as pool:
            with pytest.raises(RuntimeError, match="run_async"):
                pool.options(retries=0).run(abs, -1)

    asyncio.run(main())


def test_async_input_of_a_blocking_map_in_a_loop(pool: Any) -> None:
    """An async input belongs to the blocked loop: `map` works or names `map_async`, never hangs."""

    async def main() -> None:
        try:
            results = list(pool.map(abs, aiter_of(-1, -2), timeout=20))
        except RuntimeError as error:
            assert "map_async" in str(error)
        else:
            assert results == [1, 2]

    asyncio.run(main())


def test_shutdown_on_the_engine_loop_does_not_hang() -> None:
    """`shutdown` on the engine's own loop ends the pool or names `shutdown_async`."""

    async def main() -> None:
        async with Pool(1) as pool:
            try:
                pool.shutdown()
            except RuntimeError as error:
                assert "shutdown_async" in str(error)

    asyncio.run(main())


def test_sync_with_after_async_use(pool: Any) -> None:
    """Synchronous and asynchronous use alternate."""
    asyncio.run(use_asynchronously(pool))
    use_synchronously(pool)
    asyncio.run(use_asynchronously(pool))
    use_synchronously(pool)


def test_two_pools(pool: Any, single: Any) -> None:
    """Two pools do not get in each other's way."""
    first = [pool.submit(tasks.add, "a", str(n)) for n in range(20)]
    second = [single.submit(tasks.add, "b", str(n)) for n in range(20)]
    assert [future.result(30) for future in first] == [f"a{n}" for n in range(20)]
    assert [future.result(30) for future in second] == [f"b{n}" for n in range(20)]


def test_pool_inside_a_task(pool: Any) -> None:
    """A task may make a pool of its own."""
    assert pool.run(tasks.pool_in_task, 3) == [3, 2, 1]


def test_exception_in_the_with_block() -> None:
    """An exception leaves the block as it is, and ends the pool."""
    with pytest.raises(tasks.Oops), Pool(1) as pool:
        assert pool.run(abs, -1) == 1
        raise tasks.Oops(1)
    assert pool.total_workers() == 0


def test_exception_in_the_async_with_block() -> None:
    """The same holds for ``async with``."""

    async def main() -> Any:
        with pytest.raises(tasks.Oops):
            async with Pool(1) as pool:
                raise tasks.Oops(1)
        return pool

    assert asyncio.run(main()).total_workers() == 0
