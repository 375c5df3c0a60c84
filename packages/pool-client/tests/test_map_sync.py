"""The blocking iterator of a map, over a fake engine."""

import asyncio
import copy
import gc
import itertools
import queue
import signal
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest
from mapping.hand import Clock, HaltedClock
from support import wait_until

from pool_client import map_sync
from pool_client.futures import TaskFuture
from pool_client.map_rest import Rests
from pool_client.map_sync import MapIterator
from pool_client.mapping import Flow, check
from pool_client.testing import FakeChunks, ThreadedChunks
from pool_client.waiting import Bell


def double(number: int) -> int:
    """Return twice the number; negative numbers are an error."""
    if number < 0:
        raise ValueError(number)
    return 2 * number


def start(chunks: FakeChunks, *columns: Any, **options: Any) -> MapIterator:
    """Start a map of `double`."""
    rests = options.pop("rests", None)
    spawn = options.pop("spawn", None)
    single = options.pop("single", False)
    request = check(chunks.func, columns, **options)
    return map_sync.start(chunks, request, rests=rests, spawn=spawn, single=single)


@pytest.fixture
def threads() -> Iterator[ThreadedChunks]:
    """Yield an engine that works by itself."""
    with ThreadedChunks(double) as chunks:
        yield chunks


@pytest.fixture
def hand() -> FakeChunks:
    """Return an engine that is run by hand."""
    return FakeChunks(double)


def counted(read: list[int]) -> Iterator[int]:
    """Count from 0, and note it."""
    for number in itertools.count():
        read.append(number)
        yield number


class LoopThread:
    """A thread with an event loop, as the engine's."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.tasks = 0

    def spawn(
        self, coroutine: Coroutine[Any, Any, None], over: Callable[[], None]
    ) -> Callable[[], object]:
        """Run a coroutine there."""
        self.tasks += 1
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        future.add_done_callback(lambda _: over())
        return future.cancel

    def stop(self) -> None:
        """End it."""
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
        self.loop.close()


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    """Yield a loop in a thread."""
    one = LoopThread()
    one.thread.start()
    yield one
    one.stop()


# -- results


@pytest.mark.parametrize("chunksize", [None, 1, 7, 10_000])
@pytest.mark.parametrize("kind", [range, lambda stop: iter(range(stop))])
def test_in_order(threads: ThreadedChunks, chunksize: int | None, kind: Any) -> None:
    """All results come, in order."""
    results = start(threads, kind(5000), chunksize=chunksize)
    assert iter(results) is results
    assert list(results) == list(range(0, 10_000, 2))
    assert list(results) == []
    if chunksize is not None:
        assert set(threads.sizes[:-1]) <= {chunksize}


@pytest.mark.parametrize("chunksize", [None, 1, 7])
def test_as_completed(threads: ThreadedChunks, chunksize: int | None) -> None:
    """All results come, once."""
    results = start(threads, range(5000), chunksize=chunksize, ordered=False)
    assert sorted(results) == list(range(0, 10_000, 2))


def test_several_inputs(threads: ThreadedChunks) -> None:
    """They are zipped to the shortest."""
    threads.func, threads.star = pow, True
    assert list(start(threads, [2, 3, 4], itertools.count())) == [1, 3, 16]


def test_an_empty_input(hand: FakeChunks) -> None:
    """Nothing in, nothing out."""
    assert list(start(hand, [])) == []
    assert list(start(hand, iter(()))) == []


def test_single_items(threads: ThreadedChunks) -> None:
    """Automatic chunks can be told to hold one item."""
    assert len(list(start(threads, range(500), single=True))) == 500
    assert set(threads.sizes) == {1}


def test_work_starts_at_the_call(hand: FakeChunks) -> None:
    """The first chunks are submitted in the call, in its thread."""
    read: list[int] = []
    results = start(hand, counted(read))
    assert hand.sizes == [1] * 6
    assert read == list(range(6))
    assert hand.submitters == {threading.get_ident()}
    results.close()


def outcomes(results: Iterator[Any]) -> list[Any]:
    """Return all results, and for each error what it is about, as text."""
    seen: list[Any] = []
    while True:
        try:
            seen.append(next(results))
        except StopIteration:
            return seen
        except ValueError as error:
            seen.append(str(error))


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("chunksize", [None, 1, 2, 7])
def test_errors_in_their_places(
    threads: ThreadedChunks, chunksize: int | None, ordered: bool
) -> None:
    """The other results come as if there were none."""
    items = [-n if n % 5 == 3 or n > 90 else n for n in range(1, 101)]
    results = start(threads, items, chunksize=chunksize, ordered=ordered)
    expected = [str(item) if item < 0 else 2 * item for item in items]
    taken = outcomes(results)
    assert taken == expected if ordered else sorted(map(str, taken)) == sorted(map(str, expected))
    assert list(results) == []


def test_an_item_that_raises_stop_iteration(threads: ThreadedChunks) -> None:
    """It does not end the map."""

    def func(number: int) -> int:
        if number == 3:
            raise StopIteration
        return number

    threads.func = func
    results = start(threads, range(6), chunksize=6)
    assert list(itertools.islice(results, 3)) == [0, 1, 2]
    with pytest.raises(RuntimeError, match="StopIteration"):
        next(results)
    assert list(results) == [4, 5]


def test_an_error_that_leaves_the_loop_cancels_the_rest(hand: FakeChunks) -> None:
    """What was not sent when the iterator is gone never is, though the error is kept."""
    results = start(hand, [-1, 2, 3, 4, 5, 6, 7, 8])
    hand.step()
    with pytest.raises(ValueError, match="-1") as caught:
        next(results)
    assert not any(handle.cancelled for handle in hand.queue)
    del results
    assert caught.value.__traceback__ is not None
    assert len(hand.queue) > 0
    assert all(handle.cancelled for handle in hand.queue)


def test_close_among_errors(hand: FakeChunks) -> None:
    """There is no more, not even of what is at hand."""
    results = start(hand, [-1, 2, -3, 4], chunksize=4)
    hand.run()
    with pytest.raises(ValueError, match="-1"):
        next(results)
    results.close()
    assert list(results) == []


def test_an_input_that_raises(threads: ThreadedChunks) -> None:
    """Its error comes after the results before it."""

    def source() -> Iterator[int]:
        yield from range(100)
        raise KeyError("input")

    results = start(threads, source())
    assert list(itertools.islice(results, 100)) == list(range(0, 200, 2))
    with pytest.raises(KeyError, match="input"):
        next(results)


def test_an_engine_that_stops_taking(hand: FakeChunks) -> None:
    """Its error comes after the results of what it took."""
    results = start(hand, itertools.count(), chunksize=1)
    hand.run()
    hand.closed = True
    assert [next(results) for _ in range(6)] == [0, 2, 4, 6, 8, 10]
    with pytest.raises(RuntimeError, match="shut down"):
        next(results)


def test_an_interrupt_at_the_call_is_raised_there(hand: FakeChunks) -> None:
    """An input that is interrupted interrupts the call, and what it gave is withdrawn."""

    def source() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(hand, source())
    assert all(handle.cancelled for handle in hand.queue)


# -- bounds


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("chunksize", [None, 1, 4, 100])
def test_buffersize(threads: ThreadedChunks, ordered: bool, chunksize: int | None) -> None:
    """Never more than so many are read ahead of the results that were taken."""
    read = itertools.count()
    seen = [0]

    def source() -> Iterator[int]:
        for number in read:
            seen[0] = number + 1
            yield number

    results = start(threads, source(), buffersize=10, ordered=ordered, chunksize=chunksize)
    assert seen[0] <= 10
    for taken in range(1, 200):
        next(results)
        assert seen[0] <= taken + 10
    results.close()


def test_a_slow_first_item_stops_the_reading(hand: FakeChunks) -> None:
    """Finished results that wait behind it count as read ahead."""
    seen: list[int] = []
    results = start(hand, counted(seen), buffersize=8)
    thread = threading.Thread(target=next, args=(results,))
    thread.start()
    wait_until(lambda: results._source._flow.wake_taker)
    while len(hand.queue) > 1:
        hand.step(1)
        wait_until(lambda: results._source._flow.wake_taker)
    assert len(seen) <= 8
    hand.step()
    thread.join()
    results.close()


def test_the_consumer_keeps_workers_busy_while_it_waits(hand: FakeChunks) -> None:
    """While the first item runs, more is read as others finish."""
    results = start(hand, itertools.count(), chunksize=1)
    thread = threading.Thread(target=next, args=(results,))
    thread.start()
    wait_until(lambda: results._source._flow.wake_taker)
    for _ in range(3):
        hand.step(1)
    wait_until(lambda: len(hand.sizes) > 6)
    hand.step()
    thread.join()
    results.close()


# -- the end


def test_close(hand: FakeChunks) -> None:
    """What was not sent is cancelled, and there are no more results, not even those at hand."""
    results = start(hand, itertools.count(), chunksize=1)
    hand.step()
    hand.step()
    assert next(results) == 0
    results.close()
    results.close()
    assert list(results) == []
    assert all(handle.cancelled for handle in hand.queue)


def test_close_before_the_first_result(hand: FakeChunks) -> None:
    """The same, though the length of the input is known."""
    rests: Rests = set()
    results = start(hand, range(100), rests=rests)
    assert len(rests) == 1
    results.close()
    assert rests == set()
    assert all(handle.cancelled for handle in hand.queue)


def test_close_by_another_thread(hand: FakeChunks) -> None:
    """A consumer that waits is woken, and finds the end."""
    results = start(hand, itertools.count())

    def close() -> None:
        wait_until(lambda: results._source._flow.wake_taker)
        results.close()

    thread = threading.Thread(target=close)
    thread.start()
    assert list(results) == []
    thread.join()


def test_break(hand: FakeChunks) -> None:
    """Dropping the iterator cancels what was not sent."""
    hand.func = abs
    results = start(hand, (n for n in itertools.count()), chunksize=1)
    hand.step()
    for _ in results:
        break
    del results
    gc.collect()
    assert all(handle.cancelled for handle in hand.queue)


def test_inputs_are_released(hand: FakeChunks) -> None:
    """A closed map keeps nothing of its input."""

    class Input:
        def __iter__(self) -> "Input":
            return self

        def __next__(self) -> int:
            return 1

    source = Input()
    reference = weakref.ref(source)
    results = start(hand, source)
    del source
    results.close()
    gc.collect()
    assert reference() is None


def test_results_are_released(threads: ThreadedChunks) -> None:
    """Results that were taken are not kept, and nothing of a map is a circle."""
    results = start(threads, range(3))
    source = weakref.ref(results._source._taker)
    assert list(results) == [0, 2, 4]
    gc.collect()
    gc.disable()
    try:
        del results
        wait_until(lambda: source() is None, what="the thread that delivered last to let go")
    finally:
        gc.enable()


def test_it_is_no_ordinary_object(hand: FakeChunks) -> None:
    """It cannot be copied or pickled; its repr says how far it is."""
    results = start(hand, range(3))
    with pytest.raises(TypeError, match="cannot be copied"):
        copy.copy(results)
    assert repr(results).startswith("<MapIterator <Flow ended: 3 read, 0 taken, 3 chunks out")
    results.close()


# -- time


def test_timeout(hand: FakeChunks) -> None:
    """It counts from the call; what is finished still comes; the rest is cancelled."""
    results = start(hand, range(100), timeout=0.05, chunksize=1)
    hand.step()
    time.sleep(0.06)
    hand.step()
    assert [next(results), next(results)] == [0, 2]
    with pytest.raises(TimeoutError, match=r"0\.05 s"):
        next(results)
    with pytest.raises(StopIteration):
        next(results)
    assert all(handle.cancelled for handle in hand.queue)


def test_timeout_while_waiting(hand: FakeChunks) -> None:
    """A consumer that waits is told."""
    with pytest.raises(TimeoutError):
        list(start(hand, range(100), timeout=0.05))


def test_an_unbounded_input_ends_with_the_timeout(threads: ThreadedChunks) -> None:
    """Though there is always something to deliver."""
    with pytest.raises(TimeoutError):
        for _ in start(threads, itertools.count(), timeout=0.2):
            pass


def test_timeout_zero_still_works_for_what_is_finished(hand: FakeChunks) -> None:
    """As in concurrent.futures."""
    results = start(hand, [1], timeout=0)
    hand.run()
    assert list(results) == [2]


def test_interrupt(hand: FakeChunks) -> None:
    """Ctrl-C ends the waiting, and cancels what was not sent."""
    results = start(hand, itertools.count())
    main = threading.get_ident()

    def interrupt() -> None:
        wait_until(lambda: results._source._flow.wake_taker)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    with pytest.raises(KeyboardInterrupt):
        thread.start()
        next(results)
    thread.join()
    assert all(handle.cancelled for handle in hand.queue)


# -- threads


def test_another_thread_may_go_on(threads: ThreadedChunks) -> None:
    """The iterator belongs to no thread."""
    results = start(threads, range(1000))
    taken = list(itertools.islice(results, 300))
    thread = threading.Thread(target=lambda: taken.extend(results))
    thread.start()
    thread.join()
    assert taken == list(range(0, 2000, 2))


@pytest.mark.parametrize("chunksize", [None, 1, 5])
def test_several_threads_at_a_time(threads: ThreadedChunks, chunksize: int | None) -> None:
    """Each result goes to one of them."""
    results = start(threads, range(20_000), chunksize=chunksize)
    taken: list[list[int]] = [[] for _ in range(4)]
    consumers = [threading.Thread(target=one.extend, args=(results,)) for one in taken]
    for consumer in consumers:
        consumer.start()
    for consumer in consumers:
        consumer.join()
    assert sorted(itertools.chain(*taken)) == list(range(0, 40_000, 2))


def test_several_threads_among_errors(threads: ThreadedChunks) -> None:
    """Each result and each error goes to one of them."""
    items = [-n if n % 7 == 3 else n for n in range(1, 5001)]
    results = start(threads, items, chunksize=5)
    taken: list[Any] = []
    consumers = [threading.Thread(target=lambda: taken.extend(outcomes(results))) for _ in range(4)]
    for consumer in consumers:
        consumer.start()
    for consumer in consumers:
        consumer.join()
    expected = [str(item if item < 0 else 2 * item) for item in items]
    assert sorted(map(str, taken)) == sorted(expected)


# -- async inputs


async def acount(stop: int | None = None, pause: int = 10) -> AsyncIterator[int]:
    """Count from 0."""
    for number in itertools.count() if stop is None else range(stop):
        if number % pause == pause - 1:
            await asyncio.sleep(0)
        yield number


def test_an_async_input(threads: ThreadedChunks, loop: LoopThread) -> None:
    """It is read on the loop; work begins though nobody takes a result."""
    results = start(threads, acount(1000), spawn=loop.spawn)
    wait_until(lambda: threads.submitters)
    assert list(results) == list(range(0, 2000, 2))
    assert threads.submitters == {loop.thread.ident}


@pytest.mark.parametrize("chunksize", [None, 1, 3])
def test_mixed_inputs(threads: ThreadedChunks, loop: LoopThread, chunksize: int | None) -> None:
    """Sync inputs are read in this thread, async ones on the loop."""
    seen = set()

    def source() -> Iterator[int]:
        for number in range(1000):
            seen.add(threading.get_ident())
            yield number

    threads.func, threads.star = int.__add__, True
    results = start(threads, acount(), source(), spawn=loop.spawn, chunksize=chunksize)
    assert list(results) == list(range(0, 2000, 2))
    assert seen == {threading.get_ident()}


def test_mixed_inputs_begin_by_themselves(threads: ThreadedChunks, loop: LoopThread) -> None:
    """The first rows are read at the call."""
    threads.func, threads.star = int.__add__, True
    results = start(threads, itertools.count(), acount(), spawn=loop.spawn)
    wait_until(lambda: threads.submitters)
    assert next(results) == 0
    results.close()


class Pausing:
    """Three items, a pause until told to go on, two more; closes on its loop."""

    def __init__(self) -> None:
        self.go_on = False
        self.closed_on: Any = None
        self.started = False

    async def __aiter__(self) -> AsyncIterator[int]:
        self.started = True
        try:
            for number in range(3):
                yield number
            while not self.go_on:
                await asyncio.sleep(0.005)
            yield 3
            yield 4
        finally:
            self.closed_on = asyncio.get_running_loop()


def test_the_consumer_waits_while_an_async_input_pauses(
    hand: FakeChunks, loop: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of mixed inputs: chunks that finish behind a slow first one give it nothing to do."""
    told: queue.Queue[bool] = queue.Queue()
    expect = Flow.expect

    def noted(flow: Flow, *args: Any, **kwargs: Any) -> bool:
        waits = expect(flow, *args, **kwargs)
        told.put(waits)
        return waits

    monkeypatch.setattr(Flow, "expect", noted)
    hand.func, hand.star = int.__add__, True
    results = start(hand, itertools.count(), Pausing(), spawn=loop.spawn, chunksize=1)
    wait_until(lambda: len(hand.queue) == 3)
    hand.step(1)
    hand.step(1)
    taken: list[int] = []
    consumer = threading.Thread(target=lambda: taken.extend(itertools.islice(results, 3)))
    consumer.start()
    try:
        assert told.get(timeout=30)
        hand.step()
    finally:
        if not taken:
            hand.run()
        consumer.join()
        results.close()
    assert taken == [0, 2, 4]


@pytest.mark.parametrize("chunksize", [None, 1, 2, 100])
def test_a_pause_holds_nothing_back(
    threads: ThreadedChunks, loop: LoopThread, chunksize: int | None
) -> None:
    """All that was read is worked on, and its results come."""
    source = Pausing()
    results = start(threads, source, spawn=loop.spawn, chunksize=chunksize, timeout=30)
    assert [next(results) for _ in range(3)] == [0, 2, 4]
    source.go_on = True
    assert list(results) == [6, 8]


def test_closing_closes_async_inputs(threads: ThreadedChunks, loop: LoopThread) -> None:
    """On their loop, before close returns."""
    source = Pausing()
    results = start(threads, source, spawn=loop.spawn)
    assert next(results) == 0
    results.close()
    assert source.closed_on is loop.loop
    results.close()


def test_two_threads_close_at_once(
    threads: ThreadedChunks, loop: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither waits longer than for the inputs to be closed."""

    class CountingBell(Bell):
        def wait(self, seconds: float | None = None) -> None:
            waiting.append(seconds)
            super().wait(seconds)

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.sleep(600)
        finally:
            while len(waiting) < 2:
                await asyncio.sleep(0.005)

    monkeypatch.setattr(map_sync, "_CLOSING", 50.0)
    monkeypatch.setattr(map_sync, "Bell", CountingBell)
    waiting: list[float | None] = []
    results = start(threads, source(), spawn=loop.spawn)
    assert next(results) == 2
    waiting.clear()
    closers = [threading.Thread(target=results.close) for _ in range(2)]
    for closer in closers:
        closer.start()
    for closer in closers:
        wait_until(lambda closer=closer: not closer.is_alive(), timeout=40)  # type: ignore[misc]


def test_dropping_closes_async_inputs(threads: ThreadedChunks, loop: LoopThread) -> None:
    """The same, soon."""
    source = Pausing()
    results = start(threads, source, spawn=loop.spawn)
    wait_until(lambda: source.started)
    del results
    gc.collect()
    wait_until(lambda: source.closed_on)


def test_timeout_closes_async_inputs(
    threads: ThreadedChunks, loop: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pause does not outlast the timeout."""
    clock = HaltedClock()
    monkeypatch.setattr(map_sync, "_now", clock)
    source = Pausing()
    results = start(threads, source, spawn=loop.spawn, timeout=0.1)
    assert [next(results) for _ in range(3)] == [0, 2, 4]
    clock.runs = True
    with pytest.raises(TimeoutError):
        next(results)
    wait_until(lambda: source.closed_on)


def test_an_unbounded_async_input_ends_with_the_timeout(
    threads: ThreadedChunks, loop: LoopThread
) -> None:
    """Though there is always something to deliver."""
    with pytest.raises(TimeoutError):
        for _ in start(threads, acount(), timeout=0.2, spawn=loop.spawn):
            pass


def test_closing_on_the_loop_does_not_wait_for_it(
    threads: ThreadedChunks, loop: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could not go on meanwhile."""
    monkeypatch.setattr(map_sync, "_CLOSING", 50.0)
    source = Pausing()
    results = start(threads, source, spawn=loop.spawn)
    assert next(results) == 0
    loop.loop.call_soon_threadsafe(results.close)
    wait_until(lambda: source.closed_on, timeout=40)


def test_an_async_input_is_bounded(hand: FakeChunks, loop: LoopThread) -> None:
    """It is read no further than the buffer."""
    seen = []

    async def source() -> AsyncIterator[int]:
        for number in itertools.count():
            seen.append(number)
            yield number

    results = start(hand, source(), spawn=loop.spawn, buffersize=5, chunksize=1)
    wait_until(lambda: len(hand.queue) == 5)
    hand.run()
    assert next(results) == 0
    assert next(results) == 2
    wait_until(lambda: hand.queue)
    time.sleep(0.02)
    assert len(seen) <= 7
    results.close()


def test_a_loop_that_ends_ends_the_map(threads: ThreadedChunks) -> None:
    """If the engine cancels the reading, the consumer is told."""
    loop = LoopThread()
    loop.thread.start()
    tasks = []
    try:

        def spawn(
            coroutine: Coroutine[Any, Any, None], over: Callable[[], None]
        ) -> Callable[[], object]:
            future = asyncio.run_coroutine_threadsafe(coroutine, loop.loop)
            tasks.append(future)
            return future.cancel

        results = start(threads, Pausing(), spawn=spawn)
        assert next(results) == 0
        tasks[0].cancel()
        with pytest.raises(RuntimeError, match="shut down"):
            list(results)
    finally:
        loop.stop()


def test_a_loop_that_ends_before_the_reading_begins(hand: FakeChunks, loop: LoopThread) -> None:
    """The consumer is told as well."""

    def spawn(
        coroutine: Coroutine[Any, Any, None], over: Callable[[], None]
    ) -> Callable[[], object]:
        def begin() -> None:
            task = loop.loop.create_task(coroutine)
            task.add_done_callback(lambda _: over())
            task.cancel()

        return loop.loop.call_soon_threadsafe(begin).cancel

    source = Pausing()
    with pytest.raises(RuntimeError, match="shut down"):
        list(start(hand, source, spawn=spawn))
    assert not source.started


def test_a_loop_that_never_ran(hand: FakeChunks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing does not wait for a reading that has not begun."""
    monkeypatch.setattr(map_sync, "_CLOSING", 50.0)
    loop = LoopThread()
    results = start(hand, acount(), spawn=loop.spawn)
    begin = time.monotonic()
    results.close()
    assert time.monotonic() - begin < 40
    loop.loop.run_until_complete(asyncio.sleep(0))
    loop.stop()


def test_an_interrupt_when_the_reading_was_handed_over(hand: FakeChunks, loop: LoopThread) -> None:
    """The loop finds that it has nothing to read."""
    futures = []

    def spawn(coroutine: Coroutine[Any, Any, None], over: Callable[[], None]) -> Any:
        futures.append(asyncio.run_coroutine_threadsafe(coroutine, loop.loop))
        raise KeyboardInterrupt

    source = Pausing()
    held = threading.Event()
    loop.loop.call_soon_threadsafe(held.wait)
    with pytest.raises(KeyboardInterrupt):
        start(hand, source, spawn=spawn)
    held.set()
    futures[0].result(30)
    assert not source.started


def test_a_consumer_that_waits_holds_no_future(hand: FakeChunks) -> None:
    """What a Ctrl-C left locked would keep the engine from giving it anything."""
    results = start(hand, [1])

    def work() -> None:
        wait_until(lambda: results._source._flow.wake_taker)
        hand.run()

    thread = threading.Thread(target=work)
    thread.start()
    TaskFuture.lock.acquire()
    assert next(results) == 2
    thread.join()
    with pytest.raises(RuntimeError):
        TaskFuture.lock.release()


def test_async_inputs_need_a_loop(hand: FakeChunks) -> None:
    """Without one, and with one that refuses, the call fails."""
    with pytest.raises(RuntimeError, match="event loop"):
        start(hand, acount())

    def refuse(coroutine: Any, over: Any) -> Callable[[], object]:
        raise RuntimeError("closed")

    with pytest.raises(RuntimeError, match="closed"):
        start(hand, acount(), spawn=refuse)


# -- inputs that must be run


def test_a_short_input_is_run_though_nobody_looks(hand: FakeChunks) -> None:
    """An input of known length is not cancelled with its iterator if that was never used."""
    start(hand, range(4))
    gc.collect()
    assert [handle.cancelled for handle in hand.queue] == [False] * 4
    hand.run()


def test_the_rest_of_a_dropped_map(threads: ThreadedChunks) -> None:
    """The rest is run at shutdown; its results are dropped."""
    ran: list[int] = []
    threads.func = ran.append
    rests: Rests = set()
    start(threads, range(500), rests=rests, buffersize=4)
    gc.collect()
    assert len(rests) == 1
    for rest in list(rests):
        rest.run()
        assert not rest._flow.parts
    assert rests == set()
    wait_until(lambda: len(ran) == 500)
    assert sorted(ran) == list(range(500))


def test_results_after_the_rest_was_run(threads: ThreadedChunks) -> None:
    """An iterator that is still there gets all of its results later."""
    rests: Rests = set()
    results = start(threads, range(500), rests=rests, buffersize=4)
    for rest in list(rests):
        rest.run()
    threads.closed = True
    assert list(results) == list(range(0, 1000, 2))


def test_dropped_after_the_rest_was_run(threads: ThreadedChunks) -> None:
    """The results go, the work stays."""
    ran: list[int] = []
    threads.func = ran.append
    rests: Rests = set()
    results = start(threads, range(300), rests=rests)
    for rest in list(rests):
        rest.run()
    del results
    gc.collect()
    wait_until(lambda: len(ran) == 300)


def test_an_advanced_map_is_not_run_whole(threads: ThreadedChunks) -> None:
    """Who looks at results wants no more than those."""
    rests: Rests = set()
    results = start(threads, range(500), rests=rests)
    assert next(results) == 0
    assert rests == set()
    results.close()


def test_inputs_of_unknown_length_are_not_run_whole(hand: FakeChunks) -> None:
    """They might have no end."""
    rests: Rests = set()
    start(hand, iter(range(500)), rests=rests)
    gc.collect()
    assert rests == set()
    assert all(handle.cancelled for handle in hand.queue)


def test_the_rest_of_a_map_whose_time_is_over(
    threads: ThreadedChunks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is run all the same; who looks later gets what there is."""
    clock = Clock()
    monkeypatch.setattr(map_sync, "_now", clock)
    rests: Rests = set()
    results = start(threads, range(500), rests=rests, timeout=1)
    clock.now = 2 * 10**9
    for rest in list(rests):
        rest.run()
    assert rests == set()
    assert results._source._flow.read == 500
    wait_until(lambda: len(results._source._flow.arrived) == results._source._flow.unfinished)
    assert list(results) == list(range(0, 1000, 2))
