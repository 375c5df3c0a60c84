"""Pools that fail to start, are dropped, are used too late, are forked, or break."""

import asyncio
import gc
import os
import signal
import threading
import time
import traceback
import weakref
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
from support import (
    assert_works,
    is_alive,
    kill,
    look_at,
    run_script,
    running_pool,
    wait_until,
    worker_pids,
)

from faults import tasks
from pool_client import HostError, Pool, PoolBroken, WorkerLost


def creation_error(**settings):
    """Create a pool that must not come up, and return what it raised."""
    pool = None
    try:
        pool = Pool(2, **settings)
        pool.create()
    except BaseException as error:
        return error
    finally:
        if pool is not None:
            pool.kill_workers()
            pool.shutdown(wait=True)
    raise AssertionError("the pool came up")


def everything(error):
    """Return the text of *error* with all its causes."""
    return "".join(traceback.format_exception(error))


# Start


@pytest.mark.parametrize("lazy", [False, True])
def test_initializer_that_raises(lazy):
    """Creation fails with the initializer's traceback: an ordinary exception in it."""
    error = creation_error(initializer=tasks.fail_to_start, initargs=("raises",), lazy_create=lazy)
    assert isinstance(error, PoolBroken)
    assert isinstance(error, BrokenProcessPool)
    assert "boom in the initializer" in everything(error)
    assert "fail_to_start" in everything(error)


@pytest.mark.parametrize(
    ("how", "word"), [("exits", "3"), ("sys.exit", "4"), ("is killed", "KILL")]
)
def test_initializer_that_ends_the_worker(how, word):
    """Creation fails with the exit code or signal: the initializer exits or is killed."""
    error = creation_error(initializer=tasks.fail_to_start, initargs=(how,))
    assert isinstance(error, PoolBroken)
    assert word in everything(error)


def test_initializer_that_hangs():
    """Creation fails at connect_timeout: the initializer sleeps for ten minutes."""
    before = time.monotonic()
    error = creation_error(
        initializer=tasks.fail_to_start, initargs=("hangs",), connect_timeout=1.5
    )
    assert isinstance(error, PoolBroken | HostError | TimeoutError)
    assert "initializer" in everything(error) or "1.5" in everything(error)
    assert time.monotonic() - before < 30


def test_initializer_that_does_not_unpickle():
    """Creation fails with the original error: an initializer argument that raises on arrival."""
    error = creation_error(initializer=tasks.same, initargs=(tasks.AtUnpickling("error"),))
    assert isinstance(error, PoolBroken)
    assert "misbehaved" in everything(error)


def test_failed_creation_on_the_callers_loop():
    """The same with `async with`: the error is raised, and nothing is left on the loop."""

    async def main():
        with pytest.raises(PoolBroken) as caught:
            async with Pool(2, initializer=tasks.fail_to_start, initargs=("raises",)):
                pass
        assert "boom in the initializer" in everything(caught.value)
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert left == []

    asyncio.run(main())


def test_initializer_that_fails_once_in_a_replacement(tmp_path, log):
    """A replacement whose initializer fails counts as a death: the next one comes up."""
    path = tmp_path / "fail"
    with running_pool(2, initializer=tasks.fail_if_exists_once, initargs=(str(path), log)) as pool:
        assert len(tasks.noted(log)) == 2
        path.touch()
        os.kill(worker_pids(pool)[0], signal.SIGKILL)
        wait_until(lambda: len(tasks.noted(log)) >= 4, what="two replacements")
        wait_until(lambda: len(worker_pids(pool)) == 2 and pool.is_ready(), what="two workers")
        assert_works(pool)


def test_initializer_that_fails_in_every_replacement(tmp_path, log):
    """When no worker is left and none can be started, the pool breaks, with the cause."""
    path = tmp_path / "fail"
    with running_pool(
        2, works_after=False, initializer=tasks.fail_if_exists, initargs=(str(path), log)
    ) as pool:
        assert pool.run(tasks.double, 4) == 8
        path.touch()
        for pid in worker_pids(pool):
            os.kill(pid, signal.SIGKILL)
        futures = [pool.submit(tasks.double_noted, log, n) for n in range(10)]
        errors = [future.exception(45) for future in futures]
        assert all(isinstance(error, PoolBroken) for error in errors), errors
        assert "boom in a replacement" in everything(errors[0])
        with pytest.raises(PoolBroken):
            pool.submit(tasks.double, 4).result(30)
        assert len(tasks.noted(log)) < 100, "restarts are backed off and bounded"


def test_every_start_crashes(tmp_path, monkeypatch):
    """Creation fails soon and shows why: a PYTHONPATH on which starting Python ends at once."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nsys.stderr.write('broken start-up 4711\\n')\nsys.stderr.flush()\n"
        "os._exit(41)\n"
    )
    old = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), old])))
    before = time.monotonic()
    error = creation_error()
    assert isinstance(error, PoolBroken)
    assert "broken start-up 4711" in everything(error)
    assert "41" in everything(error)
    assert time.monotonic() - before < 30


def test_replacements_of_the_supervisor_crash(tmp_path, monkeypatch):
    """A running pool whose supervisor cannot be started again breaks, with the cause."""
    old = os.environ.get("PYTHONPATH", "")
    with running_pool(2, works_after=False, connect_timeout=10.0) as pool:
        assert pool.run(tasks.double, 4) == 8
        (tmp_path / "sitecustomize.py").write_text(
            "import os, sys\nsys.stderr.write('broken start-up 4712\\n')\nsys.stderr.flush()\n"
            "os._exit(42)\n"
        )
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), old])))
        old = worker_pids(pool)
        os.kill(look_at(old[0]).parent, signal.SIGKILL)
        wait_until(lambda: not any(map(is_alive, old)), what="the workers to end")
        error = pool.submit(tasks.double, 4).exception(50)
        assert isinstance(error, PoolBroken)
        assert "broken start-up 4712" in everything(error)


def test_deaths_without_progress_break_the_pool(log):
    """More deaths than progress break the pool, and every future resolves: 300 deadly tasks."""
    with running_pool(2, works_after=False) as pool:
        futures = [pool.submit(tasks.die, log, "sigkill") for _ in range(300)]
        errors = [future.exception(45) for future in futures]
        assert all(isinstance(error, PoolBroken | WorkerLost) for error in errors)
        assert any(isinstance(error, PoolBroken) for error in errors)
        assert len(tasks.noted(log)) < 1200, "it breaks before every retry is used up"
        with pytest.raises(PoolBroken):
            pool.submit(tasks.double, 4).result(30)


# The end


def test_dropped_without_shutdown():
    """A pool that nobody holds any more cleans up after itself."""
    pool = Pool(2)
    assert pool.run(tasks.double, 4) == 8
    pids = worker_pids(pool)
    gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None
    wait_until(lambda: not any(map(is_alive, pids)), what="the workers to end")


def test_dropped_in_a_cycle():
    """The same when the pool is part of a cycle that only the collector finds."""
    pool = Pool(1)
    pids = worker_pids(pool) if pool.run(tasks.double, 4) else []
    holder = {"pool": pool}
    holder["self"] = holder
    del pool, holder
    gc.collect()
    wait_until(lambda: not any(map(is_alive, pids)), what="the workers to end")


def test_dropped_with_a_task_outstanding():
    """A pool that is dropped right after a submit still gives the result."""
    assert Pool(1).submit(tasks.double, 4).result(30) == 8
    gc.collect()


def test_dropped_before_it_was_created():
    """A lazy pool that was never used leaves nothing."""
    pool = Pool(2, lazy_create=True)
    assert pool.total_workers() == 0
    assert not pool.is_ready()
    del pool
    gc.collect()


def test_used_after_shutdown():
    """Every way to submit raises RuntimeError after shutdown; a second shutdown does nothing."""

    async def call(pool):
        with pytest.raises(RuntimeError):
            await pool.run_async(tasks.double, 4)

    pool = Pool(2)
    assert pool.run(tasks.double, 4) == 8
    assert pool.total_workers() == 2
    pool.shutdown()
    pool.shutdown()
    pool.shutdown(wait=False)
    pool.shutdown(cancel_futures=True)
    for use in (pool.submit, pool.run, pool.run_on_all, pool.options(timeout=1).submit):
        with pytest.raises(RuntimeError):
            use(tasks.get_pid)
    with pytest.raises(RuntimeError):
        list(pool.map(tasks.double, range(3)))
    asyncio.run(call(pool))
    assert pool.total_workers() == 0
    assert not pool.is_ready()
    asyncio.run(pool.shutdown_async())


def test_shutdown_of_a_lazy_pool():
    """A pool that was never created is shut down, and refuses to work then."""
    pool = Pool(2, lazy_create=True)
    pool.shutdown()
    with pytest.raises(RuntimeError):
        pool.submit(tasks.get_pid)


@pytest.mark.parametrize("wait", [True, False])
def test_shutdown_finishes_what_was_submitted(log, wait):
    """shutdown() lets every submitted task finish, waited for or in the background."""
    pool = Pool(2)
    futures = [pool.submit(tasks.double_slowly, log, n, 0.01) for n in range(100)]
    pool.shutdown(wait=wait)
    if wait:
        assert all(future.done() for future in futures)
    assert [future.result(30) for future in futures] == list(range(0, 200, 2))


@pytest.mark.parametrize("wait", [True, False])
def test_shutdown_cancels_what_was_not_sent(log, gate, wait):
    """shutdown(cancel_futures=True) cancels what waits, and finishes what runs."""
    pool = Pool(1, qsize=1)
    running = pool.submit(tasks.await_file, log, str(gate), "finished")
    waiting = [pool.submit(tasks.double, n) for n in range(50)]
    wait_until(lambda: tasks.noted(log), what="the task to start")

    def finish():
        try:
            wait_until(lambda: all(future.cancelled() for future in waiting), what="cancelling")
        finally:
            gate.touch()

    finishing = threading.Thread(target=finish)
    finishing.start()
    pool.shutdown(wait=wait, cancel_futures=True)
    finishing.join()
    assert running.result(30) == "finished"
    for future in waiting:
        wait_until(future.done, what="the future")
        assert future.cancelled()


def test_shutdown_while_workers_die(log):
    """Shutdown finishes the tasks though their workers are killed meanwhile: SIGKILL, retried."""
    pool = Pool(2, retries=50)
    futures = [pool.submit(tasks.double_slowly, log, n, 0.02) for n in range(60)]
    pids = worker_pids(pool)
    pool.shutdown(wait=False)
    for pid in pids:
        kill(pid)
    assert [future.result(30) for future in futures] == list(range(0, 120, 2))


def test_created_and_shut_down_again_and_again():
    """Pools come and go without a trace: ten in a row, one with no use at all between each."""
    for number in range(10):
        with Pool(2) as pool:
            assert pool.run(tasks.double, number) == 2 * number
        Pool(1).shutdown()


def test_shut_down_from_many_threads():
    """Several threads that shut the same pool down at once all return."""
    pool = Pool(2)
    future = pool.submit(tasks.sleep_for_pid, 0.2)
    threads = [threading.Thread(target=pool.shutdown) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert future.result(0) > 0


def test_loop_closed_under_the_pool():
    """A loop that ends with a pool still on it leaves no process: no `async with`, no shutdown."""

    async def main():
        pool = await Pool(2)
        assert await pool.run_async(tasks.double, 4) == 8
        return worker_pids(pool)

    pids = asyncio.run(main())
    gc.collect()
    wait_until(lambda: not any(map(is_alive, pids)), what="the workers to end")


def test_block_left_by_cancellation(log):
    """`async with` whose task is cancelled while it waits closes the pool and frees the loop."""

    async def use():
        async with Pool(1) as pool:
            await pool.run_async(tasks.sleep_until_cancelled, log)

    async def main():
        task = asyncio.create_task(use())
        while not tasks.noted(log):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 20)

    asyncio.run(main())
    assert tasks.noted(log) == ["started", "cancelled"]


# The end of the interpreter

SUBMIT = """
import sys
from pool_client import Pool
from faults import tasks
log = sys.argv[1]
pool = Pool(2)
futures = [pool.submit(tasks.double_slowly, log, n, 0.02) for n in range(40)]
"""

ENDINGS = {
    "falls off the end": ("", 0),
    "wait=False": ("pool.shutdown(wait=False)", 0),
    "sys.exit": ("sys.exit(7)", 7),
    "an exception": ("raise ValueError('the end')", 1),
    "pool dropped": ("del pool", 0),
    "futures dropped": ("pool.shutdown(wait=False)\ndel futures, pool", 0),
    "from a thread": (
        "import threading\nthreading.Thread(target=pool.shutdown, args=(False,)).start()",
        0,
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_interpreter_exit_with_pending_tasks(log, ending):
    """The interpreter finishes the submitted tasks, then exits with its own code."""
    source, code = ENDINGS[ending]
    run_script(SUBMIT + source, log, code=code)
    assert sorted(map(int, tasks.noted(log))) == list(range(40))


def test_interpreter_exit_with_a_map_that_nobody_read(log):
    """A map of known length that was never advanced is run whole before the interpreter exits."""
    run_script(
        """
        import itertools, sys
        from pool_client import Pool
        from faults import tasks
        pool = Pool(2)
        results = pool.map(tasks.double_noted, [sys.argv[1]] * 500, range(500))
        """,
        log,
    )
    assert sorted(map(int, tasks.noted(log))) == list(range(500))


def test_interpreter_exit_with_an_idle_pool():
    """A pool left open, one left lazy and one shut down do not keep the interpreter."""
    done = run_script(
        """
        from pool_client import Pool
        first, second, third = Pool(2), Pool(2, lazy_create=True), Pool(1)
        third.shutdown()
        print(first.run(abs, -3))
        """
    )
    assert done.stdout == "3\n"
    assert done.stderr == ""


def test_interpreter_exit_inside_asyncio():
    """A program that ends inside `async with` leaves by its exception, at once."""
    done = run_script(
        """
        import asyncio
        from pool_client import Pool
        async def main():
            async with Pool(2) as pool:
                print(await pool.run_async(abs, -3))
                raise SystemExit(5)
        asyncio.run(main())
        """,
        code=5,
    )
    assert done.stdout == "3\n"


def test_interpreter_exit_while_the_pool_is_being_created():
    """A pool whose creation runs in a daemon thread does not hang the exit."""
    run_script(
        """
        import threading, time
        from pool_client import Pool
        threading.Thread(target=Pool, args=(4,), daemon=True).start()
        time.sleep(0.02)
        """,
        code=None,
    )


# Fork


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_fork_in_the_client(log, gate):
    """A forked copy of the pool refuses to work, and the parent is unharmed, tasks included."""
    with running_pool(2, retries=0) as pool:
        running = pool.submit(tasks.await_file, log, str(gate), "unharmed")
        wait_until(lambda: tasks.noted(log), what="the task to start")
        before = sorted(worker_pids(pool))
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            answer = b"nothing raised"
            try:
                pool.submit(tasks.double, 4).result(5)
            except RuntimeError as error:
                answer = b"RuntimeError: " + str(error).encode()
            except BaseException as error:
                answer = repr(error).encode()
            os.write(writer, answer)
            os._exit(0)
        os.close(writer)
        with open(reader, "rb") as pipe:
            answer = pipe.read().decode()
        assert os.waitpid(child, 0)[1] == 0
        assert answer.startswith("RuntimeError: ")
        assert "fork" in answer
        gate.touch()
        assert running.result(30) == "unharmed"
        assert sorted(worker_pids(pool)) == before


def test_forked_child_that_exits_normally():
    """A forked child that runs its exit handlers takes no worker and no file of the parent's."""
    done = run_script(
        """
        import gc, os, sys
        from pool_client import Pool
        pool = Pool(2)
        before = sorted(worker.pid for worker in pool.workers())
        sys.stdout.flush()
        for how in ("exit", "shutdown", "drop"):
            child = os.fork()
            if child == 0:
                if how == "shutdown":
                    pool.shutdown()
                elif how == "drop":
                    del pool
                    gc.collect()
                sys.exit(0)
            print(how, os.waitpid(child, 0)[1])
            print(pool.run(abs, -3), flush=True)  # or the next child prints it once more
        print(sorted(worker.pid for worker in pool.workers()) == before)
        """,
        timeout=50,
    )
    assert done.stdout.split() == [
        *["exit", "0", "3", "shutdown", "0", "3", "drop", "0", "3"],
        "True",
    ]


def test_multiprocessing_child_with_a_pool_of_its_own():
    """A forked multiprocessing child makes its own pool, the parent's is unharmed."""
    done = run_script(
        """
        import multiprocessing
        from pool_client import Pool
        def inner():
            with Pool(1) as own:
                print(own.run(abs, -5), flush=True)
        pool = Pool(2)
        print(pool.run(abs, -4), flush=True)
        child = multiprocessing.get_context("fork").Process(target=inner)
        child.start()
        child.join()
        print(child.exitcode, pool.run(abs, -6))
        """
    )
    assert done.stdout.split() == ["4", "5", "0", "6"], done.stderr


def test_pool_inside_a_task():
    """A task may use a pool of its own, and several tasks at once may."""
    with running_pool(2) as pool:
        futures = [pool.submit(tasks.nested_pool, list(range(n))) for n in range(1, 4)]
        assert [future.result(40) for future in futures] == [
            [2 * m for m in range(n)] for n in range(1, 4)
        ]


def test_pool_inside_a_task_whose_worker_is_killed(log):
    """The inner pool's workers end with the worker that ran the task: SIGKILL of that worker."""

    def hold_a_pool(path: str) -> None:
        inner = Pool(2)
        for worker in inner.workers():
            tasks.note(path, worker.pid)
        time.sleep(600)

    with running_pool(1, retries=0) as pool:
        future = pool.submit(hold_a_pool, log)
        wait_until(lambda: len(tasks.noted(log)) == 2, timeout=30, what="the inner pool")
        inner = [int(line) for line in tasks.noted(log)]
        assert all(map(is_alive, inner))
        os.kill(worker_pids(pool)[0], signal.SIGKILL)
        assert isinstance(future.exception(30), WorkerLost)
        wait_until(lambda: not any(map(is_alive, inner)), what="the inner workers to end")
    Pool(1).shutdown()  # sweeps the files of the killed worker's pool


def test_working_directory_that_vanishes(tmp_path: Path, monkeypatch):
    """A client whose working directory was removed still gets a pool, or a clear error."""
    directory = tmp_path / "gone"
    directory.mkdir()
    monkeypatch.chdir(directory)
    directory.rmdir()
    try:
        with running_pool(1) as pool:
            assert pool.run(abs, -3) == 3
    except OSError as error:
        assert "directory" in str(error)
