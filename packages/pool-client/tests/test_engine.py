"""The engine: tasks from any thread, cancelling, functions that are sent again, the end."""

import asyncio
import os
import pickle
import threading
import time
from pathlib import Path

import pytest
import support

from pool_client import Pool, PoolBroken, functions
from pool_client import engine as engine_module
from pool_protocol.messages import Lost


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
            assert (engine.scheduler.held, len(engine.inbox)) == (1, 0)
            second = pool.run_async(abs, -2)
            assert len(engine.inbox) == 1
            assert await asyncio.gather(first, second) == [1, 2]

    asyncio.run(asyncio.wait_for(main(), 30))


def test_memory_for_large_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is used again while large results come in, and given back afterwards."""
    monkeypatch.setattr(engine_module, "_KEEP_MEMORY", 1000.0)

    def give(letter: int) -> pickle.PickleBuffer:
        return pickle.PickleBuffer(bytes([letter]) * 5_000_000)

    async def main() -> None:
        async with Pool(1) as pool:
            engine = pool._core.engine
            memory = engine._memory
            for letter in b"ab":
                result = await pool.run_async(give, letter)
                assert bytes(memoryview(result)[-2:]) == bytes([letter]) * 2
                del result
            assert len(memory.kept) == 1
            assert engine._tidying
            monkeypatch.setattr(engine_module, "_KEEP_MEMORY", 0.01)
            engine._tidy()
            assert len(memory.kept) == 1, "it was used since the last look"
            while memory.kept:
                await asyncio.sleep(0.01)
            assert not engine._tidying

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


def test_many_are_cancelled_at_one_look(tmp_path: Path) -> None:
    """What workers hold is not gone through for each: thousands at once took minutes."""
    running, cancelled = tmp_path / "running", tmp_path / "cancelled"
    looks: list[None] = []

    class Looked(dict):  # type: ignore[type-arg]
        def values(self):
            looks.append(None)
            return super().values()

    async def task() -> None:
        running.touch()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.touch()
            raise

    async def main() -> None:
        async with Pool(1, qsize=1) as pool:
            (worker,) = pool._core.engine.scheduler.workers.values()
            futures = [pool.run_async(task), *(pool.run_async(abs, -1) for _ in range(100))]
            while not running.exists():
                await asyncio.sleep(0.01)
            worker.tasks = Looked(worker.tasks)
            for future in reversed(futures):
                assert future.cancel()
            while not cancelled.exists():
                await asyncio.sleep(0.01)
            assert len(looks) == 1
            assert await pool.run_async(abs, -1) == 1
            assert pool.stats().completed == 2, "the running one and the last"

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


def test_nothing_is_said_to_a_worker_that_is_going(tmp_path: Path) -> None:
    """Its stream has ended, its report has not come: what comes behind in the inbox is done."""
    running, gate = tmp_path / "running", tmp_path / "gate"

    def work() -> None:
        running.touch()
        while not gate.exists():
            time.sleep(0.01)

    async def main() -> None:
        async with Pool(1) as pool:
            core = pool._core
            (seat,) = core.engine.fleet.runners[0].seats.by_id.values()
            reports: list[Lost] = []
            reported, seat.seats.reported = seat.seats.reported, reports.append
            future = pool.run_async(work)
            while not running.exists():
                await asyncio.sleep(0.01)
            support.kill(seat.worker.pid)
            while not seat.link.ended or not reports:
                await asyncio.sleep(0.01)
            core.functions.forgotten += seat.worker.functions
            assert future.cancel()
            behind = pool.run_async(abs, -1)
            try:
                async with asyncio.timeout(10):
                    while core.engine.inbox or core.functions.forgotten:
                        await asyncio.sleep(0.01)
            finally:
                gate.touch()
                seat.seats.reported = reported
                for report in reports:
                    reported(report)
            assert await behind == 1

    asyncio.run(asyncio.wait_for(main(), 30))


def make_adder(number: int):
    def marked_adder(value: int) -> int:
        return value + number

    return marked_adder


def make_counter():
    """A function that tells how many adders there are in its process; it brings no module."""

    def kept() -> int:
        import gc
        import types

        gc.collect()
        found = [one for one in gc.get_objects() if isinstance(one, types.FunctionType)]
        return sum(one.__name__ == "marked_adder" for one in found)

    return kept


def test_workers_forget_what_was_forgotten_before_it_was_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More functions are submitted at once than the pool keeps, and each of them is called."""
    monkeypatch.setattr(functions, "CAPACITY", 2)
    adders = [make_adder(number) for number in range(20)]
    with Pool(2) as pool:
        futures = [pool.submit(func, value) for value in range(3) for func in adders]
        expected = [value + number for value in range(3) for number in range(20)]
        assert [future.result(30) for future in futures] == expected
        counter = make_counter()
        assert max(pool.run_on_all(counter)) <= 2
        for worker in pool._core.engine.scheduler.workers.values():
            assert len(worker.functions) <= 2


@pytest.mark.parametrize("own_loop", [True, False])
def test_workers_forget(own_loop: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker lets go of the functions that the pool has forgotten."""
    monkeypatch.setattr(functions, "CAPACITY", 2)

    async def main() -> None:
        async with Pool(1) as pool:
            for number in range(10):
                assert await pool.run_async(make_adder(number), 1) == number + 1
            assert 1 <= await pool.run_async(make_counter()) <= 2

    if own_loop:
        asyncio.run(asyncio.wait_for(main(), 30))
        return
    with Pool(1) as pool:
        for number in range(10):
            assert pool.run(make_adder(number), 1) == number + 1
        assert 1 <= pool.run(make_counter()) <= 2


def waiter(gate: Path):
    """A task that waits until there is a file."""

    def wait() -> None:

        while not gate.exists():
            time.sleep(0.01)

    return wait


def test_break_with(tmp_path: Path) -> None:
    """When the pool breaks, every future has the error, and so has what is submitted later."""
    gate = tmp_path / "gate"
    wait = waiter(gate)
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


def test_a_pool_that_misses_a_worker_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first moment in which somebody could see that the worker is gone."""
    with Pool(2) as pool:
        scheduler = pool._core.engine.scheduler
        lost = scheduler.lost
        seen = []

        def look(*args: object, **settings: object) -> None:
            seen.append((pool.is_ready(), len(pool.workers())))
            lost(*args, **settings)

        monkeypatch.setattr(scheduler, "lost", look)
        support.kill(support.worker_pids(pool)[0])
        support.wait_until(lambda: seen)
        assert seen == [(False, 2)]
        support.wait_until(pool.is_ready)
        assert len(pool.workers()) == 2


def test_a_pool_that_breaks_is_not_ready(tmp_path: Path) -> None:
    """Who sees a task fail by it finds the pool broken, and no worker ready."""

    def look(future: object) -> None:
        seen.append((pool.is_ready(), repr(pool)))

    seen = []
    pool = Pool(1)
    gate = tmp_path / "gate"
    try:
        future = pool.submit(waiter(gate))
        future.add_done_callback(look)
        engine = pool._core.engine
        engine.submit(lambda: engine.break_with(PoolBroken("by the test")))
        assert isinstance(future.exception(30), PoolBroken)
        support.wait_until(lambda: seen)
        assert seen == [(False, "<Pool local/1: broken>")]
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


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_a_submission_that_is_broken_off(monkeypatch: pytest.MonkeyPatch, done: bool) -> None:
    """A Ctrl-C around the engine's wake-up does not keep it asleep: later tasks are done."""
    with Pool(1) as pool:
        engine = pool._core.engine

        loop = engine.loop

        class Loop:
            """Ctrl-C is pressed when it is called for the first time."""

            def __getattr__(self, name: str):
                return getattr(loop, name)

            def call_soon_threadsafe(self, *call) -> None:
                monkeypatch.setattr(engine, "loop", loop)
                if done:
                    loop.call_soon_threadsafe(*call)
                raise KeyboardInterrupt

        monkeypatch.setattr(engine, "loop", Loop())
        with pytest.raises(KeyboardInterrupt):
            pool.submit(abs, -1)
        assert pool.submit(abs, -2).result(60) == 2


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("own_loop", [True, False])
def test_an_error_inside_breaks_the_pool(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, own_loop: bool, count: int
) -> None:
    """Nobody waits for what can never come; the error is told to each, and logged."""

    def tear(*_: object) -> None:
        raise KeyError("torn")

    async def main(pool: Pool) -> None:
        assert await pool.run_async(abs, -1) == 1
        monkeypatch.setattr(pool._core.engine, "_send", tear)
        futures = [pool.run_async(abs, -number) for number in range(count)]
        for outcome in await asyncio.gather(*futures, return_exceptions=True):
            assert isinstance(outcome, PoolBroken)
            assert "an error inside the pool: KeyError: 'torn'" in str(outcome)
            assert isinstance(outcome.__cause__, KeyError)
        with pytest.raises(PoolBroken, match="torn"):
            await pool.run_async(abs, -1)

    async def inside() -> None:
        async with Pool(1) as pool:
            await main(pool)

    if own_loop:
        asyncio.run(asyncio.wait_for(inside(), 60))
    else:
        with Pool(1) as pool:
            asyncio.run(main(pool))
    assert "an error inside the pool" in caplog.messages


def test_an_error_of_what_is_done_on_the_loop_breaks_the_pool() -> None:
    """What came after it is not forgotten."""
    torn = KeyError("torn")

    def tear() -> None:
        raise torn

    async def main() -> None:
        async with Pool(1) as pool:
            pool._core.engine.submit(tear)
            with pytest.raises(PoolBroken, match="torn") as caught:
                await pool.run_async(abs, -1)
            assert caught.value.__cause__ is torn

    asyncio.run(asyncio.wait_for(main(), 60))
