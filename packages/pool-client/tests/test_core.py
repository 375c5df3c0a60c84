"""The inside of a pool: where its engine lives, what refuses to work, and how it ends."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from typing import Any

import pytest
import support

from pool_client import Pool, PoolBroken
from pool_client.calls import AsyncCall, RemoteAsyncCall
from pool_client.loop_thread import LoopThread


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
        before = set(threading.enumerate())
        async with Pool(1, lazy_create=True) as pool:
            core = pool._core
            assert core.engine.loop is asyncio.get_running_loop()
            assert core.start_here() is core.engine
            assert core.is_here()
            assert set(threading.enumerate()) <= before
            assert await pool.run_async(abs, -1) == 1

    asyncio.run(asyncio.wait_for(main(), 30))


@pytest.mark.parametrize(
    ("method", "instead"),
    [
        ("run", "'await pool.run_async(…)'"),
        ("map", "'async for … in pool.map_async(…)'"),
        ("create", "'await pool'"),
    ],
)
def test_must_not_block(method: str, instead: str) -> None:
    """On the engine's loop, what would block is refused, and the method to use is named."""

    async def main() -> None:
        async with Pool(1, lazy_create=True) as pool:
            arguments = () if method == "create" else (abs, [-1])
            with pytest.raises(RuntimeError) as caught:
                getattr(pool, method)(*arguments)
            assert str(caught.value).startswith(f"{method}()")
            assert instead in str(caught.value)
            await asyncio.to_thread(pool._core.must_not_block, method)

    asyncio.run(asyncio.wait_for(main(), 30))


def test_run_async_without_a_loop() -> None:
    """The error says which methods do without; nothing is left under way."""
    with Pool(1) as pool:
        with pytest.raises(RuntimeError, match=r"needs .*; use run\(\) or submit\(\)"):
            pool.run_async(abs, -1)
        assert pool.run(abs, -2) == 2
        assert pool.stats().submitted == 1


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


@pytest.mark.parametrize("how", [{"kill": True}, {"cancel": True}])
def test_closing_in_the_last_moment(how, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine has ended, its thread has not: there is nothing more to do, and nothing wrong."""
    release = threading.Event()

    async def wait(thread: LoopThread) -> None:
        while not release.is_set():
            await asyncio.sleep(0.01)

    monkeypatch.setattr(LoopThread, "cancel_others", wait)
    pool = Pool(1)
    done = pool._core.close()
    try:
        support.wait_until(lambda: pool._core.engine.ended)
        assert pool._core.close(**how) is done
    finally:
        release.set()
    done.result(30)
    pool._core.join()


class Ending:
    """An argument: while it is pickled, somebody else shuts the pool down."""

    def __init__(self, pool: Pool, until: str) -> None:
        self.pool = pool
        self.until = until

    def __reduce__(self):
        self.pool._core.close()
        engine = self.pool._core.engine
        support.wait_until(lambda: getattr(engine, self.until), 30)
        return int, ()


@pytest.mark.parametrize("until", ["leaving", "ended"])
@pytest.mark.parametrize("method", ["submit", "run", "run_on_all", "map", "run_async"])
def test_what_comes_while_the_pool_ends_is_refused(method: str, until: str) -> None:
    """Whichever moment it comes in, nobody waits for it."""
    pool = Pool(2)

    async def run() -> None:
        await pool.run_async(abs, Ending(pool, until))

    with pytest.raises(RuntimeError, match="after shutdown"):
        match method:
            case "submit":
                pool.submit(abs, Ending(pool, until)).result(30)
            case "map":
                list(pool.map(abs, [Ending(pool, until)], timeout=30))
            case "run_async":
                asyncio.run(asyncio.wait_for(run(), 30))
            case _:
                getattr(pool, method)(abs, Ending(pool, until))
    pool.shutdown()


@pytest.mark.parametrize("until", ["leaving", "ended"])
def test_what_comes_to_a_pool_that_ends_on_a_running_loop_is_refused(until: str) -> None:
    """The loop goes on, without the pool."""

    async def main() -> None:
        async with Pool(2) as pool:
            submit = asyncio.create_task(
                asyncio.to_thread(lambda: pool.submit(abs, Ending(pool, until)).result(30))
            )
            await asyncio.wait((submit,), timeout=60)
        with pytest.raises(RuntimeError, match="after shutdown"):
            await submit

    asyncio.run(main())


def test_submitting_at_every_moment_of_the_end() -> None:
    """Each future is done, or submitting was refused; ten ends."""
    for turn in range(10):
        pool = Pool(1)
        futures: list[Future[int]] = []
        began = threading.Event()

        def submit(pool: Pool = pool, futures: list = futures, began=began) -> None:
            with pytest.raises(RuntimeError, match="after shutdown"):
                while True:
                    futures.append(pool.submit(abs, -1))
                    if len(futures) == 50:
                        began.set()

        thread = threading.Thread(target=submit)
        thread.start()
        assert began.wait(30)
        pool.shutdown(cancel_futures=bool(turn % 2))
        thread.join(30)
        assert not thread.is_alive()
        for future in futures:
            assert future.cancelled() or future.exception(30) or future.result() == 1


def test_an_end_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for it gets the error, does not wait for ever, and nothing is left."""
    pool = Pool(1)
    fleet = pool._core.engine.fleet
    close = fleet.close

    async def fail() -> None:
        await close()
        raise OSError("the disk is gone")

    monkeypatch.setattr(fleet, "close", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        pool.shutdown()
    pool._core.join()
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(abs, -1)


def test_dropped_pool() -> None:
    """A pool whose last reference goes ends its workers."""
    pool = Pool(1)
    (pid,) = support.worker_pids(pool)
    core = pool._core
    del pool
    support.wait_until(lambda: core.closed is not None and core.closed.done())
    core.join()
    assert not support.is_alive(pid)


def test_a_call_belongs_to_the_loop_that_runs() -> None:
    """Not to the engine's, where that stands still in the same thread."""
    carrying, other = asyncio.new_event_loop(), asyncio.new_event_loop()
    pool = Pool(1, lazy_create=True)

    async def made() -> AsyncCall:
        return pool._core.async_call()

    try:
        carrying.run_until_complete(pool.__aenter__())
        near, far = carrying.run_until_complete(made()), other.run_until_complete(made())
        assert (type(near), near.get_loop()) == (AsyncCall, carrying)
        assert (type(far), far.get_loop()) == (RemoteAsyncCall, other)
        with pytest.raises(RuntimeError, match="needs a running event loop"):
            pool._core.async_call()
    finally:
        carrying.run_until_complete(pool.__aexit__(None, None, None))
        carrying.close()
        other.close()


class Interrupting:
    """Ctrl-C is pressed while it is pickled."""

    def __reduce__(self):
        raise KeyboardInterrupt


def test_ctrl_c_while_a_call_is_packed() -> None:
    """It ends what the caller does; it is nobody's result."""

    async def main() -> None:
        async with Pool(1) as pool:
            with pytest.raises(KeyboardInterrupt):
                pool.run_async(abs, Interrupting())
            assert await pool.run_async(abs, -1) == 1

    with Pool(1) as pool:
        with pytest.raises(KeyboardInterrupt):
            pool.submit(abs, Interrupting())
        assert pool.run(abs, -1) == 1
    asyncio.run(main())


def test_the_exit_does_not_wait_for_a_loop_that_nobody_runs(tmp_path) -> None:
    """The engine lives on a loop of another thread's, which ends while the exit waits for it."""
    program = f"""
import asyncio, sys, threading, time
from pathlib import Path
from pool_client import Pool, core

up, gate = threading.Event(), Path({str(tmp_path / "gate")!r})

def work():
    gate.touch()
    time.sleep(1000)

async def main():
    pool = await Pool(1).__aenter__()
    pool.submit(work)
    while not gate.exists():
        await asyncio.sleep(0.001)
    up.set()
    while pool._core.closed is None:  # until the exit has begun
        await asyncio.sleep(0.001)

threading.Thread(target=lambda: asyncio.new_event_loop().run_until_complete(main())).start()
up.wait()
"""
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, timeout=100).returncode == 0


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("end", ["at_exit", "dropped"])
def test_who_waits_for_a_pool_whose_loop_has_ended_is_told(end: str, closed: bool) -> None:
    """Nobody ran the end of `async with`, and nobody can any more; the exit joins who waits."""
    loop = asyncio.new_event_loop()
    pool = Pool(1, lazy_create=True)
    core = pool._core
    loop.run_until_complete(pool.__aenter__())

    async def begin() -> tuple[Any, ...]:
        return pool.submit(time.sleep, 60), pool.submit(abs, -1), pool.run_async(abs, -2)

    running, waiting, asynchronous = loop.run_until_complete(begin())
    unseen = pool.submit(abs, -3)
    closing = threading.Thread(target=pool.shutdown)
    if end == "at_exit":
        closing.start()
        support.wait_until(lambda: core.closed is not None)
    if closed:
        loop.close()
    core.at_exit(False) if end == "at_exit" else core.dropped()
    for future in (running, waiting, unseen):
        with pytest.raises(PoolBroken, match="the event loop that carried the pool has ended"):
            future.result(30)
    assert asynchronous.done() is not closed
    assert closed or isinstance(asynchronous.exception(), PoolBroken)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(abs, -4)
    pool.shutdown()
    if end == "at_exit":
        closing.join(30)
        assert not closing.is_alive()
    loop.close()
