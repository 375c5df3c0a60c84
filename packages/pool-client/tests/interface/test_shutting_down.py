"""The life of a pool: creation, readiness, shutdown in all its forms, and use after it."""

import asyncio
import concurrent.futures
import gc
import threading
from typing import Any

import interface_tasks as tasks
import pytest
from support import is_alive, run_script, wait_until, worker_pids

from pool_client import Pool, PoolBroken


def test_lazy_pool_starts_nothing() -> None:
    """With ``lazy_create`` there is no worker before the first use."""
    with Pool(2, lazy_create=True) as pool:
        pass
    pool = Pool(2, lazy_create=True)
    assert pool.total_workers() == 0
    assert not pool.is_ready()
    assert list(pool.workers()) == []
    pool.shutdown()


@pytest.mark.parametrize(
    "use",
    [
        lambda pool: pool.run(abs, -1),
        lambda pool: pool.submit(abs, -1).result(30),
        lambda pool: next(pool.map(abs, [-1])),
        lambda pool: pool.create() or 1,
    ],
    ids=["run", "submit", "map", "create"],
)
def test_first_use_creates(use: Any) -> None:
    """The first use of a lazy pool creates it."""
    pool = Pool(2, lazy_create=True)
    assert use(pool) == 1
    assert pool.total_workers() == 2
    pool.shutdown()


def test_first_asynchronous_use_creates() -> None:
    """So does the first asynchronous use."""

    async def main() -> None:
        pool = Pool(2, lazy_create=True)
        assert await asyncio.wait_for(pool.run_async(abs, -1), 30) == 1
        assert pool.total_workers() == 2
        await pool.shutdown_async()

    asyncio.run(main())


def test_create() -> None:
    """After `create` all workers are connected; a second call does nothing."""
    pool = Pool(3, lazy_create=True)
    pool.create()
    assert pool.is_ready()
    pids = worker_pids(pool)
    assert len(set(pids)) == 3
    pool.create()
    assert worker_pids(pool) == pids
    pool.shutdown()


def test_create_after_shutdown() -> None:
    """A pool that was shut down is not created again."""
    pool = Pool(1)
    pool.shutdown()
    with pytest.raises(RuntimeError):
        pool.create()


def test_ready_before_during_and_after() -> None:
    """`ready` and `is_ready` say the same, and are cleared at shutdown."""
    pool = Pool(2, lazy_create=True)
    assert (pool.ready.is_set(), pool.is_ready(), pool.total_workers()) == (False, False, 0)
    pool.create()
    assert (pool.ready.is_set(), pool.is_ready(), pool.total_workers()) == (True, True, 2)
    pool.shutdown()
    assert (pool.ready.is_set(), pool.is_ready(), pool.total_workers()) == (False, False, 0)


def test_ready_wait_from_several_loops() -> None:
    """``ready.wait()`` can be awaited on any loop, before and after it is set."""

    async def main(pool: Any) -> None:
        await asyncio.wait_for(pool.ready.wait(), 30)
        assert pool.ready.is_set()

    with Pool(2) as pool:
        for _ in range(2):
            asyncio.run(main(pool))


def test_ready_wait_before_creation() -> None:
    """``ready.wait()`` waits for a pool that another thread creates."""

    async def main() -> None:
        pool = Pool(2, lazy_create=True)
        waiter = asyncio.ensure_future(pool.ready.wait())
        await asyncio.sleep(0.02)
        assert not waiter.done()
        await asyncio.to_thread(pool.create)
        await asyncio.wait_for(waiter, 30)
        await pool.shutdown_async()

    asyncio.run(main())


def test_ready_wait_for_a_pool_that_fails() -> None:
    """``ready.wait()`` raises the reason; it does not wait for ever."""

    def fail() -> None:
        raise ValueError("no licence")

    async def main() -> None:
        pool = Pool(1, lazy_create=True, initializer=fail)
        waiter = asyncio.ensure_future(pool.ready.wait())
        with pytest.raises(PoolBroken):
            await asyncio.to_thread(pool.create)
        for waiting in (waiter, pool.ready.wait()):
            with pytest.raises(PoolBroken, match="no licence"):
                await asyncio.wait_for(waiting, 30)

    asyncio.run(main())


@pytest.mark.parametrize("used", [False, True])
def test_ready_wait_for_a_pool_that_is_shut_down(used: bool) -> None:
    """So it does after shutdown, and for who waited before."""

    async def main() -> None:
        pool = Pool(1, lazy_create=True)
        waiter = asyncio.ensure_future(pool.ready.wait())
        if used:
            await pool
            assert await asyncio.wait_for(waiter, 30)
        await pool.shutdown_async()
        with pytest.raises(RuntimeError, match="after shutdown"):
            await asyncio.wait_for(pool.ready.wait() if used else waiter, 30)

    asyncio.run(main())


def test_shutdown_waits_for_running_tasks(gate: Any) -> None:
    """`shutdown` returns when the tasks are done, those in the queue included."""
    pool = Pool(1)
    futures = [pool.submit(tasks.asleep, 0.02, n) for n in range(5)]
    pool.shutdown()
    assert [future.result(0) for future in futures] == [0, 1, 2, 3, 4]


def test_with_waits_for_running_tasks() -> None:
    """So does the end of ``with`` and of ``async with``."""
    with Pool(1) as pool:
        futures = [pool.submit(tasks.asleep, 0.02, n) for n in range(5)]
    assert [future.result(0) for future in futures] == [0, 1, 2, 3, 4]

    async def main() -> None:
        async with Pool(1) as pool:
            futures = [pool.run_async(tasks.asleep, 0.02, n) for n in range(5)]
        assert await asyncio.wait_for(asyncio.gather(*futures), 5) == [0, 1, 2, 3, 4]

    asyncio.run(main())


def test_shutdown_is_idempotent() -> None:
    """A second shutdown does nothing, however it is asked for."""
    pool = Pool(1)
    assert pool.run(abs, -1) == 1
    pool.shutdown()
    pool.shutdown()
    pool.shutdown(wait=False, cancel_futures=True)
    asyncio.run(pool.shutdown_async())


def test_shutdown_of_a_pool_never_used() -> None:
    """A pool that was never used can be shut down."""
    Pool(1).shutdown()
    Pool(1, lazy_create=True).shutdown()
    with Pool(1):
        pass


def test_shutdown_async(gate: Any) -> None:
    """`shutdown_async` waits for the tasks and leaves the loop free meanwhile."""

    async def main() -> None:
        pool = await Pool(1)
        futures = [pool.submit(tasks.pass_gate, gate.path, n) for n in range(5)]
        ending = asyncio.ensure_future(pool.shutdown_async())
        for _ in range(10):
            await asyncio.sleep(0.002)
            assert not ending.done()
        gate.open()
        await ending
        assert [future.result(0) for future in futures] == [0, 1, 2, 3, 4]

    asyncio.run(main())


def test_shutdown_without_waiting(gate: Any) -> None:
    """``shutdown(wait=False)`` returns while tasks run, and they finish."""
    pool = Pool(1)
    future = pool.submit(tasks.pass_gate, gate.path, 5, gate.arrived)
    behind = pool.submit(abs, -1)
    wait_until(gate.arrivals)
    pool.shutdown(wait=False)
    assert not future.done()
    with pytest.raises(RuntimeError):
        pool.submit(abs, -1)
    gate.open()
    assert future.result(30) == 5
    assert behind.result(30) == 1
    pool.shutdown()


def test_shutdown_that_cancels(gate: Any) -> None:
    """``cancel_futures`` cancels what was not sent, and lets finish what runs."""
    pool = Pool(1, qsize=1)
    running = pool.submit(tasks.pass_gate, gate.path, 5, gate.arrived)
    others = [pool.submit(abs, -n) for n in range(5)]
    wait_until(gate.arrivals)
    pool.shutdown(wait=False, cancel_futures=True)
    assert concurrent.futures.wait(others, timeout=20).not_done == set()
    assert all(future.cancelled() for future in others)
    gate.open()
    pool.shutdown()
    assert running.result(0) == 5


@pytest.mark.parametrize(
    "use",
    [
        lambda pool: pool.submit(abs, -1),
        lambda pool: pool.run(abs, -1),
        lambda pool: list(pool.map(abs, [-1])),
        lambda pool: pool.run_on_all(abs, -1),
        lambda pool: pool.options(retries=0).run(abs, -1),
    ],
    ids=["submit", "run", "map", "run_on_all", "options"],
)
def test_use_after_shutdown(use: Any) -> None:
    """A pool that was shut down says so."""
    pool = Pool(1)
    pool.shutdown()
    with pytest.raises(RuntimeError, match=r"(?i)shut ?down|closed"):
        use(pool)


def test_asynchronous_use_after_shutdown() -> None:
    """So do the asynchronous methods."""

    async def main() -> None:
        async with Pool(1) as pool:
            assert await pool.run_async(abs, -1) == 1
        with pytest.raises(RuntimeError):
            await pool.run_async(abs, -1)
        with pytest.raises(RuntimeError):
            async for _ in pool.map_async(abs, [-1]):
                pass
        with pytest.raises(RuntimeError):
            await pool.run_on_all_async(abs, -1)

    asyncio.run(main())


@pytest.mark.parametrize("how", ["terminate_workers", "kill_workers"])
def test_ending_the_workers(gate: Any, how: str) -> None:
    """The workers end in the middle of their tasks; futures fail and the pool is shut down."""
    pool = Pool(2)
    futures = [pool.submit(tasks.pass_gate, gate.path, 1, gate.arrived) for _ in range(5)]
    wait_until(lambda: gate.arrivals() == 2)
    pids = worker_pids(pool)
    getattr(pool, how)()
    wait_until(lambda: not any(map(is_alive, pids)))
    wait_until(lambda: all(future.done() for future in futures))
    for future in futures:
        assert future.cancelled() or future.exception() is not None
    with pytest.raises(RuntimeError):
        pool.submit(abs, -1)
    pool.shutdown()


@pytest.mark.parametrize("how", ["terminate_workers", "kill_workers"])
def test_ending_the_workers_of_an_idle_pool(how: str) -> None:
    """An idle pool, a lazy one and one that was shut down can be ended."""
    pool = Pool(1)
    getattr(pool, how)()
    getattr(pool, how)()
    pool.shutdown()
    lazy = Pool(1, lazy_create=True)
    getattr(lazy, how)()
    lazy.shutdown()


def test_dropped_pool_cleans_up() -> None:
    """A pool that nobody refers to any more goes away; the leak check looks for the rest."""
    pool = Pool(1)
    assert pool.run(abs, -1) == 1
    pids = worker_pids(pool)
    del pool
    gc.collect()
    wait_until(lambda: not any(map(is_alive, pids)))


def test_left_open_at_exit() -> None:
    """A script that forgets its pool ends, and its tasks are done."""
    script = """
        import time
        from pool_client import Pool
        def work(n):
            time.sleep(0.05)
            return n
        pool = Pool(1)
        futures = [pool.submit(work, n) for n in range(4)]
        futures[-1].add_done_callback(lambda future: print(future.result()))
    """
    assert run_script(script).stdout == "3\n"


def test_left_open_at_exit_after_not_waiting() -> None:
    """Interpreter exit joins ``shutdown(wait=False)``."""
    script = """
        import time
        from pool_client import Pool
        def work(n):
            time.sleep(0.05)
            return n
        pool = Pool(1)
        futures = [pool.submit(work, n) for n in range(4)]
        futures[-1].add_done_callback(lambda future: print(future.result()))
        pool.shutdown(wait=False)
    """
    assert run_script(script).stdout == "3\n"


def test_exit_with_an_error_in_the_script() -> None:
    """A script that ends with an exception shows it, and ends."""
    script = """
        from pool_client import Pool
        pool = Pool(1)
        pool.run(abs, -1)
        raise SystemError("the script's own")
    """
    done = run_script(script, code=1)
    assert "the script's own" in done.stderr


def test_a_pool_after_a_pool() -> None:
    """Pools made one after another work."""
    for number in range(5):
        with Pool(1) as pool:
            assert pool.run(abs, -number) == number


def test_shutdown_by_several_threads() -> None:
    """Several threads may shut one pool down at once."""
    pool = Pool(1)
    future = pool.submit(tasks.asleep, 0.1, 5)
    threads = [threading.Thread(target=pool.shutdown) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert future.result(0) == 5


def test_shutdown_is_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ending an idle pool takes no waiting for deadlines."""
    for deadline in (
        "engine._LEAVE",
        "hosts.host._FAREWELL",
        "hosts.launching._PATIENCE",
        "launchers.local._PATIENCE",
    ):
        monkeypatch.setattr(f"pool_client.{deadline}", 1000.0)
    pool = Pool(2)
    pool.run(abs, -1)
    ending = threading.Thread(target=pool.shutdown, daemon=True)
    ending.start()
    ending.join(60)
    assert not ending.is_alive()


@pytest.mark.parametrize("end", ["", "pool.shutdown()", "pool.kill_workers()"])
def test_the_end_after_an_interrupted_wait(end: str) -> None:
    """A Ctrl-C in the middle of `concurrent.futures.wait` leaves futures locked; nothing hangs."""
    run_script(
        f"""
from pool_client import Pool

pool = Pool(1)
for _ in range(5):
    pool.submit(abs, -1)._condition.acquire()
{end}
"""
    )
