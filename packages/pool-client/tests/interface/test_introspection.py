"""What a pool says of itself: `repr`, `workers`, `stats`, and what the package exports."""

import os
import re
from typing import Any

import interface_tasks as tasks
import pytest
from support import is_alive, wait_until

import pool_client
from pool_client import Pool

EXPORTS = [
    "Pool",
    "LoopType",
    "PickleType",
    "WorkerLost",
    "PoolBroken",
    "TaskTimeout",
    "RemoteException",
    "HostError",
    "FrameTooLarge",
    "VersionMismatch",
    "AuthenticationError",
]
PUBLIC = [
    "run",
    "run_async",
    "submit",
    "map",
    "map_async",
    "run_on_all",
    "run_on_all_async",
    "create",
    "shutdown",
    "shutdown_async",
    "is_ready",
    "total_workers",
    "options",
    "workers",
    "stats",
    "terminate_workers",
    "kill_workers",
]


@pytest.mark.parametrize("name", EXPORTS)
def test_exports(name: str) -> None:
    """The package exports its interface, documented."""
    assert name in pool_client.__all__
    assert getattr(pool_client, name).__doc__


@pytest.mark.parametrize("name", PUBLIC)
def test_methods_are_documented(name: str) -> None:
    """Every public method has a docstring of its own or of `Executor`."""
    assert getattr(Pool, name).__doc__


def test_timeout_error() -> None:
    """``Pool.TimeoutError`` is what a map raises past its time."""
    assert issubclass(TimeoutError, Pool.TimeoutError)


def test_version() -> None:
    """The package has a version."""
    assert re.match(r"\d+\.\d+", pool_client.__version__)


def test_workers() -> None:
    """`workers` gives one object a worker, with its id, host, process and state."""
    with Pool(3) as pool:
        workers = pool.workers()
        assert isinstance(workers, list)
        assert len({worker.id for worker in workers}) == 3
        assert {worker.pid for worker in workers} == set(pool.run_on_all(tasks.pid))
        assert all(worker.host for worker in workers)
        assert all(worker.state for worker in workers)
        assert all(is_alive(worker.pid) for worker in workers)


def test_tasks_done() -> None:
    """A worker's count of tasks grows with them."""
    with Pool(1) as pool:
        before = pool.workers()[0].tasks_done
        for number in range(5):
            pool.run(abs, -number)
        assert wait_until(lambda: pool.workers()[0].tasks_done == before + 5)


def test_state_changes_with_work(single: Any, gate: Any) -> None:
    """The state of a worker that runs a task differs from that of an idle one."""
    idle = str(single.workers()[0].state)
    future = single.submit(tasks.pass_gate, gate.path, 1, gate.arrived)
    wait_until(gate.arrivals)
    wait_until(lambda: str(single.workers()[0].state) != idle)
    gate.open()
    assert future.result(30) == 1
    wait_until(lambda: str(single.workers()[0].state) == idle)


def test_workers_after_shutdown() -> None:
    """After shutdown there are none."""
    with Pool(1) as pool:
        pool.run(abs, -1)
    assert pool.workers() == []


def test_repr_says_how_many() -> None:
    """The repr names the class, the number of workers and whether the pool is open."""
    pool = Pool(3)
    pool.run(abs, -1)
    during = repr(pool)
    assert "Pool" in during
    assert "3" in during
    pool.shutdown()
    assert repr(pool) != during


def test_repr_of_a_lazy_pool() -> None:
    """A pool that was not created has a repr, too."""
    pool = Pool(1, lazy_create=True)
    assert "Pool" in repr(pool)
    pool.shutdown()


def test_repr_shows_no_secret(pool: Any) -> None:
    """No repr shows a token, a key or a credential."""
    token = re.compile(r"[0-9a-fA-F]{24,}")
    shown = [pool, pool.options(retries=0), pool.stats(), *pool.workers(), pool.ready]
    for thing in shown:
        text = re.sub(r"at 0x[0-9a-fA-F]+", "", repr(thing))
        assert not token.search(text)


def test_repr_of_options(pool: Any) -> None:
    """The repr of a view names its settings."""
    text = repr(pool.options(timeout=12.5, retries=7))
    assert "12.5" in text
    assert "7" in text


def test_stats(pool: Any) -> None:
    """`stats` counts the tasks, and can be asked for at any time."""
    before = repr(pool.stats())
    assert list(pool.map(abs, range(100))) == list(range(100))
    assert repr(pool.stats()) != before
    pool.shutdown()
    pool.stats()


def test_workers_and_stats_from_a_task_callback(pool: Any) -> None:
    """`workers`, `stats` and `repr` can be asked for in a callback, on whatever thread it runs."""
    seen: list[int] = []
    future = pool.submit(abs, -1)
    future.add_done_callback(
        lambda _: seen.append(len(pool.workers()) + bool(pool.stats()) + bool(repr(pool)))
    )
    wait_until(lambda: seen)
    assert seen == [4]


def test_a_replacement_is_another_worker(pool: Any) -> None:
    """A worker that took a dead one's place has a process id of its own."""
    import signal

    before = {worker.pid for worker in pool.workers()}
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in (now := {w.pid for w in pool.workers()}) and len(now) == 2)
    assert pool.run(abs, -1) == 1
