"""The inside of a pool: where its engine lives, what refuses to work, and how it ends."""

import asyncio
import os
import threading

import pytest
import support

from pool_client import Pool


def test_working_after_shutdown() -> None:
    """After shutdown `working` raises, as does `start_here`, and no engine is started."""
    pool = Pool(1, lazy_create=True)
    pool.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool._core.working()
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool._core.start_here()
    assert pool._core.engine is None


def test_views_share_the_engine() -> None:
    """A pool and its views have one engine, on a thread that is not the caller's."""
    with Pool(1) as pool:
        view = pool.options(retries=0)
        engine = pool._core.working()
        assert view._core.working() is engine
        assert engine.thread != threading.get_ident()
        assert view.run(abs, -1) == 1
        assert pool.stats().completed == 1


def test_many_first_uses_at_once() -> None:
    """Threads that use a new pool at the same time get the same engine."""
    pool = Pool(1, lazy_create=True)
    start = threading.Barrier(8)
    engines = []

    def use() -> None:
        start.wait(30)
        engines.append(pool._core.working())

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(engines) == 8
    assert len(set(map(id, engines))) == 1
    pool.shutdown()


def test_start_here() -> None:
    """`start_here` puts the engine on the running loop, once, and no thread is started."""

    async def main() -> None:
        before = threading.active_count()
        async with Pool(1, lazy_create=True) as pool:
            core = pool._core
            assert core.engine.loop is asyncio.get_running_loop()
            assert core.start_here() is core.engine
            assert core.is_here()
            assert threading.active_count() == before
            assert await pool.run_async(abs, -1) == 1

    asyncio.run(asyncio.wait_for(main(), 30))


@pytest.mark.parametrize(
    ("method", "instead"),
    [("run", "await pool.run_async"), ("map", "async for … in pool.map_async")],
)
def test_must_not_block(method: str, instead: str) -> None:
    """On the engine's loop, what would block is refused, and the method to use is named."""

    async def main() -> None:
        async with Pool(1, lazy_create=True) as pool:
            with pytest.raises(RuntimeError) as caught:
                getattr(pool, method)(abs, [-1])
            assert str(caught.value).startswith(f"{method}()")
            assert instead in str(caught.value)
            await asyncio.to_thread(pool._core.must_not_block, method)

    asyncio.run(asyncio.wait_for(main(), 30))


def test_forked_child() -> None:
    """A forked child's copy refuses to work, and its end does the parent no harm."""
    with Pool(1) as pool:
        pids = support.worker_pids(pool)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                pool._core.working()
            except RuntimeError as error:
                code = 7 if "parent process" in str(error) else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        support.assert_works(pool)
        assert support.worker_pids(pool) == pids


def test_close_is_idempotent() -> None:
    """Every `close`, with and without a task under way, gives the same future."""
    pool = Pool(1)
    future = pool.submit(abs, -1)
    first = pool._core.close()
    assert pool._core.close() is first
    assert pool._core.close(cancel=True) is first
    first.result(30)
    assert pool._core.close(kill=True) is first
    pool._core.join()
    assert future.done()


def test_dropped_pool() -> None:
    """A pool whose last reference goes ends its workers."""
    pool = Pool(1)
    (pid,) = support.worker_pids(pool)
    core = pool._core
    del pool
    support.wait_until(lambda: core.closed is not None and core.closed.done())
    core.join()
    assert not support.is_alive(pid)
