"""The facade: what a pool says in each of its states, and how it begins and ends."""

import asyncio
import os
import time
from typing import Any

import pytest
from support import is_alive, running_pool, worker_pids

from pool_client import Pool, PoolBroken
from pool_client.pool import Stats


def fail() -> None:
    """Fail as an initializer."""
    raise LookupError("no such data")


def test_lazy_create_starts_nothing() -> None:
    """A lazy pool has no process, no thread and no worker until it is used."""
    pool = Pool(2, lazy_create=True)
    assert repr(pool) == "<Pool local/2: not created>"
    assert (pool.total_workers(), pool.workers(), pool.is_ready()) == (0, [], False)
    assert pool.stats() == Stats(0, 0, 0, 0, 0, 0, 0, 0, 0)
    pool.shutdown()
    assert repr(pool) == "<Pool local/2: closed>"


def test_states() -> None:
    """``repr``, ``total_workers`` and ``is_ready`` follow a pool from its start to its end."""
    with running_pool(2) as pool:
        assert repr(pool) == "<Pool local/2: 2 of 2 workers ready>"
        assert (pool.total_workers(), pool.is_ready()) == (2, True)
    assert repr(pool) == "<Pool local/2: closed>"
    assert (pool.total_workers(), pool.workers(), pool.is_ready()) == (0, [], False)


def test_stats() -> None:
    """What was submitted is counted, and completed whether it failed or not."""
    with running_pool(1) as pool:
        before = pool.stats()
        assert pool.run(abs, -1) == 1
        with pytest.raises(TypeError):
            pool.run(abs, "text")
        after = pool.stats()
        assert (before.workers, before.submitted, before.completed) == (1, 0, 0)
        assert (after.submitted, after.completed) == (2, 2)
        assert (after.waiting, after.held, after.retried, after.workers_lost) == (0, 0, 0, 0)


def test_workers_in_slot_order() -> None:
    """Workers are listed in the order of their slots, as `run_on_all` orders its results."""
    with running_pool(2) as pool:
        infos = pool.workers()
        assert [info.pid for info in infos] == pool.run_on_all(os.getpid)
        assert {info.host for info in infos} == {"local"}
        assert len({info.id for info in infos}) == 2


def test_failed_creation_leaves_nothing() -> None:
    """When a worker cannot be initialised, `create` says why, and the pool has ended."""
    pool = Pool(1, initializer=fail, lazy_create=True)
    with pytest.raises(PoolBroken, match="no such data"):
        pool.create()
    assert repr(pool) == "<Pool local/1: closed>"
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(abs, -1)


def test_beginning_in_a_loop() -> None:
    """``await`` and ``async with`` both give the pool itself, with all its workers ready."""

    async def main() -> None:
        pool = Pool(1)
        assert pool.total_workers() == 0
        assert await pool is pool
        assert pool.is_ready()
        assert await pool.run_async(abs, -1) == 1
        await pool.shutdown_async()
        async with Pool(1) as other:
            assert other.is_ready()
            assert await other.run_async(abs, -2) == 2
        assert (other.total_workers(), other.is_ready()) == (0, False)

    asyncio.run(main())


@pytest.mark.parametrize("name", ["kill_workers", "terminate_workers"])
def test_kill_workers(name: str) -> None:
    """Whatever has not finished fails with PoolBroken, running or waiting; no process stays."""
    pool: Any = Pool(1, qsize=1)
    pids = worker_pids(pool)
    futures = [pool.submit(time.sleep, 1000) for _ in range(3)]
    getattr(pool, name)()
    for future in futures:
        assert isinstance(future.exception(timeout=30), PoolBroken)
    assert not any(map(is_alive, pids))


def test_timeout_error() -> None:
    """The exception of a timeout can be named through the pool, and is the builtin one."""
    with running_pool(1, works_after=False) as pool:
        assert pool.TimeoutError is TimeoutError
        results = pool.map(time.sleep, [1000], timeout=0.01)
        with pytest.raises(pool.TimeoutError):
            next(results)
        pool.kill_workers()
