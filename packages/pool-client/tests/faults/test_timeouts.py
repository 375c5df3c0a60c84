"""Tasks that do not end: by default they are waited for, with a timeout their worker is killed."""

import asyncio
import os
import random
import signal
import time

import pytest
from support import is_alive, running_pool, wait_until, worker_pids

from faults import tasks
from pool_client import TaskTimeout


def warm_up(pool):
    """Let every worker import the tasks, which otherwise takes some of the first one's time."""
    pool.run_on_all(tasks.get_pid)


def test_by_default_it_waits(log, gate):
    """A worker that is stopped for a while is not lost, and its task finishes: SIGSTOP, SIGCONT."""
    with running_pool(1, retries=0) as pool:
        future = pool.submit(tasks.await_file, log, str(gate), "done")
        behind = [pool.submit(tasks.double, n) for n in range(10)]
        pid = int(wait_until(lambda: tasks.noted(log), what="the task to start")[0])
        os.kill(pid, signal.SIGSTOP)
        gate.touch()
        time.sleep(0.5)  # whoever takes it for lost has time to say so
        assert not future.done()
        os.kill(pid, signal.SIGCONT)
        assert future.result(30) == "done"
        assert [one.result(30) for one in behind] == list(range(0, 20, 2))
        assert worker_pids(pool) == [pid]


@pytest.mark.parametrize("how", tasks.ENDLESS)
def test_past_its_timeout(log, tmp_path, how):
    """A task that does not end is killed with its worker after its timeout, and not retried."""
    second = str(tmp_path / "second")
    with running_pool(1, qsize=20) as pool:
        warm_up(pool)
        future = pool.options(timeout=1.0).submit(tasks.ENDLESS[how], log)
        behind = [pool.submit(tasks.double_noted, second, n) for n in range(10)]
        error = future.exception(30)
        assert isinstance(error, TaskTimeout)
        assert isinstance(error, TimeoutError)
        assert [one.result(30) for one in behind] == list(range(0, 20, 2))
        assert len(tasks.noted(log)) == 1, "no retry"
        assert set(tasks.runs(second).values()) == {1}
        pid = int(tasks.noted(log)[0])
        wait_until(lambda: not is_alive(pid), what="the old worker to end")
        assert pid not in worker_pids(pool)


def test_only_its_own_worker_is_killed(log, gate, tmp_path):
    """The other worker's task does not notice: one endless task beside one that waits."""
    other = str(tmp_path / "other")
    with running_pool(2, retries=0) as pool:
        good = pool.submit(tasks.await_file, other, str(gate), "unharmed")
        bad = pool.options(timeout=0.5).submit(tasks.spin_in_c, log)
        assert isinstance(bad.exception(30), TaskTimeout)
        gate.touch()
        assert good.result(30) == "unharmed"
        assert len(tasks.noted(other)) == 1
        assert int(tasks.noted(other)[0]) in worker_pids(pool)


def test_constructor_sets_it_for_all(log):
    """task_timeout holds for every task, also run, run_async and map: an endless task in each."""

    async def call(pool):
        with pytest.raises(TaskTimeout):
            await pool.run_async(tasks.never_finish, log)

    with running_pool(1, task_timeout=1.0) as pool:
        with pytest.raises(TaskTimeout):
            pool.run(tasks.lock_twice, log)
        asyncio.run(call(pool))
        with pytest.raises(TaskTimeout):
            list(pool.map(tasks.spin_in_python, [log]))
        assert pool.options(timeout=20).run(tasks.sleep_for_pid, 1.3) in worker_pids(pool)
        assert len(tasks.noted(log)) == 3


def test_waiting_does_not_count():
    """The timeout counts running, not waiting: 27 tasks of 0.2 s in one queue, timeout 5 s."""
    with running_pool(1, qsize=27, task_timeout=5.0) as pool:
        futures = [pool.submit(tasks.sleep_for_pid, 0.2) for _ in range(27)]
        assert {future.result(30) for future in futures} == set(worker_pids(pool))


@pytest.mark.parametrize("chunksize", [None, 1, 10])
def test_in_a_map(log, chunksize):
    """An endless item fails at its own place, the rest of its chunk arrives: one of 40 hangs."""
    with running_pool(2, task_timeout=1.5) as pool:
        results = pool.map(
            tasks.double_or_hang, [log] * 40, range(40), [13] * 40, chunksize=chunksize
        )
        assert [next(results) for _ in range(13)] == list(range(0, 26, 2))
        with pytest.raises(TaskTimeout):
            next(results)
        assert list(results) == list(range(28, 80, 2))
        assert tasks.runs(log)["13"] == 1


def test_items_of_a_chunk_are_timed_one_by_one():
    """A chunk may take longer than the timeout of one task: 27 items of 0.2 s, timeout 5 s."""
    with running_pool(1, task_timeout=5.0) as pool:
        pids = set(pool.map(tasks.sleep_for_pid, [0.2] * 27, chunksize=27))
        assert pids == set(worker_pids(pool))


def test_tasks_that_end_about_when_they_time_out(log):
    """A task that ends close to its timeout gives its result or TaskTimeout: 60 races."""
    chance = random.Random(4)
    with running_pool(2, retries=0, qsize=8) as pool:
        view = pool.options(timeout=0.05)
        for start in range(0, 60, 10):
            futures = [
                view.submit(tasks.double_slowly, log, n, 0.04 + chance.random() * 0.02)
                for n in range(start, start + 10)
            ]
            good = [pool.submit(tasks.double, n) for n in range(20)]
            for number, future in enumerate(futures, start):
                error = future.exception(30)
                if error is None:
                    assert future.result() == 2 * number
                else:
                    assert isinstance(error, TaskTimeout)
            assert [future.result(30) for future in good] == list(range(0, 40, 2))
        assert max(tasks.runs(log).values(), default=1) == 1, "none is retried"


def test_timeouts_do_not_break_the_pool(log):
    """Many timeouts in a row are not taken for a broken pool: 12 endless tasks, then good ones."""
    with running_pool(2) as pool:
        view = pool.options(timeout=0.3)
        futures = [view.submit(tasks.lock_twice, log) for _ in range(12)]
        assert all(isinstance(future.exception(30), TaskTimeout) for future in futures)
        assert len(tasks.noted(log)) <= 12, "none is retried"


def test_stopped_worker_does_not_hold_up_shutdown(monkeypatch):
    """An idle worker that is stopped does not hang the shutdown: SIGSTOP before it."""
    monkeypatch.setattr("pool_client.engine._LEAVE", 0.5)
    with running_pool(2, works_after=False) as pool:
        pids = worker_pids(pool)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: not any(map(is_alive, pids)), what="the workers to end")


@pytest.mark.parametrize("how", tasks.ENDLESS)
def test_kill_workers_ends_anything(log, how):
    """kill_workers() ends tasks of every kind now, and their futures resolve."""
    with running_pool(2, works_after=False) as pool:
        futures = [pool.submit(tasks.ENDLESS[how], log) for _ in range(5)]
        wait_until(lambda: len(tasks.noted(log)) == 2, what="two tasks to run")
        pids = worker_pids(pool)
        pool.kill_workers()
        for future in futures:
            assert wait_until(future.done, what="the future")
            assert future.cancelled() or future.exception() is not None
        wait_until(lambda: not any(map(is_alive, pids)), what="the workers to end")
