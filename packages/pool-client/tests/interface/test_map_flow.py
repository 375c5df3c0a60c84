"""How far `map` reads ahead, and that it withholds nothing."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import interface_tasks as tasks
import pytest
from support import wait_until


class Counted:
    """An endless input that knows how far it was read."""

    def __init__(self, item: Any = None) -> None:
        self.read = 0
        self._item = item

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self.read += 1
        return self.read - 1 if self._item is None else self._item


class AsyncCounted(Counted):
    """The same, asynchronous."""

    def __aiter__(self) -> "AsyncCounted":
        return self

    async def __anext__(self) -> Any:
        await asyncio.sleep(0)
        return next(self)


def settled(source: Counted, seconds: float = 0.3) -> int:
    """Return how far the input was read once that no longer changes."""
    deadline = time.monotonic() + 20
    seen = -1
    while seen != source.read:
        assert time.monotonic() < deadline, f"reading goes on: {source.read}"
        seen = source.read
        time.sleep(seconds)
    return seen


@pytest.fixture
def pool(shared: Any) -> Any:
    """Yield the pool of this file: these tests leave it as it is."""
    return shared


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("chunksize", [None, 1, 4])
@pytest.mark.parametrize("kind", [Counted, AsyncCounted])
def test_read_ahead_is_at_most_buffersize(
    pool: Any, ordered: bool, chunksize: int | None, kind: Any
) -> None:
    """The input is read at most ``buffersize`` ahead of the results that were taken."""
    source = kind()
    results = pool.map(abs, source, buffersize=10, ordered=ordered, chunksize=chunksize, timeout=40)
    assert settled(source, 0.05) <= 10
    for taken in range(1, 101):
        next(results)
        # The result in hand is taken: its place may be filled before it is handed over.
        assert source.read <= taken + 10
    results.close()


@pytest.mark.parametrize("ordered", [True, False])
def test_read_ahead_with_a_slow_first_item(pool: Any, gate: Any, ordered: bool) -> None:
    """A slow first item stops the reading, in order; out of order it counts as one of them."""
    source = Counted()
    results = pool.map(
        tasks.pass_if,
        source,
        itertools.repeat((0,)),
        itertools.repeat(gate.path),
        buffersize=8,
        ordered=ordered,
        chunksize=1,
        timeout=40,
    )
    if not ordered:
        assert 0 not in itertools.islice(results, 50)
        assert source.read <= 58
    assert settled(source, 0.1) <= (8 if ordered else 58)
    gate.open()
    if ordered:
        assert list(itertools.islice(results, 20)) == list(range(20))
    else:
        assert any(result == 0 for result in results)  # endless: or the timeout ends it
    results.close()


def test_buffersize_of_one(pool: Any) -> None:
    """The smallest buffer works, one item at a time."""
    source = Counted()
    results = pool.map(abs, source, buffersize=1, timeout=30)
    assert list(itertools.islice(results, 20)) == list(range(20))
    assert source.read <= 21
    results.close()


def test_buffersize_smaller_than_the_chunk(pool: Any) -> None:
    """A buffer smaller than a chunk does not wait for a chunk that can never fill."""
    results = pool.map(abs, Counted(), buffersize=3, chunksize=10, timeout=30)
    assert list(itertools.islice(results, 20)) == list(range(20))
    results.close()


def test_automatic_read_ahead_is_bounded(pool: Any) -> None:
    """Without ``buffersize`` an endless input is not read for ever when nobody takes results."""
    source = AsyncCounted()
    results = pool.map(abs, source, timeout=40)
    assert next(results) == 0
    assert settled(source) < 1_000_000
    results.close()


def test_automatic_read_ahead_is_bounded_in_bytes(pool: Any) -> None:
    """Large items are read ahead in small numbers."""
    source = Counted(b"x" * 1_000_000)
    results = pool.map(len, source, timeout=40)
    assert [next(results) for _ in range(30)] == [1_000_000] * 30
    assert source.read < 30 + 300
    results.close()


@pytest.mark.parametrize("ordered", [True, False])
def test_slow_consumer_of_map_async(pool: Any, ordered: bool) -> None:
    """A consumer that pauses between results does not make `map_async` read on."""

    async def main() -> None:
        source = AsyncCounted()
        results = pool.map_async(abs, source, buffersize=10, ordered=ordered, timeout=40)
        taken = 0
        async for _ in results:
            taken += 1
            await asyncio.sleep(0.002)
            assert source.read <= taken + 10
            if taken == 50:
                break
        await results.aclose()

    asyncio.run(main())


class Pausing:
    """An async input that gives three items, pauses until told to go on, and gives two more."""

    def __init__(self) -> None:
        self.go_on = False
        self.paused = False

    async def __aiter__(self) -> AsyncIterator[int]:
        for number in range(3):
            yield number
        self.paused = True
        while not self.go_on:
            await asyncio.sleep(0.005)
        yield 3
        yield 4


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("chunksize", [None, 1, 2, 100])
def test_nothing_is_withheld_while_an_input_pauses(
    pool: Any, ordered: bool, chunksize: int | None
) -> None:
    """While an async input pauses, the results of all it gave so far are delivered."""
    source = Pausing()
    results = pool.map(abs, source, ordered=ordered, chunksize=chunksize, timeout=15)
    assert sorted(itertools.islice(results, 3)) == [0, 1, 2]
    assert not source.go_on
    source.go_on = True
    assert sorted(results) == [3, 4]


@pytest.mark.parametrize("on_loop", [True, False])
@pytest.mark.parametrize("chunksize", [None, 1, 2, 100])
def test_nothing_is_withheld_in_map_async(on_loop: bool, chunksize: int | None) -> None:
    """The same holds for `map_async`, wherever the engine lives."""
    from pool_client import Pool

    async def main() -> list[int]:
        pool = Pool(2)
        async with pool if on_loop else await pool:
            source, taken = Pausing(), []
            async for result in pool.map_async(abs, source, chunksize=chunksize, timeout=15):
                taken.append(result)
                if len(taken) == 3:
                    source.go_on = True
            return taken

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]


def test_nothing_is_withheld_of_a_learnt_function(pool: Any) -> None:
    """A function known to be tiny, chunked by thousands, withholds nothing either."""
    assert sum(pool.map(abs, range(20_000))) == sum(range(20_000))
    source = Pausing()
    results = pool.map(abs, source, timeout=15)
    assert list(itertools.islice(results, 3)) == [0, 1, 2]
    source.go_on = True
    assert list(results) == [3, 4]


def test_an_input_that_ends_late(pool: Any) -> None:
    """All results are delivered before an input ends, and its end is noticed."""
    source = Pausing()
    results = pool.map(abs, source, timeout=15)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    wait_until(lambda: source.paused)
    source.go_on = True
    assert list(results) == [3, 4]


def test_results_fed_back_as_input(pool: Any) -> None:
    """An async input that waits for results before it goes on does not wait for ever."""

    async def main() -> list[int]:
        answers: asyncio.Queue[int] = asyncio.Queue()

        async def source() -> AsyncIterator[int]:
            yield 1
            for _ in range(5):
                yield await answers.get()

        taken = []
        async for result in pool.map_async(tasks.add, source(), itertools.repeat(1), timeout=20):
            taken.append(result)
            answers.put_nowait(result)
        return taken

    assert asyncio.run(main()) == [2, 3, 4, 5, 6, 7]


def test_the_loop_stays_responsive(pool: Any) -> None:
    """A busy `map_async` leaves its loop time for others."""

    async def main() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticker = asyncio.create_task(tick())
        count = 0
        async for _ in pool.map_async(abs, range(50_000), timeout=40):
            count += 1
        ticker.cancel()
        assert count == 50_000
        return ticks

    assert asyncio.run(main()) > 5
