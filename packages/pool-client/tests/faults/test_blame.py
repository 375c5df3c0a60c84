"""One task is to blame for a death, and no other: the good ones around it are unharmed."""

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from support import running_pool, wait_until

from faults import tasks
from pool_client import WorkerLost

TASKS = 1000


def outcomes(results: Iterator[Any]) -> list[Any]:
    """Return each item's result or exception, to the end."""
    collected: list[Any] = []
    while True:
        try:
            collected.append(next(results))
        except StopIteration:
            return collected
        except Exception as error:
            collected.append(error)


def check_all_but_one(collected: list[Any], bad: int, attempts: int) -> None:
    """Check that every result is right but the bad one's, which is a WorkerLost."""
    assert len(collected) == TASKS
    for number, outcome in enumerate(collected):
        if number == bad:
            assert isinstance(outcome, WorkerLost), outcome
            assert outcome.attempts == attempts
        else:
            assert outcome == 2 * number


@pytest.mark.parametrize("qsize", [None, 1, 100])
@pytest.mark.parametrize("bad", [0, 500, 999])
def test_single_tasks(log, qsize, bad):
    """One deadly task among 1,000 fails alone, and no other runs twice: it kills its worker."""
    with running_pool(2, qsize=qsize, retries=2) as pool:
        futures = [pool.submit(tasks.double_or_die, log, n, bad) for n in range(TASKS)]
        collected = [future.exception(30) or future.result() for future in futures]
        check_all_but_one(collected, bad, attempts=3)
        counted = tasks.runs(log)
        assert counted.pop(str(bad)) == 3
        assert set(counted.values()) == {1}
        assert len(counted) == TASKS - 1


def test_several_deadly_tasks(log):
    """Each of ten deadly tasks among 1,000 fails with its own attempts: all kill their workers."""
    with running_pool(3, qsize=20, retries=1) as pool:
        futures = [
            pool.submit(tasks.double_or_die, log, n, n if n % 100 == 50 else -1)
            for n in range(TASKS)
        ]
        for number, future in enumerate(futures):
            if number % 100 == 50:
                error = future.exception(30)
                assert isinstance(error, WorkerLost)
                assert error.attempts == 2
            else:
                assert future.result(30) == 2 * number
        counted = tasks.runs(log)
        assert all(counted[str(n)] == (2 if n % 100 == 50 else 1) for n in range(TASKS))


@pytest.mark.parametrize("chunksize", [None, 1, 7, 50, 1000])
@pytest.mark.parametrize("bad", [0, 523, 999])
def test_mapped_items(log, chunksize, bad):
    """A deadly item takes nothing of its chunk with it: it kills its worker, at its own place."""
    with running_pool(2, retries=1) as pool:
        logs, bads = itertools.repeat(log), itertools.repeat(bad)
        results = pool.map(tasks.double_or_die, logs, range(TASKS), bads, chunksize=chunksize)
        check_all_but_one(outcomes(results), bad, attempts=2)
        assert tasks.runs(log)[str(bad)] == 2


@pytest.mark.parametrize("chunksize", [None, 1, 50])
def test_mapped_items_async(log, chunksize):
    """The same with map_async, which goes on after the error as well: one item kills its worker."""

    async def main(pool):
        collected = []
        results = pool.map_async(
            tasks.double_or_die, [log] * TASKS, range(TASKS), [523] * TASKS, chunksize=chunksize
        )
        while True:
            try:
                collected.append(await asyncio.wait_for(anext(results), 30))
            except StopAsyncIteration:
                return collected
            except WorkerLost as error:
                collected.append(error)

    with running_pool(2, retries=1) as pool:
        check_all_but_one(asyncio.run(main(pool)), 523, attempts=2)


def test_mapped_items_as_completed(log):
    """The same without order: every other result arrives, and the error arrives once."""
    with running_pool(2, retries=1) as pool:
        logs, bads = itertools.repeat(log), itertools.repeat(77)
        results = pool.map(
            tasks.double_or_die, logs, range(TASKS), bads, chunksize=10, ordered=False
        )
        collected = outcomes(results)
        lost = [one for one in collected if isinstance(one, Exception)]
        assert [type(one) for one in lost] == [WorkerLost]
        good = sorted(one for one in collected if not isinstance(one, Exception))
        assert good == [2 * n for n in range(TASKS) if n != 77]


def test_two_deadly_items_in_one_chunk(log):
    """Each item that kills its worker is blamed in its turn: two in a chunk of 50."""

    def double_unless(path: str, number: int) -> int:
        return tasks.double_or_die(path, number, number if number in (12, 37) else -1)

    with running_pool(2, retries=1) as pool:
        collected = outcomes(
            pool.map(double_unless, itertools.repeat(log), range(200), chunksize=50)
        )
        lost = [n for n, one in enumerate(collected) if isinstance(one, WorkerLost)]
        assert lost == [12, 37]
        assert [one for one in collected if not isinstance(one, Exception)] == [
            2 * n for n in range(200) if n not in lost
        ]


def test_automatic_chunks_without_retries_run_items_once(log):
    """With retries=0 no mapped item runs twice, though one kills its worker: at most once."""
    with running_pool(2, retries=0) as pool:
        logs, bads = itertools.repeat(log), itertools.repeat(300)
        collected = outcomes(pool.map(tasks.double_or_die, logs, range(TASKS), bads))
        check_all_but_one(collected, 300, attempts=1)
        assert set(tasks.runs(log).values()) == {1}
        assert len(tasks.runs(log)) == TASKS


def test_queued_tasks_are_not_blamed(log, gate, tmp_path):
    """Tasks that waited behind the one that was killed run once, without retries: SIGKILL."""
    second = str(tmp_path / "second")
    with running_pool(1, qsize=50, retries=0) as pool:
        running = pool.submit(tasks.await_file, log, str(gate))
        behind = [pool.submit(tasks.double_noted, second, n) for n in range(49)]
        pid = int(wait_until(lambda: tasks.noted(log), what="the task to start")[0])
        tasks.os.kill(pid, tasks.signal.SIGKILL)
        assert isinstance(running.exception(30), WorkerLost)
        assert [future.result(30) for future in behind] == list(range(0, 98, 2))
        assert set(tasks.runs(second).values()) == {1}


def test_async_task_is_blamed_like_any_other(log):
    """An async task that kills its worker fails alone: SIGKILL inside a coroutine."""

    async def double_or_die(number: int) -> int:
        return tasks.double_or_die(log, number, 60)

    with running_pool(2, qsize=30, retries=1) as pool:
        futures = [pool.submit(double_or_die, n) for n in range(100)]
        for number, future in enumerate(futures):
            if number == 60:
                assert isinstance(future.exception(30), WorkerLost)
            else:
                assert future.result(30) == 2 * number
        assert tasks.runs(log)["60"] == 2
