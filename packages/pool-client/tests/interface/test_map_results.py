"""The results of `map`: their order, the errors among them, chunks, and timeouts."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import interface_tasks as tasks
import pytest
from mapping.hand import HaltedClock

from pool_client import Pool, RemoteException, map_async, map_sync


@pytest.fixture
def pool(shared: Any) -> Any:
    """Yield the pool of this file: these tests leave it as it is."""
    return shared


def test_the_iterator(pool: Any) -> None:
    """`map` returns an iterator that ends, and stays ended."""
    results = pool.map(abs, [-1, -2])
    assert iter(results) is results
    assert [next(results), next(results)] == [1, 2]
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(results)


@pytest.mark.parametrize("chunksize", [None, 1, 3, 1000])
def test_long_input_in_order(pool: Any, chunksize: int | None) -> None:
    """Results come in the order of the inputs, whatever the chunks."""
    assert list(pool.map(tasks.square, range(3000), chunksize=chunksize)) == [
        n * n for n in range(3000)
    ]


@pytest.mark.parametrize("chunksize", [None, 1, 3, 1000])
def test_long_input_as_completed(pool: Any, chunksize: int | None) -> None:
    """With ``ordered=False`` each result comes once."""
    results = pool.map(tasks.square, range(3000), chunksize=chunksize, ordered=False)
    assert sorted(results) == [n * n for n in range(3000)]


def test_as_completed_does_not_wait_for_the_first(pool: Any, gate: Any) -> None:
    """With ``ordered=False`` a slow first item holds nothing back."""
    items = [(n, [0], gate.path) for n in range(10)]
    results = pool.map(tasks.pass_if, items, star=True, ordered=False, chunksize=1, timeout=30)
    assert sorted(itertools.islice(results, 9)) == list(range(1, 10))
    gate.open()
    assert list(results) == [0]


def test_ordered_holds_back_what_is_early(pool: Any, gate: Any) -> None:
    """In order, the first item comes first though others are done before it."""
    items = [(n, [0], gate.path) for n in range(5)]
    results = pool.map(tasks.pass_if, items, star=True, chunksize=1, timeout=30)
    pool.run(abs, -1)
    gate.open()
    assert list(results) == [0, 1, 2, 3, 4]


def test_results_arrive_before_the_slow_last(pool: Any, gate: Any) -> None:
    """Finished results are handed over while a later item still runs."""
    items = [(n, [5], gate.path) for n in range(6)]
    results = pool.map(tasks.pass_if, items, star=True, chunksize=1, timeout=30)
    assert list(itertools.islice(results, 5)) == [0, 1, 2, 3, 4]
    gate.open()
    assert list(results) == [5]


def test_a_running_item_holds_no_neighbour_back(gate: Any) -> None:
    """Without a chunksize, results before a slow item arrive while it runs, on one worker."""
    with Pool(1) as pool:
        items = [(n, [3], gate.path) for n in range(6)]
        results = pool.map(tasks.pass_if, items, star=True, timeout=20)
        assert list(itertools.islice(results, 3)) == [0, 1, 2]
        gate.open()
        assert list(results) == [3, 4, 5]


@pytest.mark.parametrize("chunksize", [None, 1, 2, 100])
def test_exception_in_its_place(pool: Any, chunksize: int | None) -> None:
    """Earlier results come first, then the exception, then the later results."""
    results = pool.map(tasks.fail_on, range(6), [3] * 6, chunksize=chunksize, timeout=30)
    assert list(itertools.islice(results, 3)) == [0, 1, 2]
    with pytest.raises(tasks.Oops) as caught:
        next(results)
    assert caught.value.number == 3
    assert isinstance(caught.value.__cause__, RemoteException)
    assert list(results) == [4, 5]
    assert pool.run(abs, -1) == 1


@pytest.mark.parametrize("chunksize", [None, 1, 100])
def test_exception_of_the_last_item(pool: Any, chunksize: int | None) -> None:
    """An exception at the end takes nothing of its chunk with it."""
    results = pool.map(tasks.fail_on, range(50), [49] * 50, chunksize=chunksize, timeout=30)
    assert list(itertools.islice(results, 49)) == list(range(49))
    with pytest.raises(tasks.Oops):
        next(results)


def test_exception_of_the_first_item(pool: Any) -> None:
    """An exception at the start is the first thing to come."""
    results = pool.map(tasks.fail_on, range(50), [0] * 50, timeout=30)
    with pytest.raises(tasks.Oops):
        next(results)


def test_exception_as_completed(pool: Any) -> None:
    """With ``ordered=False`` an exception is raised as well."""
    with pytest.raises(tasks.Oops):
        list(pool.map(tasks.fail_on, range(6), [3] * 6, ordered=False, timeout=30))
    assert pool.run(abs, -1) == 1


@pytest.mark.parametrize("chunksize", [1, 100])
def test_a_lost_worker_in_its_place(chunksize: int) -> None:
    """An item that kills its worker is to blame itself; what came before it arrives."""
    from pool_client import WorkerLost

    def work(number: int) -> int:
        if number == 3:
            tasks.die()
        return number

    with Pool(2, retries=1) as pool:
        results = pool.map(work, range(6), chunksize=chunksize, timeout=40)
        assert list(itertools.islice(results, 3)) == [0, 1, 2]
        with pytest.raises(WorkerLost):
            next(results)


def broken_source(error: BaseException) -> Iterator[int]:
    """Yield three numbers and raise."""
    yield from range(3)
    raise error


async def broken_async_source(error: BaseException) -> AsyncIterator[int]:
    """Yield three numbers and raise, asynchronously."""
    for number in range(3):
        yield number
    raise error


@pytest.mark.parametrize("source", [broken_source, broken_async_source])
@pytest.mark.parametrize("chunksize", [None, 1, 10])
def test_input_that_raises(pool: Any, source: Any, chunksize: int | None) -> None:
    """What an input raises is raised in its place, after the results before it."""
    results = pool.map(abs, source(KeyError("input")), chunksize=chunksize, timeout=30)
    assert list(itertools.islice(results, 3)) == [0, 1, 2]
    with pytest.raises(KeyError, match="input"):
        next(results)
    assert pool.run(abs, -1) == 1


@pytest.mark.parametrize("source", [broken_source, broken_async_source])
def test_input_that_raises_in_map_async(pool: Any, source: Any) -> None:
    """The same holds for `map_async`."""

    async def main() -> list[int]:
        taken = []
        with pytest.raises(KeyError, match="input"):
            async for result in pool.map_async(abs, source(KeyError("input")), timeout=30):
                taken.append(result)
        return taken

    assert asyncio.run(main()) == [0, 1, 2]


@pytest.mark.parametrize("chunksize", [None, 1, 2, 100])
def test_exception_in_its_place_in_map_async(pool: Any, chunksize: int | None) -> None:
    """`map_async` raises an item's exception between the results around it."""

    async def main() -> list[int]:
        taken = []
        results = pool.map_async(tasks.fail_on, range(6), [3] * 6, chunksize=chunksize, timeout=30)
        with pytest.raises(tasks.Oops):
            async for result in results:
                taken.append(result)
        return [*taken, *[result async for result in results]]

    assert asyncio.run(main()) == [0, 1, 2, 4, 5]


def test_integer_chunksize_is_honoured(pool: Any, tmp_path: Path) -> None:
    """Chunks of four: the first items of two chunks run at once, each chunk in one worker."""

    def work(number: int) -> int:
        return tasks.meet(str(tmp_path), 2, number) if number in (0, 4) else tasks.pid()

    pids = list(pool.map(work, range(8), chunksize=4, timeout=30))
    assert len(set(pids[:4])) == len(set(pids[4:])) == 1
    assert pids[0] != pids[4]


def test_chunksize_one_spreads(pool: Any, tmp_path: Path) -> None:
    """Chunks of one: neighbours run at once."""
    pids = list(
        pool.map(tasks.meet, [str(tmp_path)] * 2, [2] * 2, range(2), chunksize=1, timeout=30)
    )
    assert len(set(pids)) == 2


def test_large_chunksize_stays_together(pool: Any) -> None:
    """A chunk as long as the input is run by one worker."""
    assert len(set(pool.map(tasks.pid, range(50), chunksize=50, timeout=30))) == 1


def test_default_chunks_of_slow_items_are_single(pool: Any, tmp_path: Path) -> None:
    """Without a chunksize, the first two of a function never seen before run at once."""
    pids = list(pool.map(tasks.meet, [str(tmp_path)] * 2, [2] * 2, range(2), timeout=30))
    assert len(set(pids)) == 2


@pytest.mark.parametrize("ordered", [True, False])
def test_timeout(pool: Any, gate: Any, ordered: bool) -> None:
    """A map past its timeout raises `TimeoutError`, and the pool stays usable."""
    with pytest.raises(TimeoutError):
        list(pool.map(tasks.pass_gate, [gate.path] * 4, timeout=0.1, ordered=ordered))
    gate.open()
    assert list(pool.map(abs, [-1, -2], timeout=30)) == [1, 2]


def test_timeout_is_the_pools_own_name(pool: Any, gate: Any) -> None:
    """``Pool.TimeoutError`` catches it."""
    with pytest.raises(Pool.TimeoutError):
        list(pool.map(tasks.pass_gate, [gate.path], timeout=0.05))


def test_timeout_counts_from_the_call(pool: Any, gate: Any) -> None:
    """The time between the call and the first ``next`` counts; what is finished still comes."""
    results = pool.map(tasks.pass_gate, [gate.path], timeout=0.2)
    time.sleep(0.3)
    with pytest.raises(TimeoutError):
        next(results)


def test_timeout_keeps_earlier_results(
    pool: Any, gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results that were ready are delivered before the timeout."""
    clock = HaltedClock()
    monkeypatch.setattr(map_sync, "_now", clock)
    items = [(n, [2], gate.path) for n in range(4)]
    results = pool.map(tasks.pass_if, items, star=True, timeout=0.2, chunksize=1)
    assert [next(results), next(results)] == [0, 1]
    clock.runs = True
    with pytest.raises(TimeoutError):
        next(results)


def test_timeout_cancels_what_was_not_sent(single: Any, gate: Any) -> None:
    """After the timeout, what was not sent never runs."""
    items = [(gate.path, n, gate.arrived) for n in range(20)]
    with pytest.raises(TimeoutError):
        list(single.map(tasks.pass_gate, items, star=True, timeout=0.2, chunksize=1))
    gate.open()
    assert single.run(abs, -1) == 1
    assert gate.arrivals() <= 1


def test_timeout_in_map_async(pool: Any, gate: Any) -> None:
    """`map_async` raises at its timeout as well, though its loop has nothing else to do."""

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async for _ in pool.map_async(tasks.pass_gate, [gate.path], timeout=0.1):
                pass
        gate.open()
        assert [n async for n in pool.map_async(abs, [-1], timeout=30)] == [1]

    asyncio.run(main())


def test_timeout_while_an_async_input_pauses(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The timeout is noticed while nothing comes from the input."""
    clock = HaltedClock()
    monkeypatch.setattr(map_async, "_now", clock)

    async def pausing() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(60)

    async def main() -> list[int]:
        taken = []
        with pytest.raises(TimeoutError):
            async for result in pool.map_async(abs, pausing(), timeout=0.2):
                taken.append(result)
                clock.runs = True
        return taken

    assert asyncio.run(main()) == [1]


def test_mapping_an_async_function(pool: Any) -> None:
    """`map` maps async functions, in chunks or not."""
    assert list(pool.map(tasks.aadd, range(20), range(20))) == [2 * n for n in range(20)]
    assert list(pool.map(tasks.aadd, range(20), range(20), chunksize=5)) == [
        2 * n for n in range(20)
    ]


def test_two_maps_interleaved(pool: Any) -> None:
    """Two maps and single tasks share the pool without a mix-up."""
    first = pool.map(tasks.add, itertools.repeat("a"), map(str, range(500)))
    second = pool.map(tasks.add, itertools.repeat("b"), map(str, range(500)))
    for number, (a, b) in enumerate(zip(first, second, strict=True)):
        assert (a, b) == (f"a{number}", f"b{number}")
        if number % 100 == 0:
            assert pool.run(abs, -number) == number


def test_map_inside_a_map(pool: Any) -> None:
    """The results of one map are the input of the next."""
    inner = pool.map(tasks.square, range(300))
    assert list(pool.map(tasks.add, inner, itertools.repeat(1))) == [n * n + 1 for n in range(300)]


def test_large_items(pool: Any) -> None:
    """Items larger than any buffer go there and back in order."""
    items = [bytes([n]) * 400_000 for n in range(12)]
    assert list(pool.map(tasks.add, items, itertools.repeat(b""), timeout=40)) == items
