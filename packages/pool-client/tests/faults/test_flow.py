"""Inputs without end, slow items, slow consumers, cancellation: memory and queues stay bounded."""

import asyncio
import contextlib
import gc
import itertools
import logging
import random
import threading
import time
from concurrent.futures import CancelledError

import pytest
from support import assert_works, resident_bytes, run_script, running_pool, wait_until, worker_pids

from faults import tasks
from pool_client import Pool

MB = 1_000_000


async def soon(awaitable):
    """Await, for 20 s at most; fail too if only the end of that time showed that it was done."""
    before = time.monotonic()
    result = await asyncio.wait_for(awaitable, 20)
    assert time.monotonic() - before < 19, "a wake-up was lost"
    return result


class Counted:
    """An iterator that knows how far it was read."""

    def __init__(self, items):
        self.items = iter(items)
        self.read = 0

    def __iter__(self):
        return self

    def __next__(self):
        item = next(self.items)
        self.read += 1
        return item


def consume_flat(pool, items, warm_up):
    """Map over *items*, check each result, and return how much the resident memory grew."""
    low, high = None, 0
    for number, result in enumerate(pool.map(tasks.double, items)):
        assert result == 2 * number
        if number >= warm_up and number % 5_000 == 0:
            now = resident_bytes()
            low = now if low is None else min(low, now)
            high = max(high, now)
    return high - low


def test_memory_is_flat():
    """A long generator is mapped in flat memory: 600,000 items, ±20 MB."""
    with running_pool(2) as pool:
        assert consume_flat(pool, iter(range(600_000)), warm_up=100_000) < 20 * MB


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_memory_is_flat_over_ten_million_items():
    """The same over 10,000,000 items."""
    with running_pool(2) as pool:
        assert consume_flat(pool, iter(range(10_000_000)), warm_up=1_000_000) < 20 * MB


def test_memory_is_flat_with_single_tasks():
    """Single tasks leave nothing behind in the client: 60,000 submitted in bursts, ±20 MB."""
    with running_pool(2) as pool:
        sizes = []
        for _ in range(30):
            futures = [pool.submit(tasks.double, n) for n in range(2_000)]
            assert [future.result(30) for future in futures] == list(range(0, 4_000, 2))
            del futures
            sizes.append(resident_bytes())
        assert sizes[-1] - sizes[8] < 20 * MB


@pytest.mark.parametrize("ordered", [True, False])
def test_unbounded_input(ordered):
    """An input without end is read only as far as results are taken, and break ends it."""
    with running_pool(2) as pool:
        source = Counted(itertools.count())
        for taken, result in enumerate(pool.map(tasks.double, source, ordered=ordered)):
            assert result % 2 == 0
            if taken == 20_000:
                break
        gc.collect()
        read = source.read
        assert read < 10_000_000
        assert_works(pool)
        assert source.read == read, "nothing is read after the end"


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("chunksize", [None, 1, 5])
def test_buffersize_is_a_bound(ordered, chunksize):
    """Never more than buffersize inputs are read ahead of the results taken: a slow consumer."""
    with running_pool(2) as pool:
        source = Counted(itertools.count())
        results = pool.map(
            tasks.double, source, buffersize=20, chunksize=chunksize, ordered=ordered
        )
        for taken in range(1, 100):
            next(results)
            if taken % 25 == 0:
                time.sleep(0.05)
            assert source.read <= taken + 20
        results.close()


@pytest.mark.parametrize("ordered", [True, False])
def test_slow_first_item(log, gate, ordered):
    """A slow first item does not let the rest pile up, and holds nobody up without order."""

    def slow_first(number):
        return tasks.await_file(log, str(gate), 0) if number == 0 else 2 * number

    with running_pool(2) as pool:
        source = Counted(itertools.count())
        results = pool.map(slow_first, source, buffersize=100, chunksize=1, ordered=ordered)
        if not ordered:
            assert sorted(next(results) for _ in range(50)) != []
            assert source.read <= 150
            gate.touch()
        else:
            wait_until(lambda: tasks.noted(log), what="the first item to start")
            time.sleep(0.3)
            assert source.read <= 100
            gate.touch()
            assert [next(results) for _ in range(300)] == list(range(0, 600, 2))
        results.close()


def test_automatic_bound_with_slow_first_item(log, gate):
    """By default too: with the first item blocked, an input without end is not read for ever."""

    def slow_first(number):
        return tasks.await_file(log, str(gate), 0) if number == 0 else number

    with running_pool(2) as pool:
        source = Counted(itertools.count())
        before = resident_bytes()
        results = pool.map(slow_first, source)
        threading.Timer(1.5, gate.touch).start()
        assert next(results) == 0
        assert source.read < 2_000_000
        assert resident_bytes() < before + 100 * MB
        results.close()


def test_automatic_bound_in_bytes():
    """The automatic buffer is bounded in bytes: 1 MB items with a consumer that sleeps."""
    with running_pool(2) as pool:
        source = Counted(bytes(MB) for _ in itertools.count())
        before = resident_bytes()
        results = pool.map(tasks.same, source)
        for _ in range(5):
            assert len(next(results)) == MB
            time.sleep(0.2)
        assert resident_bytes() < before + 300 * MB
        results.close()


@pytest.mark.parametrize("chunksize", [None, 1, 10])
def test_input_that_raises(chunksize):
    """An input that raises gives its earlier results, then its error in place, then ends."""

    def broken():
        yield from range(25)
        raise tasks.Boom("the input broke")

    with running_pool(2) as pool:
        source = Counted(broken())
        results = pool.map(tasks.double, source, chunksize=chunksize)
        collected = []
        with pytest.raises(tasks.Boom, match="the input broke"):
            collected.extend(results)
        assert collected == list(range(0, 50, 2))
        assert source.read == 25
        assert list(results) == []


def test_async_input_that_pauses():
    """Finished results are not withheld while an async input pauses, and it may end late."""

    async def main():
        go_on = asyncio.Event()

        async def pausing():
            for number in range(3):
                yield number
            await go_on.wait()
            yield 3
            await asyncio.sleep(0.3)

        async with Pool(2) as pool:
            for chunksize in (None, 1, 10):
                go_on.clear()
                results = pool.map_async(tasks.double, pausing(), chunksize=chunksize)
                for number in range(3):
                    assert await soon(anext(results)) == 2 * number
                go_on.set()
                assert await soon(anext(results)) == 6
                with pytest.raises(StopAsyncIteration):
                    await soon(anext(results))

    asyncio.run(main())


def test_async_input_that_raises():
    """An async input that raises gives its earlier results, then its error."""

    async def broken():
        for number in range(5):
            yield number
        raise tasks.Boom("the input broke")

    async def main():
        collected = []
        async with Pool(2) as pool:
            with pytest.raises(tasks.Boom, match="the input broke"):
                async for result in pool.map_async(tasks.double, broken()):
                    collected.append(result)
            assert await pool.run_async(tasks.double, 4) == 8
        assert collected == [0, 2, 4, 6, 8]

    asyncio.run(main())


def test_async_input_is_closed_after_a_break():
    """Leaving map_async early feeds nothing more and closes the input: break after ten results."""

    async def main():
        reached = 0

        async def unbounded():
            nonlocal reached
            for number in itertools.count():
                reached = number
                yield number

        async with Pool(2) as pool:
            taken = 0
            results = pool.map_async(tasks.double, unbounded(), buffersize=50)
            async for _ in results:
                taken += 1
                if taken == 10:
                    break
            await results.aclose()
            seen = reached
            assert seen <= 61
            assert await pool.run_async(tasks.double, 4) == 8
            await asyncio.sleep(0.1)
            assert reached == seen

    asyncio.run(main())


@pytest.mark.parametrize("qsize", [None, 10, 100])
def test_task_that_waits_for_one_queued_behind_it(log, tmp_path, qsize):
    """A task that waits for a later one finishes, though both were sent to one worker."""
    with running_pool(2, qsize=qsize) as pool:
        for round_number in range(15):
            # Teach the pool that this function is quick, so that it sends many at a time.
            quick = [pool.submit(tasks.await_or_make, None) for _ in range(300)]
            assert all(future.result(30) == "done" for future in quick)
            made = str(tmp_path / f"made{round_number}")
            filler = [pool.submit(tasks.await_or_make, None) for _ in range(round_number)]
            waiting = pool.submit(tasks.await_or_make, made)
            busy = pool.submit(tasks.sleep_for_pid, 0.02)
            more = [pool.submit(tasks.await_or_make, None) for _ in range(3)]
            making = pool.submit(tasks.await_or_make, None, made)
            for future in (*filler, waiting, busy, *more, making):
                assert future.result(20)


def test_nothing_waits_behind_a_long_task(log, gate):
    """Short tasks sent behind a long one are given to the idle worker: a task that blocks."""
    with running_pool(2, qsize=200) as pool:
        quick = [pool.submit(tasks.double, n) for n in range(500)]
        assert [future.result(30) for future in quick] == list(range(0, 1000, 2))
        long = pool.submit(tasks.await_file, log, str(gate), "long")
        short = [pool.submit(tasks.double, n) for n in range(100)]
        assert [future.result(20) for future in short] == list(range(0, 200, 2))
        assert not long.done()
        gate.touch()
        assert long.result(30) == "long"
        assert len(tasks.noted(log)) == 1


def test_map_timeout(log):
    """map(timeout) raises TimeoutError, does not send the rest, and the pool stays usable."""
    with running_pool(2) as pool:
        results = pool.map(
            tasks.double_slowly,
            itertools.repeat(log),
            range(200),
            itertools.repeat(0.2),
            timeout=1.0,
            chunksize=1,
        )
        taken = []
        with pytest.raises(TimeoutError):
            taken.extend(results)
        assert taken == list(range(0, 2 * len(taken), 2))
        assert pool.run(tasks.double, 21) == 42
        pool.run_on_all(tasks.double, 21)  # what was in a worker's hands is done then
        started = len(tasks.noted(log))
        assert started < 100
        pool.run_on_all(tasks.double, 21)
        assert len(tasks.noted(log)) == started


def test_map_timeout_counts_from_the_call(gate, log):
    """The timeout of map runs from the call, not from the first look at a result."""
    with running_pool(1) as pool:
        results = pool.map(tasks.await_file, [log], [str(gate)], timeout=0.3)
        time.sleep(0.6)
        before = time.monotonic()
        with pytest.raises(Pool.TimeoutError):
            next(results)
        assert time.monotonic() - before < 10
        gate.touch()


def test_cancel_before_and_after_sending(log, gate, tmp_path):
    """Cancelling succeeds and prevents the run before sending, and fails once it runs."""
    second = str(tmp_path / "second")
    with running_pool(1, qsize=1) as pool:
        running = pool.submit(tasks.await_file, log, str(gate), "kept")
        waiting = [pool.submit(tasks.double_noted, second, n) for n in range(10)]
        wait_until(lambda: tasks.noted(log), what="the task to start")
        assert running.cancel() is False
        assert all(future.cancel() for future in waiting[::2])
        assert all(future.cancelled() for future in waiting[::2])
        gate.touch()
        assert running.result(30) == "kept"
        assert [future.result(30) for future in waiting[1::2]] == [2, 6, 10, 14, 18]
        for future in waiting[::2]:
            with pytest.raises(CancelledError):
                future.result(5)
        assert sorted(tasks.noted(second)) == ["1", "3", "5", "7", "9"]


@pytest.mark.parametrize("qsize", [None, 1, 8])
def test_cancel_at_any_moment(log, qsize):
    """cancel() tells the truth: True means never run, False means a result. 400 races."""
    chance = random.Random(36)
    with running_pool(2, qsize=qsize) as pool:
        answers = {}
        for round_number in range(20):
            futures = {}
            for number in range(20):
                name = round_number * 100 + number
                futures[name] = pool.submit(tasks.double_noted, log, name)
            time.sleep(chance.random() * 0.003)
            for name, future in futures.items():
                if future.cancel():
                    assert future.cancelled()
                    answers[name] = True
                else:
                    assert future.result(30) == 2 * name
                    answers[name] = False
        assert_works(pool)
        counted = tasks.runs(log)
        assert {name for name, cancelled in answers.items() if not cancelled} == {
            int(name) for name in counted
        }
        assert set(counted.values()) <= {1}


def test_wait_for_on_a_running_task(log, gate):
    """asyncio.wait_for gives up on a running sync task, whose late result disturbs nobody."""

    async def main(pool):
        before = worker_pids(pool)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(pool.run_async(tasks.await_file, log, str(gate), "late"), 0.5)
        gate.touch()
        assert await soon(pool.run_async(tasks.double, 4)) == 8
        assert worker_pids(pool) == before

    with running_pool(1) as pool:
        asyncio.run(main(pool))


def test_cancelled_async_task_gets_the_exception(log):
    """An async task that is cancelled while it runs really gets CancelledError."""

    async def main(pool):
        before = worker_pids(pool)
        future = asyncio.ensure_future(pool.run_async(tasks.sleep_until_cancelled, log))
        while not tasks.noted(log):
            await asyncio.sleep(0.01)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future
        # The only worker is free again, so the coroutine has ended.
        assert await soon(pool.run_async(tasks.double, 4)) == 8
        assert worker_pids(pool) == before

    with running_pool(1) as pool:
        asyncio.run(main(pool))
        assert tasks.noted(log) == ["started", "cancelled"]


def test_wait_for_cancels_async_tasks_of_an_engine_on_the_loop(log):
    """The same with `async with`, through wait_for: the coroutine gets CancelledError."""

    async def main():
        async with Pool(1) as pool:
            future = pool.run_async(tasks.sleep_until_cancelled, log)
            while not tasks.noted(log):
                await asyncio.sleep(0.01)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(future, 0.05)
            assert await soon(pool.run_async(tasks.double, 4)) == 8

    asyncio.run(main())
    assert tasks.noted(log) == ["started", "cancelled"]


def test_cancel_async_tasks_at_any_moment():
    """Cancelling async tasks at random leaves the connection unharmed: 200 races."""
    chance = random.Random(37)

    async def main(pool):
        for _ in range(200):
            future = asyncio.ensure_future(
                pool.run_async(tasks.sleep_async, chance.random() * 0.004, "slept")
            )
            await asyncio.sleep(chance.random() * 0.004)
            future.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                assert await future == "slept"
        assert await soon(pool.run_async(tasks.double, 4)) == 8

    with running_pool(2) as pool:
        before = sorted(worker_pids(pool))
        asyncio.run(main(pool))
        assert sorted(worker_pids(pool)) == before


def test_callback_that_raises(caplog):
    """A callback that raises is logged, and every other callback and future is unharmed."""
    caplog.set_level(logging.ERROR)
    seen = []
    with running_pool(2) as pool:
        futures = [pool.submit(tasks.double, n) for n in range(50)]
        for future in futures:
            future.add_done_callback(lambda _: 1 / 0)
            future.add_done_callback(lambda future: seen.append(future.result()))
        assert [future.result(30) for future in futures] == list(range(0, 100, 2))
        wait_until(lambda: len(seen) == 50, what="50 callbacks")
    assert sorted(seen) == list(range(0, 100, 2))
    assert "ZeroDivisionError" in caplog.text


def test_callback_that_submits():
    """A callback may submit: each of twenty starts the next."""
    finished = threading.Event()
    results = []
    with running_pool(2) as pool:

        def go_on(future):
            results.append(future.result())
            if len(results) == 20:
                finished.set()
            else:
                pool.submit(tasks.double, len(results)).add_done_callback(go_on)

        pool.submit(tasks.double, 0).add_done_callback(go_on)
        assert finished.wait(30)
    assert results == list(range(0, 40, 2))


@pytest.mark.parametrize("wait", [True, False])
def test_callback_that_shuts_down(wait):
    """A callback may shut the pool down, waiting or not; what was submitted still finishes."""
    done = run_script(
        f"""
        import threading
        from pool_client import Pool
        from faults import tasks
        called = threading.Event()
        pool = Pool(2)
        futures = [pool.submit(tasks.double, n) for n in range(100)]
        def close(future):
            pool.shutdown(wait={wait})
            called.set()
        futures[0].add_done_callback(close)
        print([future.result(20) for future in futures] == list(range(0, 200, 2)))
        print(called.wait(20))
        try:
            pool.submit(tasks.double, 1)
        except RuntimeError:
            print("refused")
        """
    )
    assert done.stdout.split() == ["True", "True", "refused"], done.stderr


def test_many_threads_submit_and_cancel():
    """Eight threads that submit, map, cancel and wait at the same time get their own results."""
    errors = []

    def work(pool, seed):
        chance = random.Random(seed)
        try:
            for _ in range(30):
                futures = {n: pool.submit(tasks.double, n) for n in range(seed, seed + 20)}
                for number, future in futures.items():
                    if chance.random() < 0.2 and future.cancel():
                        continue
                    assert future.result(30) == 2 * number
                assert list(pool.map(tasks.double, range(seed))) == list(range(0, 2 * seed, 2))
        except BaseException as error:
            errors.append(error)

    with running_pool(3) as pool:
        threads = [threading.Thread(target=work, args=(pool, seed)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
