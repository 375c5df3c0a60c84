"""A client that is blocked for a while loses nothing: its loop, its GIL, the whole process."""

import asyncio
import ctypes
import os
import signal
import threading
import time

import pytest
from support import running_pool, started_script, wait_until, worker_pids

from faults import tasks
from pool_client import Pool


def hold_the_gil(seconds: int) -> None:
    """Sleep inside a C call that does not release the GIL."""
    ctypes.PyDLL(None).sleep(seconds)


def check_blocked_gil(seconds: int) -> None:
    with running_pool(2, retries=0) as pool:
        before = sorted(worker_pids(pool))
        futures = [pool.submit(tasks.double, n) for n in range(2_000)]
        large = pool.submit(tasks.zeros, 20_000_000)
        hold_the_gil(seconds)
        assert [future.result(60) for future in futures] == list(range(0, 4_000, 2))
        assert len(large.result(60)) == 20_000_000
        assert sorted(worker_pids(pool)) == before


def check_blocked_loop(seconds: float) -> None:
    async def main():
        async with Pool(2, retries=0) as pool:
            before = sorted(worker_pids(pool))
            futures = [pool.run_async(tasks.double, n) for n in range(2_000)]
            large = pool.run_async(tasks.zeros, 20_000_000)
            await asyncio.sleep(0)
            time.sleep(seconds)
            assert await asyncio.gather(*futures) == list(range(0, 4_000, 2))
            assert len(await large) == 20_000_000
            assert sorted(worker_pids(pool)) == before

    asyncio.run(main())


def check_blocked_while_connecting(seconds: int) -> None:
    """Workers that connect while the client is blocked are not refused afterwards."""
    pool = Pool(4, lazy_create=True)
    try:
        thread = threading.Thread(target=pool.create)
        thread.start()
        time.sleep(0.05)
        hold_the_gil(seconds)
        thread.join(60)
        assert not thread.is_alive()
        assert [pool.run(tasks.double, n) for n in range(10)] == list(range(0, 20, 2))
        assert pool.total_workers() == 4
    finally:
        pool.shutdown()


def check_stopped_client(seconds: float) -> None:
    """A client that is stopped as a whole finds its workers and results where they were."""
    source = """
    import sys
    from pool_client import Pool
    from faults import tasks
    with Pool(2, retries=0) as pool:
        pids = sorted(worker.pid for worker in pool.workers())
        futures = [pool.submit(tasks.double, n) for n in range(2000)]
        large = pool.submit(tasks.zeros, 20_000_000)
        print("ready", flush=True)
        sys.stdin.readline()
        assert [future.result(60) for future in futures] == list(range(0, 4000, 2))
        assert len(large.result(60)) == 20_000_000
        assert pool.run(abs, -1) == 1
        assert sorted(worker.pid for worker in pool.workers()) == pids
    print("unharmed")
    """
    with started_script(source, stdin=-1) as client:
        assert client.stdout.readline() == "ready\n"
        os.kill(client.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(client.pid, signal.SIGCONT)
        output, errors = client.communicate("\n", timeout=60)
        assert output == "unharmed\n", errors


def test_gil_is_blocked():
    """No worker is lost while the client's GIL is held by somebody else: 3 s in a C call."""
    check_blocked_gil(3)


def test_loop_is_blocked():
    """No worker is lost while the client's loop is blocked: 3 s of time.sleep on it."""
    check_blocked_loop(3.0)


def test_gil_is_blocked_while_workers_connect():
    """Workers are not refused because the client was blocked meanwhile: 3 s in a C call."""
    check_blocked_while_connecting(3)


def test_client_is_stopped():
    """No worker is lost or ends while the client is stopped: SIGSTOP for 3 s."""
    check_stopped_client(3.0)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_blocked_for_a_minute():
    """The same four, for 60 s each."""
    check_blocked_gil(60)
    check_blocked_loop(60.0)
    check_blocked_while_connecting(25)
    check_stopped_client(60.0)


def test_busy_worker_with_much_in_its_queue():
    """A healthy worker that is busy while megabytes are queued for it is not taken for lost."""
    with running_pool(1, qsize=100, retries=0) as pool:
        before = worker_pids(pool)
        data = bytes(40_000)
        busy = pool.submit(tasks.sleep_for_pid, 3.0)
        queued = [pool.submit(tasks.size_of, data) for _ in range(500)]
        assert busy.result(30) == before[0]
        assert [future.result(30) for future in queued] == [40_000] * 500
        assert worker_pids(pool) == before


def test_client_is_stopped_while_it_ends(log, gate):
    """A stopped client leaves its workers their time to end: SIGSTOP, longer than they have."""
    source = """
    import atexit, sys
    from pool_client import Pool, engine
    from faults import tasks

    def last(log, gate):
        tasks.await_file(log, gate)
        tasks.note(log, "done")

    engine._LEAVE = 2.0
    with Pool(1) as pool:
        pool.run(atexit.register, last, *sys.argv[1:])
    """
    with started_script(source, log, gate) as client:
        wait_until(lambda: tasks.noted(log), what="the worker to end")
        os.kill(client.pid, signal.SIGSTOP)
        time.sleep(2.5)
        os.kill(client.pid, signal.SIGCONT)
        time.sleep(0.2)  # whoever ends the worker has time to do it
        gate.touch()
        assert client.wait(60) == 0
    assert tasks.noted(log)[1:] == ["done"]
