"""What concerns every worker: `run_on_all`, the initializer, and ``max_tasks_per_child``."""

import asyncio
import os
import signal
import time
import traceback
from pathlib import Path
from typing import Any

import interface_tasks as tasks
import pytest
from support import wait_until

from pool_client import Pool, PoolBroken, RemoteException


def test_once_on_every_worker() -> None:
    """`run_on_all` runs once on each worker."""
    with Pool(3) as pool:
        assert len(set(pool.run_on_all(tasks.pid))) == 3


def test_results_are_in_worker_order() -> None:
    """The results are in the order of `workers`, each time."""
    with Pool(3) as pool:
        pids = pool.run_on_all(tasks.pid)
        assert pids == [worker.pid for worker in pool.workers()]
        assert pool.run_on_all(tasks.pid) == pids


def test_results_are_a_list(pool: Any) -> None:
    """The result is a list, with arguments and keywords passed on."""
    assert pool.run_on_all(tasks.keywords, 1, a=2) == [((1,), {"a": 2})] * 2


def test_at_the_same_time(tmp_path: Path) -> None:
    """All workers run it at once: they can meet."""
    with Pool(4) as pool:
        assert len(set(pool.run_on_all(tasks.meet, str(tmp_path), 4))) == 4


def test_waits_for_the_tasks_before(pool: Any, tmp_path: Path) -> None:
    """`run_on_all` begins when the tasks submitted before it are done."""
    path = str(tmp_path / "notes")

    def slow_note(number: int) -> None:
        time.sleep(0.01)
        tasks.note(path, number)

    for number in range(20):
        pool.submit(slow_note, number)
    assert pool.run_on_all(lambda: len(tasks.noted(path))) == [20, 20]


def test_tasks_after_it_come_after_it(pool: Any, tmp_path: Path) -> None:
    """A task that is submitted while `run_on_all` waits does not run beside it."""

    async def main() -> None:
        first = pool.run_async(tasks.pass_gate, gate)
        everywhere = pool.run_on_all_async(tasks.note, path, "all")
        later = pool.run_async(tasks.note, path, "later")
        Path(gate).touch()
        await asyncio.wait_for(asyncio.gather(first, everywhere, later), 30)

    gate, path = str(tmp_path / "gate"), str(tmp_path / "notes")
    asyncio.run(main())
    assert sorted(tasks.noted(path)) == ["all", "all", "later"]


def test_raises_the_first_error(pool: Any) -> None:
    """An error on a worker is raised, with its type."""
    with pytest.raises(tasks.Oops) as caught:
        pool.run_on_all(tasks.fail, 5)
    assert caught.value.number == 5
    assert len(pool.run_on_all(tasks.pid)) == 2


def test_error_on_one_worker_only(pool: Any) -> None:
    """An error on one worker of several is raised."""
    bad = pool.workers()[1].pid

    def work() -> int:
        if os.getpid() == bad:
            raise tasks.Oops(bad)
        return os.getpid()

    with pytest.raises(tasks.Oops):
        pool.run_on_all(work)
    assert pool.run(abs, -1) == 1


def test_run_on_all_async(pool: Any) -> None:
    """`run_on_all_async` is the awaitable form."""

    async def main() -> list[int]:
        return list(await asyncio.wait_for(pool.run_on_all_async(tasks.pid), 30))

    assert asyncio.run(main()) == [worker.pid for worker in pool.workers()]


def test_run_on_all_with_an_async_function(pool: Any) -> None:
    """An async function runs on every worker."""
    assert pool.run_on_all(tasks.aadd, 1, 2) == [3, 3]


def test_run_on_all_creates_a_lazy_pool() -> None:
    """A pool that was not created yet is created first."""
    with Pool(2, lazy_create=True) as pool:
        assert len(set(pool.run_on_all(tasks.pid))) == 2


def test_run_on_all_after_shutdown() -> None:
    """A pool that was shut down refuses."""
    with Pool(1) as pool:
        pool.run(abs, -1)
    with pytest.raises(RuntimeError):
        pool.run_on_all(tasks.pid)


def test_initializer_in_every_worker() -> None:
    """The initializer runs once in each worker, before its first task."""
    with Pool(3, initializer=tasks.remember, initargs=("colour", "blue")) as pool:
        assert pool.run_on_all(tasks.recall, "colour") == ["blue"] * 3
        assert pool.run_on_all(tasks.recall, "times") == [1] * 3


def test_initializer_without_arguments(tmp_path: Path) -> None:
    """A closure may be the initializer."""
    path = str(tmp_path / "notes")
    with Pool(2, initializer=lambda: tasks.note(path, os.getpid())) as pool:
        assert sorted(tasks.noted(path)) == sorted(map(str, pool.run_on_all(tasks.pid)))


def test_asynchronous_initializer() -> None:
    """An async function may be the initializer."""

    async def prepare() -> None:
        await asyncio.sleep(0.001)
        tasks.remember("colour", "red")

    with Pool(2, initializer=prepare) as pool:
        assert pool.run_on_all(tasks.recall, "colour") == ["red", "red"]


def test_initializer_in_replacements() -> None:
    """A worker that takes another's place is initialised, too."""
    with Pool(2, initializer=tasks.remember, initargs=("colour", "blue")) as pool:
        before = set(pool.run_on_all(tasks.pid))
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: victim not in {worker.pid for worker in pool.workers()})
        wait_until(lambda: pool.is_ready() and len(pool.workers()) == 2)
        after = set(pool.run_on_all(tasks.pid))
        assert len(after - before) == 1
        assert pool.run_on_all(tasks.recall, "colour") == ["blue", "blue"]


def test_initializer_that_fails() -> None:
    """Creation fails with the initializer's traceback."""
    pool = Pool(2, initializer=tasks.broken_initializer, lazy_create=True)
    with pytest.raises(PoolBroken) as caught:
        pool.create()
    assert "Oops" in str(caught.value)
    text = "".join(traceback.format_exception(caught.value))
    assert "in broken_initializer" in text
    pool.shutdown()


def test_initializer_that_fails_in_a_with_block() -> None:
    """The same error comes out of ``with``, and of ``async with``."""
    with pytest.raises(PoolBroken), Pool(1, initializer=tasks.broken_initializer) as pool:
        pool.run(abs, -1)

    async def main() -> None:
        async with Pool(1, initializer=tasks.broken_initializer) as pool:
            await pool.run_async(abs, -1)

    with pytest.raises(PoolBroken):
        asyncio.run(main())


def test_initializer_that_cannot_be_pickled() -> None:
    """An initializer that cannot be sent is an error soon, not a wait."""
    import threading

    lock = threading.Lock()
    with pytest.raises(Exception, match=r"(?i)lock"):  # noqa: SIM117
        with Pool(1, initializer=lambda: lock) as pool:
            pool.run(abs, -1)


def test_max_tasks_per_child() -> None:
    """A worker is replaced after so many tasks."""
    with Pool(1, max_tasks_per_child=2) as pool:
        pids = [pool.run(tasks.pid) for _ in range(6)]
    assert len(set(pids)) == 3
    assert all(pids.count(pid) == 2 for pid in pids)


def test_max_tasks_per_child_loses_nothing() -> None:
    """Replacing workers all the time loses, repeats and disturbs nothing."""
    with Pool(2, max_tasks_per_child=3) as pool:
        futures = [pool.submit(tasks.square, n) for n in range(30)]
        assert [future.result(40) for future in futures] == [n * n for n in range(30)]
        assert list(pool.map(tasks.square, range(10), chunksize=1, timeout=40)) == [
            n * n for n in range(10)
        ]


def test_max_tasks_per_child_must_be_positive() -> None:
    """0 is refused, as there."""
    with pytest.raises(ValueError, match="max_tasks_per_child"):
        Pool(1, max_tasks_per_child=0)


def test_replacement_after_max_tasks_is_initialised() -> None:
    """The successors run the initializer."""
    with Pool(
        1, max_tasks_per_child=1, initializer=tasks.remember, initargs=("colour", "blue")
    ) as pool:
        assert [pool.run(tasks.recall, "colour") for _ in range(3)] == ["blue"] * 3


def test_remote_traceback_of_an_initializer() -> None:
    """The traceback text is that of the worker."""
    pool = Pool(1, initializer=tasks.broken_initializer, lazy_create=True)
    with pytest.raises(PoolBroken) as caught:
        pool.create()
    cause = caught.value.__cause__
    while cause is not None and not isinstance(cause, RemoteException):
        cause = cause.__cause__
    assert "Traceback" in str(cause or caught.value)
    pool.shutdown()
