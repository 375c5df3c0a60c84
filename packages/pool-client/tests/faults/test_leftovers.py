"""Tasks that exit, close descriptors, or leave threads and processes: nothing stays or hangs."""

import os
import signal
import subprocess

import pytest
from support import is_alive, running_pool, wait_until, worker_pids

from faults import tasks


@pytest.mark.parametrize("function", [tasks.exit_politely, tasks.exit_politely_async])
def test_sys_exit(function):
    """sys.exit in a task is SystemExit on its future, and the worker lives on."""
    with running_pool(1, retries=0) as pool:
        before = worker_pids(pool)
        futures = [pool.submit(function, 3), pool.submit(tasks.double, 4)]
        error = futures[0].exception(30)
        assert isinstance(error, SystemExit)
        assert error.code == 3
        assert futures[1].result(30) == 8
        assert isinstance(pool.submit(tasks.exit_politely, None).exception(30), SystemExit)
        assert isinstance(pool.submit(tasks.exit_politely, "a text").exception(30), SystemExit)
        assert worker_pids(pool) == before


def test_closed_standard_streams():
    """Closing descriptors 0 to 2 in a task harms no connection, now or when they are reused."""
    with running_pool(1, retries=0) as pool:
        pid = pool.run(tasks.close_standard_streams)
        assert [pool.run(tasks.double, n) for n in range(20)] == list(range(0, 40, 2))
        assert pool.run(tasks.leave_child) > 0
        assert pool.run(tasks.print_much, 100_000) == pid
        assert worker_pids(pool) == [pid]


def test_much_output(capfd):
    """A task that prints megabytes neither hangs nor disturbs the connection."""
    with running_pool(1, retries=0) as pool:
        pid = pool.run(tasks.print_much, 3_000_000)
        assert pool.run(tasks.print_much, 3_000_000) == pid
    capfd.readouterr()


def test_standard_input_is_empty():
    """A task that reads standard input gets its end, not the bytes meant for the supervisor."""
    with running_pool(2, retries=0) as pool:
        assert pool.run(tasks.read_standard_input) == b""


LEAVERS = {
    "child": (tasks.leave_child, ()),
    "child in a session of its own": (tasks.leave_child, (True,)),
    "daemon": (tasks.leave_grandchild, ()),
}


@pytest.mark.parametrize("kind", LEAVERS)
def test_processes_end_with_the_pool(kind):
    """A process that a task leaves lives as long as its worker, and ends with the pool."""
    function, args = LEAVERS[kind]
    with running_pool(2) as pool:
        pids = [pool.run(function, *args) for _ in range(4)]
        assert all(map(is_alive, pids))
    wait_until(lambda: not any(map(is_alive, pids)), what="the left processes to end")


@pytest.mark.parametrize("kind", LEAVERS)
def test_processes_end_with_their_worker(kind):
    """A process that a task leaves ends when its worker is killed, while the pool lives on."""
    function, args = LEAVERS[kind]
    with running_pool(1) as pool:
        pid = pool.run(function, *args)
        assert is_alive(pid)
        os.kill(worker_pids(pool)[0], signal.SIGKILL)
        wait_until(lambda: not is_alive(pid), what="the left process to end")


def test_processes_end_with_a_task_that_times_out(log):
    """A process started by a task that is killed for its timeout ends with it."""
    with running_pool(1) as pool:
        # The process has to be there before that, which may take a while on a busy machine.
        for timeout in (2.0, 20.0):
            future = pool.options(timeout=timeout).submit(tasks.leave_child_and_spin, log)
            assert isinstance(future.exception(60), TimeoutError)
            if tasks.noted(log):
                break
        pid = int(tasks.noted(log)[0])
        wait_until(lambda: not is_alive(pid), what="the left process to end")


def test_processes_of_each_attempt_end(log):
    """Each attempt's left process ends with its worker: a child, then SIGKILL, four times."""
    with running_pool(1) as pool:
        assert pool.submit(tasks.leave_child_and_die, log).exception(30).attempts == 4
        pids = [int(line) for line in tasks.noted(log) if line]
        assert len(pids) == 4
        wait_until(lambda: not any(map(is_alive, pids)), what="the left processes to end")


def test_left_thread_does_not_hold_up_shutdown():
    """A thread that a task leaves running does not keep its worker from ending."""
    with running_pool(1) as pool:
        pid = pool.run(tasks.leave_thread)
        assert pool.run(tasks.double, 4) == 8
    wait_until(lambda: not is_alive(pid), what="the worker to end")


def test_ignored_signals_do_not_hold_up_shutdown():
    """A worker in which a task ignores SIGTERM, SIGINT and SIGHUP still ends at shutdown."""

    def ignore():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        return os.getpid()

    with running_pool(1) as pool:
        pid = pool.run(ignore)
    wait_until(lambda: not is_alive(pid), what="the worker to end")


def test_the_pool_waits_for_no_foreign_child():
    """A child of the user's own is not reaped by the pool: its exit code is still there."""
    with subprocess.Popen(["sh", "-c", "exit 9"]) as child:
        with running_pool(2) as pool:
            for pid in worker_pids(pool):
                os.kill(pid, signal.SIGKILL)
            assert pool.run(tasks.double, 4) == 8
        assert child.wait() == 9


def test_user_code_may_use_its_own_loop_and_children():
    """asyncio.run and subprocess work inside tasks: the worker's reaping takes no exit code."""

    def use_both(number):
        import asyncio

        async def inner():
            process = await asyncio.create_subprocess_exec("sh", "-c", f"exit {number}")
            return await process.wait()

        return asyncio.run(inner()), subprocess.call(["sh", "-c", f"exit {number}"])

    with running_pool(2, retries=0) as pool:
        assert list(pool.map(use_both, range(6))) == [(n, n) for n in range(6)]
