"""Workers are killed at random moments while the pool does everything that it can do."""

import asyncio
import contextlib
import random
import threading

import pytest
from support import kill, running_pool, supervisor_pids, wait_until, worker_pids

from faults import tasks


@contextlib.contextmanager
def random_kills(pool, seed, pause, victims=worker_pids):
    """Kill a random one of *victims* of *pool* every *pause* seconds or so, during the block.

    Whenever something was done since the last time: on a slow machine, workers would otherwise die
    faster than work is completed, which breaks a pool.
    """
    chance = random.Random(seed)
    over = threading.Event()
    killed = []

    def strike():
        done = -1
        while not over.wait(pause * (0.5 + chance.random())):
            before, done = done, pool.stats().completed
            if done == before:
                continue
            for pid in chance.sample(pids := victims(pool), min(1, len(pids))):
                kill(pid)
                killed.append(pid)

    thread = threading.Thread(target=strike)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("chunksize", [None, 1, 40])
@pytest.mark.parametrize("ordered", [True, False])
def test_map(chunksize, ordered):
    """A map gives every result once, in order if asked, while its workers are killed."""
    with running_pool(3, retries=1000) as pool, random_kills(pool, 1, 0.03) as killed:
        for _ in range(4):
            results = pool.map(
                tasks.double, iter(range(4000)), chunksize=chunksize, ordered=ordered
            )
            collected = list(results)
            assert (collected if ordered else sorted(collected)) == list(range(0, 8000, 2))
        wait_until(lambda: killed, what="a kill")


def test_map_of_large_items():
    """The same with 300 kB there and back for each item: frames are cut in the middle."""
    with running_pool(2, retries=1000) as pool, random_kills(pool, 2, 0.03) as killed:
        sizes = [len(one) for one in pool.map(tasks.same, (bytes(300_000) for _ in range(300)))]
        assert sizes == [300_000] * 300
        wait_until(lambda: killed, what="a kill")


def test_map_while_the_supervisor_is_killed():
    """A map gives every result once while the supervisor, and all workers with it, is killed."""
    with (
        running_pool(2, retries=1000) as pool,
        random_kills(pool, 3, 0.8, supervisor_pids) as killed,
    ):
        while len(killed) < 3:
            assert list(pool.map(tasks.double, range(2000))) == list(range(0, 4000, 2))


def test_everything_from_asyncio():
    """Single and mapped, plain and async tasks all give their results while workers are killed."""

    async def main(pool):
        async def mapped():
            return [one async for one in pool.map_async(tasks.double, range(1000))]

        for _ in range(5):
            plain = [pool.run_async(tasks.double, n) for n in range(100)]
            slow = [pool.run_async(tasks.sleep_async, 0.005, n) for n in range(20)]
            assert await asyncio.wait_for(mapped(), 30) == list(range(0, 2000, 2))
            assert await asyncio.wait_for(asyncio.gather(*plain), 30) == list(range(0, 200, 2))
            assert await asyncio.wait_for(asyncio.gather(*slow), 30) == list(range(20))

    with running_pool(3, retries=1000) as pool, random_kills(pool, 4, 0.04):
        asyncio.run(main(pool))


def test_run_on_all():
    """run_on_all gives one result for each worker, and never hangs, while workers are killed."""
    with running_pool(3, retries=1000) as pool, random_kills(pool, 5, 0.1) as killed:
        while len(killed) < 8:
            assert len(pool.run_on_all(tasks.sleep_for_pid, 0.02)) == 3


def test_worker_killed_in_run_on_all(log, gate):
    """A worker killed in its part of run_on_all is replaced, and its part runs again: SIGKILL."""
    with running_pool(2) as pool:
        results = []
        thread = threading.Thread(
            target=lambda: results.extend(pool.run_on_all(tasks.await_file, log, str(gate), 1))
        )
        thread.start()
        wait_until(lambda: len(tasks.noted(log)) == 2, what="both workers to run it")
        kill(int(tasks.noted(log)[0]))
        wait_until(lambda: len(tasks.noted(log)) == 3, what="the second attempt")
        gate.touch()
        thread.join(30)
        assert results == [1, 1]


def test_limited_workers(log):
    """Workers that end after seven tasks are no deaths: no task runs twice, none is lost."""
    with running_pool(2, retries=0, max_tasks_per_child=7) as pool:
        futures = [pool.submit(tasks.double_noted, log, n) for n in range(300)]
        assert [future.result(30) for future in futures] == list(range(0, 600, 2))
        assert set(tasks.runs(log).values()) == {1}
        assert len(set(pool.map(tasks.get_pid, range(70), chunksize=1))) >= 10


def test_limited_workers_that_are_killed():
    """Both at once: workers that end after seven tasks, and random kills."""
    with (
        running_pool(2, retries=1000, max_tasks_per_child=7) as pool,
        random_kills(pool, 6, 0.04),
    ):
        for _ in range(5):
            futures = [pool.submit(tasks.double, n) for n in range(100)]
            assert [future.result(30) for future in futures] == list(range(0, 200, 2))


def test_timeouts_and_kills(log):
    """Timeouts, deaths and good tasks mixed: each future gets its own kind of outcome."""
    with running_pool(3, retries=1000) as pool, random_kills(pool, 7, 0.08):
        view = pool.options(timeout=0.3)
        hanging = [view.submit(tasks.lock_twice, log) for _ in range(6)]
        good = [pool.submit(tasks.double, n) for n in range(500)]
        assert [future.result(40) for future in good] == list(range(0, 1000, 2))
        assert all(isinstance(future.exception(40), TimeoutError) for future in hanging)


def test_recall_and_kill(log, gate):
    """A worker killed while its queue is being taken back: nothing is lost, nothing runs twice."""
    chance = random.Random(8)
    with running_pool(2, retries=1000, qsize=50) as pool:
        for round_number in range(25):
            own = f"{log}{round_number}"
            blocking = pool.submit(tasks.sleep_for_pid, 0.05)
            quick = [pool.submit(tasks.double_noted, own, n) for n in range(60)]
            threading.Event().wait(chance.random() * 0.03)
            for pid in chance.sample(pids := worker_pids(pool), min(1, len(pids))):
                kill(pid)
            assert [future.result(30) for future in quick] == list(range(0, 120, 2))
            assert blocking.result(30) > 0
            repeated = [name for name, count in tasks.runs(own).items() if count > 1]
            assert len(repeated) <= 1, "only what was running may run again"
