"""Workers are killed, crash and exit: their tasks are retried, and they are replaced."""

import os
import random
import signal
import threading
import time
from concurrent.futures.process import BrokenProcessPool

import pytest
from support import (
    is_alive,
    kill,
    look_at,
    resident_bytes,
    running_pool,
    supervisor_pids,
    wait_until,
    worker_pids,
)

from faults import tasks
from pool_client import WorkerLost

MB = 1_000_000


def full_strength(pool, workers: int, without: int | None = None) -> bool:
    """Tell whether *pool* has that many live workers, *without* not among them."""
    pids = worker_pids(pool)
    return len(pids) == workers and without not in pids and all(map(is_alive, pids))


def test_a_worker_that_overwrites_its_own_results():
    """A stray pointer hits what the worker had gathered: nothing waits, nothing runs again."""
    with running_pool(1, retries=0) as pool:
        future = pool.submit(tasks.overwrite_page)
        behind = [pool.submit(tasks.double, number) for number in range(10)]
        with pytest.raises(WorkerLost):
            future.result(30)
        for number, one in enumerate(behind):
            assert one.exception(30) is None or isinstance(one.exception(), WorkerLost), number
        assert pool.submit(tasks.double, 4).result(30) == 8


def test_killed_from_outside_in_a_task(log, gate):
    """A worker killed in its task is replaced, and the task runs again: SIGKILL from the test."""
    with running_pool(2) as pool:
        future = pool.submit(tasks.await_file, log, str(gate), "done")
        first = int(wait_until(lambda: tasks.noted(log), what="the task to start")[0])
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: len(tasks.noted(log)) == 2, what="the second attempt")
        gate.touch()
        assert future.result(30) == "done"
        assert len(set(tasks.noted(log))) == 2
        wait_until(lambda: full_strength(pool, 2, without=first), what="the replacement")


@pytest.mark.parametrize("how", tasks.DEATHS)
def test_killed_by_the_task_and_retried(log, how):
    """A task that ends its worker twice and then succeeds gives its result: each way to die."""
    with running_pool(2) as pool:
        assert pool.submit(tasks.die_at_first, log, 2, how).result(30) == "alive"
        assert len(tasks.noted(log)) == 3
        assert len(set(tasks.noted(log))) == 3


@pytest.mark.parametrize("how", tasks.DEATHS)
def test_worker_lost_says_what_happened(log, how):
    """A task that always ends its worker fails with host, pid, exit code and attempts."""
    with running_pool(2, retries=2) as pool:
        host = pool.workers()[0].host
        error = pool.submit(tasks.die, log, how).exception(30)
        assert isinstance(error, WorkerLost)
        assert isinstance(error, BrokenProcessPool)
        pids = [int(line) for line in tasks.noted(log)]
        assert len(pids) == 3
        assert error.attempts == 3
        assert error.exitcode == tasks.DEATHS[how][2]
        assert error.pid == pids[-1]
        assert error.host == host
        text = str(error)
        assert str(error.pid) in text
        assert str(error.host) in text
        if error.exitcode < 0:
            assert signal.Signals(-error.exitcode).name in text
        else:
            assert str(error.exitcode) in text


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_retries_are_counted(log, retries):
    """A deadly task is tried 1 + retries times, by the pool's setting and by a view's: SIGKILL."""
    with running_pool(1, retries=retries) as pool:
        assert pool.submit(tasks.die, log, "sigkill").exception(30).attempts == retries + 1
        assert len(tasks.noted(log)) == retries + 1
    with running_pool(1, retries=7) as pool:
        view = pool.options(retries=retries)
        assert view.submit(tasks.die, log, "sigkill").exception(30).attempts == retries + 1
        assert len(tasks.noted(log)) == 2 * (retries + 1)


def test_default_is_three_retries(log):
    """Without any setting a task that had started is retried three times: SIGKILL in each."""
    with running_pool(2) as pool:
        assert pool.submit(tasks.die, log, "sigkill").exception(30).attempts == 4
        assert len(tasks.noted(log)) == 4


def test_exceptions_are_not_retried(log):
    """A task that raises runs once, however many retries there are: an ordinary exception."""
    with running_pool(2, retries=5) as pool:
        future = pool.submit(tasks.kill_one_of, "no such file", log, 1)
        assert isinstance(future.exception(30), ZeroDivisionError)
        assert len(tasks.noted(log)) == 1


def test_sigkill_hints_at_memory(log):
    """A worker killed as the kernel kills for memory gets a hint at memory: SIGKILL, not asked."""
    with running_pool(1, retries=0) as pool:
        assert "memory" in str(pool.submit(tasks.die, log, "sigkill").exception(30)).lower()
        assert "memory" not in str(pool.submit(tasks.die, log, "segfault").exception(30)).lower()


def test_memory_limit_is_an_ordinary_error():
    """A task that hits its address-space limit fails with MemoryError, and its worker lives on."""
    with running_pool(1) as pool:
        before = pool.run(tasks.get_pid)
        error = pool.submit(tasks.exhaust_memory, 64 * MB).exception(30)
        assert isinstance(error, MemoryError)
        assert pool.run(tasks.get_pid) == before


def test_killed_while_idle():
    """Idle workers that are killed are replaced silently, with no retry used up: SIGKILL."""
    with running_pool(2, retries=0) as pool:
        for _ in range(20):
            for pid in worker_pids(pool):
                kill(pid)
            futures = [pool.submit(tasks.double, number) for number in range(100)]
            assert [future.result(30) for future in futures] == list(range(0, 200, 2))
        wait_until(lambda: full_strength(pool, 2), what="two live workers")


def test_killed_while_idle_is_replaced_without_work():
    """A pool that nobody uses gets its strength back by itself: SIGKILL of every idle worker."""
    with running_pool(3) as pool:
        for _ in range(3):
            dead = worker_pids(pool)
            for pid in dead:
                kill(pid)
            wait_until(
                lambda dead=dead: full_strength(pool, 3) and not set(dead) & set(worker_pids(pool)),
                what="three new workers",
            )
        wait_until(pool.is_ready, what="the pool to be ready")


@pytest.mark.parametrize("size", [1 * MB, 100 * MB])
def test_killed_while_sending_a_result(log, size):
    """A partial result is dropped, the task runs again, memory is released: kill in the middle.

    A kill that comes late meets the next task, which has one of its own.
    """
    with running_pool(1, retries=2) as pool:
        before = resident_bytes()
        for step in range(6):
            own = f"{log}{step}"
            delay = step * 0.015
            data = pool.submit(tasks.die_while_answering, own, size, delay, 1).result(30)
            assert len(data) == size
            assert 1 <= len(tasks.noted(own)) <= 2
            del data
        wait_until(lambda: resident_bytes() < before + 150 * MB, what="memory to be released")


def test_killed_while_receiving_arguments():
    """A task whose arguments arrived in part is sent again: kill while 100 MB are on their way."""
    with running_pool(1, retries=1) as pool:
        before = resident_bytes()
        data = bytes(100 * MB)
        for step in range(6):
            pid = worker_pids(pool)[0]
            killer = threading.Timer(step * 0.02, kill, (pid,))
            killer.start()
            assert pool.submit(tasks.size_of, data).result(30) == 100 * MB
            killer.join()
            wait_until(lambda pid=pid: full_strength(pool, 1, without=pid), what="a new worker")
        del data
        wait_until(lambda: resident_bytes() < before + 150 * MB, what="memory to be released")


def test_killed_before_the_arguments_are_read_costs_no_retry(log):
    """A task that never started is sent again for free: kill a stopped worker that holds 20 MB."""
    with running_pool(1, retries=0) as pool:
        pid = worker_pids(pool)[0]
        os.kill(pid, signal.SIGSTOP)
        future = pool.submit(tasks.size_of, bytes(20 * MB))
        small = pool.submit(tasks.double_noted, log, 5)
        time.sleep(0.3)
        os.kill(pid, signal.SIGKILL)
        assert future.result(30) == 20 * MB
        assert small.result(30) == 10
        assert tasks.noted(log) == ["5"]


@pytest.mark.parametrize("number", [1, 2, 5, 13])
def test_several_killed_at_once(log, gate, number):
    """Tasks of workers that die together all succeed: n of 13 workers killed in one go."""
    with running_pool(13, retries=3) as pool:
        futures = [pool.submit(tasks.await_file, log, str(gate), n) for n in range(13)]
        wait_until(lambda: len(tasks.noted(log)) == 13, what="13 tasks to run")
        victims = [int(line) for line in tasks.noted(log)][:number]
        for pid in victims:
            kill(pid)
        wait_until(lambda: len(tasks.noted(log)) == 13 + number, what="the second attempts")
        gate.touch()
        assert [future.result(30) for future in futures] == list(range(13))
        wait_until(lambda: full_strength(pool, 13), what="13 live workers")
        assert not set(victims) & set(worker_pids(pool))


def test_workers_that_kill_each_other(log, tmp_path):
    """All tasks succeed while every third one kills the worker of another: SIGKILL from tasks."""
    pids = str(tmp_path / "pids")
    with running_pool(5, retries=100) as pool:
        for pid in worker_pids(pool):
            tasks.note(pids, pid)
        futures = [pool.submit(tasks.kill_one_of, pids, log, n) for n in range(150)]
        for pid in worker_pids(pool):
            tasks.note(pids, pid)
        assert [future.result(40) for future in futures] == list(range(0, 300, 2))


def test_killed_at_any_moment(log):
    """Nothing is lost but at most the one running task, nothing runs twice: random kills."""
    chance = random.Random(20)
    lost = 0
    with running_pool(2, retries=0, qsize=16) as pool:
        for round_number in range(100):
            names = [round_number * 100 + n for n in range(30)]
            futures = [pool.submit(tasks.double_noted, log, name) for name in names]
            time.sleep(chance.random() * 0.004)
            for pid in chance.sample(pids := worker_pids(pool), min(1, len(pids))):
                kill(pid)
            errors = [future.exception(30) for future in futures]
            failed = [error for error in errors if error is not None]
            assert all(isinstance(error, WorkerLost) for error in failed), failed
            assert len(failed) <= 1, "one death has one task to blame"
            lost += len(failed)
            for name, future, error in zip(names, futures, errors, strict=True):
                if error is None:
                    assert future.result() == 2 * name
        counted = tasks.runs(log)
        assert max(counted.values()) == 1, "retries=0 means at most once"
        assert len(counted) >= 3000 - lost


def test_finished_results_survive_the_worker(log):
    """Results finished before a death count, though they were not sent yet: die after 40 tasks."""
    with running_pool(1, retries=0, qsize=100) as pool:
        for _ in range(20):
            futures = [pool.submit(tasks.double_noted, log, n) for n in range(40)]
            deadly = pool.submit(tasks.die, log, "sigkill")
            after = [pool.submit(tasks.double_noted, log, n) for n in range(40, 60)]
            assert [future.result(30) for future in futures] == list(range(0, 80, 2))
            assert isinstance(deadly.exception(30), WorkerLost)
            assert [future.result(30) for future in after] == list(range(80, 120, 2))
        counted = tasks.runs(log)
        assert all(counted[str(n)] == 20 for n in range(60)), "each task ran once a round"


def test_results_survive_while_the_client_writes(log):
    """Results count though the worker dies while more is being sent to it: 30 kB a task."""
    data = bytes(30_000)
    with running_pool(1, retries=0, qsize=50) as pool:
        for _ in range(10):
            futures, deadly = [], []
            for number in range(300):
                futures.append(pool.submit(tasks.size_of, data))
                if number % 100 == 50:
                    deadly.append(pool.submit(tasks.die, log, "sigkill"))
            assert [future.result(30) for future in futures] == [30_000] * 300
            assert all(isinstance(future.exception(30), WorkerLost) for future in deadly)
        assert len(tasks.noted(log)) == 30


def test_supervisor_killed_while_idle():
    """The process that watches the workers is replaced, and they with it: SIGKILL when idle."""
    with running_pool(2, retries=0) as pool:
        old = worker_pids(pool)
        supervisor = look_at(old[0]).parent
        assert supervisor != os.getpid()
        os.kill(supervisor, signal.SIGKILL)
        wait_until(lambda: not any(map(is_alive, old)), what="the old workers to end")
        # What is sent to them before that is seen may have been started, for all one knows.
        wait_until(lambda: not set(old) & set(worker_pids(pool)), what="that to be seen")
        futures = [pool.submit(tasks.double, number) for number in range(100)]
        assert [future.result(30) for future in futures] == list(range(0, 200, 2))
        wait_until(lambda: full_strength(pool, 2), what="two live workers")
        assert not set(old) & set(worker_pids(pool))


@pytest.mark.parametrize("how", ["python loop", "C loop"])
def test_supervisor_killed_while_tasks_run(log, how):
    """Running tasks are lost with the supervisor, the GIL held or not: SIGKILL of it."""
    with running_pool(2, retries=0) as pool:
        futures = [pool.submit(tasks.ENDLESS[how], log) for _ in range(2)]
        wait_until(lambda: len(tasks.noted(log)) == 2, what="two tasks to run")
        old = [int(line) for line in tasks.noted(log)]
        os.kill(look_at(old[0]).parent, signal.SIGKILL)
        assert all(isinstance(future.exception(30), WorkerLost) for future in futures)
        wait_until(lambda: not any(map(is_alive, old)), what="the old workers to end")


def test_supervisor_killed_again_and_again(log):
    """Every task gets its result through ten deaths of the supervisor: SIGKILL among good work."""
    with running_pool(2, retries=20) as pool:
        for _ in range(10):
            futures = [pool.submit(tasks.double_slowly, log, n, 0.005) for n in range(40)]
            for pid in wait_until(lambda: supervisor_pids(pool), what="a supervisor"):
                kill(pid)
            assert [future.result(30) for future in futures] == list(range(0, 80, 2))


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_ten_thousand_kills(log):
    """The pool survives deaths without end while work completes: 10,000 kills among good tasks."""
    with running_pool(4, retries=100) as pool:
        done = 0
        for round_number in range(10_000):
            futures = [pool.submit(tasks.double, n) for n in range(20)]
            pids = worker_pids(pool)
            if pids:
                kill(pids[round_number % len(pids)])
            done += sum(future.result(30) == 2 * n for n, future in enumerate(futures))
        assert done == 200_000


def test_hundreds_of_kills_do_not_break_the_pool():
    """Deaths spread over a long run of good tasks do not break the pool: 300 kills."""
    with running_pool(2, retries=100) as pool:
        for round_number in range(300):
            futures = [pool.submit(tasks.double, n) for n in range(20)]
            pids = worker_pids(pool)
            if pids:
                kill(pids[round_number % len(pids)])
            assert [future.result(30) for future in futures] == list(range(0, 40, 2))


def test_descriptors_do_not_grow_with_deaths():
    """Nothing is kept of a dead worker: descriptors of client and supervisor after 40 deaths."""

    def descriptors(pid: int) -> int:
        return len(os.listdir(f"/proc/{pid}/fd"))

    def is_whole() -> bool:
        return full_strength(pool, 2) and pool.is_ready()

    with running_pool(2, retries=5) as pool:
        supervisor = look_at(worker_pids(pool)[0]).parent
        before = descriptors(os.getpid()), descriptors(supervisor)
        for _ in range(20):
            old = worker_pids(pool)
            for pid in old:
                kill(pid)
            wait_until(lambda old=old: not set(old) & set(worker_pids(pool)), what="replacements")
            wait_until(is_whole, what="two live workers")
            assert pool.run(tasks.double, 4) == 8
        wait_until(lambda: descriptors(os.getpid()) <= before[0] + 2, what="client to close")
        wait_until(lambda: descriptors(supervisor) <= before[1] + 2, what="supervisor to close")
