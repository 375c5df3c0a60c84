"""What a pool tells about itself."""

import asyncio
import os
import sys
import time
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
import support
from machines import machines

from pool_client import HostInfo, Pool, Stats, WorkerInfo
from pool_client.info import worker_info
from pool_client.scheduling.tasks import Host, Worker

__all__ = ["machines"]


def test_a_pool_that_was_not_created_has_nothing_to_tell() -> None:
    """Nothing runs, and nothing is started by asking."""
    pool = Pool(2, hosts=["ssh://box/auto"], lazy_create=True)
    assert (pool.hosts(), pool.workers(), pool.stats()) == ([], [], Stats())
    assert pool.total_workers() == 0
    assert repr(pool) == "<Pool local/2, box/auto: not created>"
    pool.shutdown()
    assert repr(pool) == "<Pool local/2, box/auto: closed>"


def test_workers_are_told_by_host_in_order() -> None:
    """Each with its process, versions and what it has done."""
    with support.running_pool(3) as pool:
        for _ in range(20):
            assert pool.run(abs, -1) == 1
        workers = pool.workers()
        assert all(isinstance(worker, WorkerInfo) for worker in workers)
        assert [worker.pid for worker in workers] == pool.run_on_all(os.getpid)
        assert {worker.host for worker in workers} == {"local"}
        assert sum(worker.tasks_done for worker in workers) == 20
        assert {worker.state for worker in workers} == {"idle"}
        assert {worker.python for worker in workers} == {
            f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
        }
        assert all(worker.version for worker in workers)
        assert max(worker.round_trip or 0 for worker in workers) < 10
        with pytest.raises(FrozenInstanceError):
            workers[0].state = "bored"


def test_a_round_trip_that_was_not_measured() -> None:
    """It is None, not nothing."""
    worker = Worker(1, 0, Host("box", 1), 7, "3.12", "9")
    assert worker_info(worker).round_trip is None
    worker.round_trip.least = 2_000_000.0
    assert worker_info(worker) == WorkerInfo(1, "box", 7, "idle", 0, "3.12", "9", 0.002)


def test_hosts_are_told_with_what_they_are(machines) -> None:
    """This machine and another one."""
    machines("far")
    with support.running_pool(1, hosts=["machine://far/2"]) as pool:
        local, far = pool.hosts()
        assert all(isinstance(host, HostInfo) for host in (local, far))
        assert (local.name, local.state, local.reason, local.workers) == ("local", "up", "", 1)
        assert (far.name, far.state, far.wanted, far.joined) == ("far", "up", 2, False)
        assert local.cpus == far.cpus == len(os.sched_getaffinity(0))
        assert local.memory > 0
        assert repr(pool) == "<Pool local/1, far/2: 3 of 3 workers ready>"
    assert repr(pool).endswith(": closed>")


def test_a_host_in_trouble_is_told_with_the_reason(machines) -> None:
    """The first line of it in the repr, all of it in the list."""
    machine = machines("far")
    machine.trouble = "it is on fire\nand full of smoke"
    with support.running_pool(1, hosts=["machine://far/2"], min_workers=1) as pool:
        support.wait_until(lambda: pool.hosts()[1].state == "dropped")
        assert "far/2 (dropped: it is on fire): 1 of 1 workers ready" in repr(pool)
        assert pool.hosts()[1].reason == "it is on fire\nand full of smoke"
        assert pool.stats().hosts_lost == 0


def test_states_of_a_pool(tmp_path: Path) -> None:
    """Closing and closed are told as such."""
    gate = tmp_path / "gate"

    async def wait() -> None:
        while not gate.exists():
            await asyncio.sleep(0.01)

    async def main() -> None:
        async with Pool(1) as pool:
            future = pool.run_async(wait)
            closing = asyncio.ensure_future(pool.shutdown_async())
            while repr(pool) == "<Pool local/1: 1 of 1 workers ready>":
                await asyncio.sleep(0.01)
            assert repr(pool) == "<Pool local/1: closing>"
            gate.touch()
            await future
            await closing
        assert repr(pool) == "<Pool local/1: closed>"

    asyncio.run(asyncio.wait_for(main(), 30))


def test_what_has_happened_is_counted() -> None:
    """Tasks, losses, and hosts."""
    with support.running_pool(1) as pool:
        assert pool.run(abs, -1) == 1
        with pytest.raises(Exception, match="lost its worker"):
            pool.options(retries=1).run(os._exit, 3)
        stats = pool.stats()
        assert (stats.submitted, stats.completed, stats.failed) == (2, 1, 1)
        assert (stats.retried, stats.workers_lost) == (1, 2)
        assert (stats.waiting, stats.held, stats.hosts_lost, stats.hosts_joined) == (0, 0, 0, 0)


def test_every_task_is_told_in_one_place(tmp_path: Path) -> None:
    """Also those of ``run_on_all``, and those that were cancelled before they were sent."""
    gate = tmp_path / "gate"

    def wait() -> None:
        while not gate.exists():
            time.sleep(0.01)

    with support.running_pool(2, qsize=1) as pool:
        assert pool.run_on_all(abs, -1) == [1, 1]
        assert list(pool.map(abs, range(-10, 0), chunksize=5)) == list(range(10, 0, -1))
        running = [pool.submit(wait) for _ in range(2)]
        waiting = pool.submit(abs, -1)
        assert waiting.cancel()
        gate.touch()
        assert [future.result(30) for future in running] == [None, None]
        support.wait_until(lambda: not pool.stats().waiting)
        stats = pool.stats()
        assert (stats.submitted, stats.completed, stats.cancelled, stats.failed) == (7, 6, 1, 0)
        assert stats.held == 0
