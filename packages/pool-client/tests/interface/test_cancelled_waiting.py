"""Whoever stops waiting for a pool's beginning or end leaves the pool in order."""

import asyncio
import time
from typing import Any

import interface_tasks as tasks
import pytest

from pool_client import Pool


@pytest.mark.parametrize("way", ["await", "async with"])
def test_creation_is_cancelled(way: str) -> None:
    """A pool that does not come up in time is ended, whole."""

    async def create() -> None:
        pool = Pool(1, initializer=time.sleep, initargs=(1,))
        if way == "await":
            await pool
        else:
            async with pool:
                pass

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(create(), 0.2)

    asyncio.run(asyncio.wait_for(main(), 30))


def test_shutdown_is_cancelled(gate: Any) -> None:
    """The pool ends all the same; a second wait sees it through."""

    async def main() -> None:
        pool = await Pool(1)
        future = pool.submit(tasks.pass_gate, gate.path, 5)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.shutdown_async(), 0.1)
        gate.open()
        await pool.shutdown_async()
        assert future.result(0) == 5

    asyncio.run(asyncio.wait_for(main(), 30))
