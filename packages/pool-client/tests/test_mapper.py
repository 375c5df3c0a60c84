"""The binding of ``map`` to a pool: chunks that go into its engine, and keep it alive."""

import asyncio
import gc
import itertools
import math
import operator
import queue
import threading
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support import running_pool, wait_until

import pool_client.mapper
from pool_client import Pool
from pool_client.loop_thread import LoopThread
from pool_client.mapper import BoundChunks


def bound(pool: Any, function: Any, star: bool = False) -> BoundChunks:
    """Return what binds chunks of calls of *function* to *pool*."""
    core = pool._core
    return BoundChunks(pool, core, core.functions.get(function), star, pool._terms)


def result_of(chunks: BoundChunks, items: list[Any]) -> Any:
    """Submit *items* as one chunk and return what came back for it."""
    answered: queue.Queue[Any] = queue.Queue()
    chunks.submit_chunk(items, answered.put)
    return answered.get(timeout=30).result()


def test_values_in_order() -> None:
    """A chunk answers once, with one value for each item, where the item stood."""
    with running_pool(1) as pool:
        result = result_of(bound(pool, operator.neg), [3, 1, 2])
        assert (result.values, list(result.failed)) == ([-3, -1, -2], [])
        assert result_of(bound(pool, math.pow, star=True), [(2, 3), (3, 2)]).values == [8.0, 9.0]


def test_error_at_its_index() -> None:
    """An item that fails leaves its error in its own place, and the others their values."""
    with running_pool(1) as pool:
        result = result_of(bound(pool, math.sqrt), [4, -1, 9])
    assert list(result.failed) == [1]
    assert isinstance(result.values[1], ValueError)
    assert (result.values[0], result.values[2]) == (2.0, 3.0)


def test_workers() -> None:
    """The window of a map is sized by the workers asked for, though none has started."""
    pool = Pool(3, lazy_create=True)
    assert bound(pool, abs).workers == 3
    assert pool._core.engine is None


def test_chunks_keep_their_pool() -> None:
    """A pool that is only known to its chunks still works, and ends with them."""
    pool = Pool(1)
    kept = weakref.ref(pool)
    chunks = bound(pool, abs)
    del pool
    gc.collect()
    assert kept() is not None
    assert result_of(chunks, [-1]).values == [1]
    del chunks
    gc.collect()
    assert kept() is None


def test_map_of_a_temporary_pool() -> None:
    """A map finishes, though it is all that holds its pool."""
    assert list(Pool(1).map(abs, [-1, -2])) == [1, 2]
    assert list(Pool(1).map(abs, iter(range(-50, 0)), chunksize=3)) == list(range(50, 0, -1))


def test_map_async_of_a_temporary_pool() -> None:
    """An asynchronous map holds its pool as well."""

    async def main() -> list[int]:
        return [value async for value in Pool(1).map_async(abs, [-1, -2])]

    assert asyncio.run(main()) == [1, 2]


def test_after_shutdown() -> None:
    """A pool that was shut down refuses maps at the call, and chunks that come late."""
    pool = Pool(1)
    chunks = bound(pool, abs)
    pool.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.map(abs, [-1])
    with pytest.raises(RuntimeError, match="after shutdown"):
        chunks.submit_chunk([-1], print)


def test_arguments_are_checked_before_anything_starts() -> None:
    """A bad argument of a map does not start the workers of a lazy pool."""
    pool: Any = Pool(1, lazy_create=True)
    with pytest.raises(ValueError, match="chunksize"):
        pool.map(abs, [-1], chunksize=0)
    with pytest.raises(TypeError):
        pool.map(7, [-1])
    assert pool._core.engine is None


async def forever() -> AsyncIterator[int]:
    """Count."""
    for number in itertools.count():
        yield number
        await asyncio.sleep(0)


def test_async_inputs_at_the_last_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A map that begins when the engine's loop is about to end is refused."""
    pool = Pool(1)
    engine = pool._core.working()
    outcome: list[BaseException] = []
    spawned: list[bool] = []
    spawn, cancel_others = pool_client.mapper._spawn, LoopThread.cancel_others

    def noted(*args: Any) -> Any:
        try:
            return spawn(*args)
        finally:
            spawned.append(True)

    def consume() -> None:
        try:
            next(pool.map(abs, forever()))
        except BaseException as error:
            outcome.append(error)

    consumer = threading.Thread(target=consume, daemon=True)

    async def late(thread: LoopThread) -> None:
        await cancel_others(thread)
        consumer.start()
        wait_until(lambda: spawned)  # without another turn of the loop

    # Whether the pool takes anything was looked at just before it was shut down.
    monkeypatch.setattr(pool._core, "working", lambda: engine)
    monkeypatch.setattr(pool_client.mapper, "_spawn", noted)
    monkeypatch.setattr(LoopThread, "cancel_others", late)
    pool.shutdown()
    consumer.join(30)
    assert [type(error) for error in outcome] == [RuntimeError]
