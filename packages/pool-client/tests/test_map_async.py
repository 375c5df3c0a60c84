"""The async generator of a map, over a fake engine."""

import asyncio
import contextlib
import gc
import itertools
import sys
import threading
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from mapping.hand import HaltedClock
from support import wait_until

from pool_client import map_async
from pool_client.map_rest import Rests
from pool_client.mapping import check
from pool_client.mapping.seam import Delivery
from pool_client.testing import FakeChunks, FakeHandle, ThreadedChunks


def double(number: int) -> int:
    """Return twice the number; negative numbers are an error."""
    if number < 0:
        raise ValueError(number)
    return 2 * number


class LoopChunks(FakeChunks):
    """An engine on the running loop."""

    def submit_chunk(self, items: list[Any], done: Callable[[Delivery], None]) -> FakeHandle:
        """Queue a chunk, and have it run soon."""
        handle = super().submit_chunk(items, done)
        asyncio.get_running_loop().call_soon(self.step)
        return handle


def start(chunks: FakeChunks, *columns: Any, **options: Any) -> AsyncGenerator[Any, None]:
    """Start a map."""
    rests = options.pop("rests", None)
    single = options.pop("single", False)
    return map_async.start(
        chunks, check(chunks.func, columns, **options), rests=rests, single=single
    )


@pytest.fixture(params=["thread", "loop"])
def chunks(request: pytest.FixtureRequest) -> Iterator[FakeChunks]:
    """Yield an engine that works by itself, in threads or on the loop."""
    if request.param == "loop":
        yield LoopChunks(double)
        return
    with ThreadedChunks(double) as threaded:
        yield threaded


@pytest.fixture
def hand() -> FakeChunks:
    """Return an engine that is run by hand."""
    return FakeChunks(double)


async def acount(stop: int | None = None, pause: int = 10) -> AsyncIterator[int]:
    """Count from 0."""
    for number in itertools.count() if stop is None else range(stop):
        if number % pause == pause - 1:
            await asyncio.sleep(0)
        yield number


@pytest.mark.parametrize("chunksize", [None, 1, 7])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("kind", [range, lambda stop: iter(range(stop)), acount])
def test_all_results(
    chunks: FakeChunks, chunksize: int | None, ordered: bool, kind: Callable[[int], Any]
) -> None:
    """All results come once, in order if asked."""

    async def main() -> list[int]:
        results = start(chunks, kind(2000), chunksize=chunksize, ordered=ordered)
        return [result async for result in results]

    taken = asyncio.run(main())
    assert (taken if ordered else sorted(taken)) == list(range(0, 4000, 2))


def test_it_is_an_async_generator(chunks: FakeChunks) -> None:
    """It ends, and stays ended."""

    async def main() -> None:
        results = start(chunks, [1, 2])
        assert isinstance(results, AsyncGenerator)
        assert results.__aiter__() is results
        assert repr(results).startswith("<MapGenerator <Flow ended: 2 read")
        assert await anext(results) == 2
        assert [one async for one in results] == [4]
        with pytest.raises(StopAsyncIteration):
            await anext(results)

    asyncio.run(main())


def test_an_empty_input(chunks: FakeChunks) -> None:
    """Nothing in, nothing out."""

    async def main() -> None:
        assert [one async for one in start(chunks, [])] == []
        assert [one async for one in start(chunks, acount(0))] == []

    asyncio.run(main())


def test_mixed_inputs(chunks: FakeChunks) -> None:
    """All are read on this loop, and zipped to the shortest."""
    seen = set()

    def source() -> Iterator[int]:
        for number in range(500):
            seen.add((threading.get_ident(), asyncio.get_running_loop()))
            yield number

    async def main() -> None:
        chunks.func, chunks.star = int.__add__, True
        results = start(chunks, acount(), source())
        assert [one async for one in results] == list(range(0, 1000, 2))
        assert seen == {(threading.get_ident(), asyncio.get_running_loop())}

    asyncio.run(main())


def test_work_starts_at_the_call(hand: FakeChunks) -> None:
    """Sync inputs are read in the call, async ones once the loop runs, though nobody awaits."""

    async def main() -> None:
        first = start(hand, itertools.count(), chunksize=1)
        assert hand.sizes == [1] * 6
        second = start(hand, acount(), chunksize=1)
        for _ in range(3):
            await asyncio.sleep(0)
        assert hand.sizes == [1] * 12
        await first.aclose()
        await second.aclose()

    asyncio.run(main())


def test_single_items(chunks: FakeChunks) -> None:
    """Automatic chunks can be told to hold one item."""

    async def main() -> int:
        return len([one async for one in start(chunks, range(300), single=True)])

    assert asyncio.run(main()) == 300
    assert set(chunks.sizes) == {1}


def test_without_a_loop() -> None:
    """It can be started where no loop runs; async inputs are then read where it is used."""
    with ThreadedChunks(double) as chunks:
        first = start(chunks, range(10))
        second = start(chunks, acount(10))

        async def main() -> None:
            for results in (first, second):
                assert [one async for one in results] == list(range(0, 20, 2))

        asyncio.run(main())


async def outcomes(results: AsyncGenerator[Any, None]) -> list[Any]:
    """Return all results, and for each error what it is about, as text."""
    seen: list[Any] = []
    while True:
        try:
            async for result in results:
                seen.append(result)
            return seen
        except ValueError as error:
            seen.append(str(error))


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("chunksize", [None, 1, 2, 7])
@pytest.mark.parametrize("asynchronous", [True, False])
def test_errors_in_their_places(
    chunks: FakeChunks, chunksize: int | None, ordered: bool, asynchronous: bool
) -> None:
    """The other results come as if there were none."""
    items = [-n if n % 5 == 3 or n > 90 else n for n in range(1, 101)]

    async def source() -> AsyncIterator[int]:
        for item in items:
            yield item

    async def main() -> list[Any]:
        columns = source() if asynchronous else items
        results = start(chunks, columns, chunksize=chunksize, ordered=ordered)
        taken = await outcomes(results)
        with pytest.raises(StopAsyncIteration):
            await anext(results)
        return taken

    taken = asyncio.run(main())
    expected = [str(item) if item < 0 else 2 * item for item in items]
    assert taken == expected if ordered else sorted(map(str, taken)) == sorted(map(str, expected))


@pytest.mark.parametrize("thrown", [(KeyError("thrown"),), (KeyError, KeyError("thrown"), None)])
@pytest.mark.filterwarnings("ignore:the .* signature:DeprecationWarning")
def test_what_is_thrown_in_ends_it(hand: FakeChunks, thrown: Any) -> None:
    """Also after an error."""

    async def main() -> None:
        results = start(hand, [1, -2, 3, 4, 5, 6, 7, 8], chunksize=1)
        hand.step()
        hand.step()
        assert await results.asend(None) == 2
        with pytest.raises(ValueError, match="-2"):
            await results.asend(None)
        with pytest.raises(KeyError, match="thrown"):
            await results.athrow(*thrown)
        assert all(handle.cancelled for handle in hand.queue)
        with pytest.raises(StopAsyncIteration):
            await anext(results)

    asyncio.run(main())


@pytest.mark.parametrize("asynchronous", [True, False])
def test_an_input_that_raises(chunks: FakeChunks, asynchronous: bool) -> None:
    """Its error comes after the results before it."""

    def source() -> Iterator[int]:
        yield from range(20)
        raise KeyError("input")

    async def asource() -> AsyncIterator[int]:
        for number in source():
            yield number

    async def main() -> list[int]:
        taken = []
        with pytest.raises(KeyError, match="input"):
            async for one in start(chunks, asource() if asynchronous else source()):
                taken.append(one)
        return taken

    assert asyncio.run(main()) == list(range(0, 40, 2))


def test_an_interrupt_at_the_call_is_raised_there(hand: FakeChunks) -> None:
    """What was submitted before is withdrawn."""

    def source() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(hand, source())
    assert all(handle.cancelled for handle in hand.queue)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("chunksize", [None, 1, 4])
def test_buffersize(chunks: FakeChunks, ordered: bool, chunksize: int | None) -> None:
    """Never more than so many are read ahead, with a consumer that pauses."""
    seen = [0]

    async def source() -> AsyncIterator[int]:
        for number in itertools.count():
            seen[0] = number + 1
            yield number

    async def main() -> None:
        results = start(chunks, source(), buffersize=10, ordered=ordered, chunksize=chunksize)
        for taken in range(1, 100):
            await anext(results)
            await asyncio.sleep(0.001)
            assert seen[0] <= taken + 10
        await results.aclose()

    asyncio.run(main())


class Pausing:
    """Three items, a pause until told to go on, two more."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.closed_on: Any = None

    async def __aiter__(self) -> AsyncIterator[int]:
        try:
            for number in range(3):
                yield number
            await self.event.wait()
            yield 3
            yield 4
        finally:
            self.closed_on = asyncio.get_running_loop()


@pytest.mark.parametrize("chunksize", [None, 1, 2, 100])
def test_a_pause_holds_nothing_back(chunks: FakeChunks, chunksize: int | None) -> None:
    """All that was read is worked on, and its results come."""

    async def main() -> None:
        source = Pausing()
        results = start(chunks, source, chunksize=chunksize, timeout=30)
        assert [await anext(results) for _ in range(3)] == [0, 2, 4]
        source.event.set()
        assert [one async for one in results] == [6, 8]

    asyncio.run(main())


def test_results_fed_back(chunks: FakeChunks) -> None:
    """An input may wait for results."""

    async def main() -> None:
        answers: asyncio.Queue[int] = asyncio.Queue()

        async def source() -> AsyncIterator[int]:
            yield 1
            for _ in range(5):
                yield await answers.get()

        taken = []
        async for result in start(chunks, source(), timeout=30):
            taken.append(result)
            answers.put_nowait(result)
        assert taken == [2, 4, 8, 16, 32, 64]

    asyncio.run(main())


# -- the end


@pytest.mark.parametrize("used", [True, False])
def test_close(hand: FakeChunks, used: bool) -> None:
    """What was not sent is cancelled, async inputs are closed before aclose returns."""

    async def main() -> None:
        rests: Rests = set()
        source = Pausing()
        first = start(hand, source, chunksize=1)
        second = start(hand, range(100), chunksize=1, rests=rests)
        while len(hand.queue) < 9:
            await asyncio.sleep(0)
        if used:
            hand.run()
            assert await anext(first) == 0
            assert await anext(second) == 0
        await first.aclose()
        await second.aclose()
        assert source.closed_on is asyncio.get_running_loop()
        assert rests == set()
        assert all(handle.cancelled for handle in hand.queue)
        assert [one async for one in second] == []

    asyncio.run(main())


def test_break(hand: FakeChunks) -> None:
    """A generator that is dropped is closed by its loop."""

    async def main() -> None:
        source = Pausing()
        results = start(hand, source, chunksize=1)
        while not hand.queue:
            await asyncio.sleep(0)
        hand.step()
        async for _ in results:
            break
        del results
        gc.collect()
        while source.closed_on is None:
            await asyncio.sleep(0)
        assert all(handle.cancelled for handle in hand.queue)

    asyncio.run(main())


def test_a_loop_that_ends(hand: FakeChunks) -> None:
    """The loop closes what is open when it ends."""
    sources: list[Any] = []

    async def main() -> None:
        sources.append(Pausing())
        results = start(hand, sources[0], chunksize=1)
        while not hand.queue:
            await asyncio.sleep(0)
        sources.append(results)

    asyncio.run(main())
    assert sources[0].closed_on is not None
    assert all(handle.cancelled for handle in hand.queue)


def test_cancelling_the_consumer(hand: FakeChunks) -> None:
    """A consumer that is cancelled while it waits ends the map."""
    if sys.gettrace() is not None:
        pytest.skip("traced coroutines skip handlers of what is thrown (CPython issue 105162)")

    async def main() -> None:
        results = start(hand, itertools.count())
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(results), 0.05)
        assert all(handle.cancelled for handle in hand.queue)

    asyncio.run(main())


def test_dropped_without_a_loop(hand: FakeChunks) -> None:
    """What was started where no loop runs is cancelled by being dropped."""
    start(hand, iter(range(100)))
    gc.collect()
    assert all(handle.cancelled for handle in hand.queue)
    assert len(hand.queue) > 0


def failing(hand: FakeChunks) -> AsyncGenerator[Any, None]:
    """Start a map whose first chunk has failed."""
    results = start(hand, itertools.chain([-1], itertools.count(1)), chunksize=1)
    hand.step()
    return results


@pytest.mark.parametrize("way", ["drop", "aclose", "thread"])
def test_the_end_after_an_error(hand: FakeChunks, way: str) -> None:
    """Whoever leaves cancels what was not sent, though the error is kept."""

    async def main() -> None:
        results = failing(hand)
        with pytest.raises(ValueError, match="-1") as caught:
            await anext(results)
        assert not any(handle.cancelled for handle in hand.queue)
        if way == "aclose":
            async with contextlib.aclosing(results):
                pass
            assert [one async for one in results] == []
        elif way == "thread":
            keep = [results]
            del results
            thread = threading.Thread(target=keep.clear)
            thread.start()
            thread.join()
        else:
            del results
        assert caught.value.__traceback__ is not None
        assert all(handle.cancelled for handle in hand.queue)
        assert len(hand.queue) > 0

    asyncio.run(main())


def test_an_error_of_a_generator_that_nobody_has(hand: FakeChunks) -> None:
    """Nobody could take the rest."""

    async def main() -> None:
        with pytest.raises(ValueError, match="-1"):
            await anext(failing(hand))
        assert all(handle.cancelled for handle in hand.queue)

    asyncio.run(main())


@pytest.mark.parametrize("circle", [True, False])
@pytest.mark.parametrize("closed", [True, False])
def test_dropped_when_its_loop_is_gone(hand: FakeChunks, closed: bool, circle: bool) -> None:
    """What was not sent is cancelled all the same."""

    async def main() -> AsyncGenerator[Any, None]:
        results = start(hand, acount(), chunksize=1)
        while not hand.queue:
            await asyncio.sleep(0)
        hand.step()
        assert await anext(results) == 0
        return results

    loop = asyncio.new_event_loop()
    kept: list[Any] = [loop.run_until_complete(main())]
    pump = kept[0]._source._pumping
    if circle:
        kept.append(kept)
    if closed:
        loop.close()
    assert not any(handle.cancelled for handle in hand.queue)
    del kept
    gc.collect()
    assert len(hand.queue) > 0
    assert all(handle.cancelled for handle in hand.queue)
    if not closed:
        loop.run_until_complete(asyncio.wait([pump]))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def test_nothing_of_a_map_is_a_circle(chunks: FakeChunks) -> None:
    """It is released at once, errors included."""

    async def main() -> None:
        results = start(chunks, [1, -2, 3], chunksize=3)
        source = weakref.ref(results._source)  # type: ignore[attr-defined]
        assert await outcomes(results) == [2, "-2", 6]
        await asyncio.sleep(0)
        del results
        wait_until(lambda: source() is None, what="the thread that delivered last to let go")

    gc.collect()
    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()


# -- time


def test_an_input_that_nobody_else_waits_for_is_closed(chunks: FakeChunks) -> None:
    """The collector finds the generator in a circle, and must not take the pump with it."""
    seen: list[object] = []

    async def pausing() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            seen.append("closed")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: seen.append(context))
        results = start(chunks, pausing())
        assert await anext(results) == 2
        circle: list[object] = [results]
        circle.append(circle)
        del results, circle
        gc.collect()
        while not seen:
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(main(), 30))
    gc.collect()
    assert seen == ["closed"]


class EagerChunks(FakeChunks):
    """An engine that has every result at once."""

    def submit_chunk(self, items: list[Any], done: Callable[[Delivery], None]) -> FakeHandle:
        """Run a chunk."""
        handle = super().submit_chunk(items, done)
        self.step()
        return handle


def test_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where results are always there, nothing makes the consumer wait."""
    monkeypatch.setattr(map_async, "_TURN", 0, raising=False)

    async def main() -> None:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(others())
        async for value in start(EagerChunks(double), itertools.count(), chunksize=10):
            if value == 20_000:
                break
        task.cancel()
        assert turns > 10

    asyncio.run(asyncio.wait_for(main(), 30))


def test_timeout(hand: FakeChunks) -> None:
    """It counts from the call; what is finished still comes."""

    async def main() -> None:
        results = start(hand, range(100), timeout=0.05, chunksize=1)
        time.sleep(0.06)
        hand.step()
        assert await anext(results) == 0
        with pytest.raises(TimeoutError, match=r"0\.05 s"):
            await anext(results)
        assert all(handle.cancelled for handle in hand.queue)

    asyncio.run(main())


def test_timeout_while_an_input_pauses(chunks: FakeChunks, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause does not outlast it."""
    clock = HaltedClock()
    monkeypatch.setattr(map_async, "_now", clock)

    async def main() -> None:
        source = Pausing()
        results = start(chunks, source, timeout=0.1)
        assert [await anext(results) for _ in range(3)] == [0, 2, 4]
        clock.runs = True
        with pytest.raises(TimeoutError):
            await anext(results)
        assert source.closed_on is not None

    asyncio.run(main())


# -- inputs that must be run


def test_the_rest_is_run(chunks: FakeChunks) -> None:
    """A map of known length that nobody used is run whole; its results come later."""

    async def main() -> None:
        rests: Rests = set()
        results = start(chunks, range(300), rests=rests, buffersize=4)
        for rest in list(rests):
            await rest.run_async()
        assert rests == set()
        chunks.closed = True
        assert [one async for one in results] == list(range(0, 600, 2))

    asyncio.run(main())


def test_the_rest_of_a_dropped_map() -> None:
    """The same where nobody keeps the generator."""
    ran: list[int] = []

    async def main(chunks: FakeChunks) -> None:
        rests: Rests = set()
        start(chunks, range(300), rests=rests, buffersize=4)
        gc.collect()
        await asyncio.sleep(0.01)
        assert len(rests) == 1
        for rest in list(rests):
            await rest.run_async()
        assert rests == set()

    with ThreadedChunks(ran.append) as threaded:
        asyncio.run(main(threaded))
        wait_until(lambda: len(ran) == 300)


def test_a_used_map_has_no_rest(chunks: FakeChunks) -> None:
    """Who looks at results wants no more than those."""

    async def main() -> None:
        rests: Rests = set()
        results = start(chunks, range(500), rests=rests, buffersize=4)
        assert len(rests) == 1
        async with contextlib.aclosing(results):
            assert await anext(results) == 0
            assert rests == set()

    asyncio.run(main())


def test_a_reading_that_is_cancelled_before_it_begins(hand: FakeChunks) -> None:
    """Who takes results is told."""

    async def main() -> None:
        results: Any = start(hand, acount())
        results._source._pumping.cancel()
        with pytest.raises(RuntimeError, match="shut down"):
            await anext(results)

    asyncio.run(main())
