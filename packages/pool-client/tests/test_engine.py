"""The engine: tasks from any thread, cancelling, functions that are sent again, the end."""

import asyncio
import os
import threading
from pathlib import Path

import pytest
import support

from pool_client import Pool, PoolBroken, functions


def test_submit_from_many_threads() -> None:
    """Thousands of tasks from many threads at once: each one is answered with its own result."""
    count, each = 8, 500
    results: dict[int, list[int]] = {}
    with Pool(2) as pool:

        def work(number: int) -> None:
            mine = [pool.submit(abs, -(number * each + index)) for index in range(each)]
            results[number] = [future.result(30) for future in mine]

        threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(50)
        stats = pool.stats()
    assert sorted(results) == list(range(count))
    for number in range(count):
        assert results[number] == list(range(number * each, (number + 1) * each))
    assert (stats.submitted, stats.completed) == (count * each, count * each)
    assert (stats.waiting, stats.held) == (0, 0)


def test_quiet_path() -> None:
    """On its own loop an idle engine sends a task at once, a busy one through the inbox."""

    async def main() -> None:
        async with Pool(1, lazy_create=True) as pool:
            engine = pool._core.engine
            first = pool.run_async(abs, -1)
            assert (engine.scheduler.held, len(engine._inbox)) == (1, 0)
            second = pool.run_async(abs, -2)
            assert len(engine._inbox) == 1
            assert await asyncio.gather(first, second) == [1, 2]

    asyncio.run(asyncio.wait_for(main(), 30))


@pytest.mark.parametrize("own_loop", [True, False])
def test_cancelling_reaches_the_worker(own_loop: bool, tmp_path: Path) -> None:
    """A cancelled future of a running asynchronous task cancels it in its worker."""
    running, cancelled = tmp_path / "running", tmp_path / "cancelled"

    async def task() -> None:
        running.touch()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.touch()
            raise

    async def main() -> None:
        pool = Pool(1, lazy_create=True)
        if own_loop:
            pool._core.start_here()
        await pool
        future = pool.run_async(task)
        while not running.exists():
            await asyncio.sleep(0.01)
        assert future.cancel()
        while not cancelled.exists():
            await asyncio.sleep(0.01)
        with pytest.raises(asyncio.CancelledError):
            await future
        assert await pool.run_async(abs, -1) == 1
        assert pool.stats().workers_lost == 0
        await pool.shutdown_async()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_forgotten_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that was forgotten, and told so to the workers, is sent again when used again."""
    monkeypatch.setattr(functions, "CAPACITY", 2)

    def adder(number: int):
        return lambda value: value + number

    adders = [adder(number) for number in range(6)]
    with Pool(1) as pool:
        for _ in range(3):
            for number, func in enumerate(adders):
                assert pool.run(func, 100) == 100 + number
        core = pool._core
        (worker,) = core.engine.scheduler.workers.values()
        assert core.functions.forgotten == []
        assert len(core.functions) == 2
        assert len(worker.functions) <= 3
        assert max(worker.functions) == 18, "each use was of a function not known any more"


def test_workers_forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker lets go of the functions that the pool has forgotten."""
    monkeypatch.setattr(functions, "CAPACITY", 2)

    def adder(number: int):
        def marked_adder(value: int) -> int:
            return value + number

        return marked_adder

    def kept() -> int:
        import gc
        import types

        gc.collect()
        found = [one for one in gc.get_objects() if isinstance(one, types.FunctionType)]
        return sum(one.__name__ == "marked_adder" for one in found)

    with Pool(1) as pool:
        for number in range(10):
            assert pool.run(adder(number), 1) == number + 1
        assert 1 <= pool.run(kept) <= 2


def test_break_with(tmp_path: Path) -> None:
    """When the pool breaks, every future has the error, and so has what is submitted later."""
    gate = tmp_path / "gate"

    def wait() -> None:
        import time

        while not gate.exists():
            time.sleep(0.01)

    pool = Pool(1)
    try:
        futures = [pool.submit(wait) for _ in range(20)]
        error = PoolBroken("by the test")
        engine = pool._core.engine
        engine.submit(lambda: engine.break_with(error))
        futures.append(pool.submit(abs, -1))
        assert all(future.exception(30) is error for future in futures)
    finally:
        gate.touch()
        pool.shutdown()


def test_results_before_a_death(tmp_path: Path) -> None:
    """What a worker finished before it died counts, and is not run again."""
    log = tmp_path / "log"

    def note(number: int) -> int:
        with log.open("a") as file:
            file.write(f"{number}\n")
        return number

    with Pool(1, qsize=100) as pool:
        before = [pool.submit(note, number) for number in range(50)]
        last = pool.options(retries=0).submit(os._exit, 3)
        after = [pool.submit(note, number) for number in range(50, 80)]
        assert [future.result(30) for future in before + after] == list(range(80))
        assert last.exception(30).exitcode == 3
        support.wait_until(lambda: pool.stats().workers_lost == 1)
        assert pool.stats().retried == 0
    assert log.read_text().split() == [str(number) for number in range(80)]
