"""What is left of maps that nobody looked at."""

import asyncio
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mapping.hand import Clock, calls
from support import wait_until

from pool_client.map_rest import Rest, Rests
from pool_client.mapping import Delivery, Feed, Flow, Policy
from pool_client.mapping.chunking import READING
from pool_client.testing import FakeChunks, FakeHandle, ThreadedChunks


def make(chunks: FakeChunks, count: int | None) -> tuple[Rest, Rests, Flow]:
    """Return the rest of a map over so many numbers."""
    flow = Flow(chunks, Policy(1))
    rests: Rests = set()
    rows = iter(itertools.count() if count is None else range(count))
    rest = Rest(flow, Feed(flow, rows, lambda: 0), rests)
    assert rests == {rest}
    return rest, rests, flow


def test_run() -> None:
    """Everything is submitted, however much that is, and however few results were taken."""
    with ThreadedChunks(abs) as chunks:
        rest, rests, flow = make(chunks, 10_000)
        rest.run()
        assert rests == set()
        assert flow.ended
        assert flow.read == 10_000
        rest.run()


def test_run_async() -> None:
    """The same on a loop, which goes on meanwhile."""
    with ThreadedChunks(abs) as chunks:
        rest, rests, flow = make(chunks, 10_000)
        asyncio.run(rest.run_async())
        assert rests == set()
        assert flow.read == 10_000
        asyncio.run(rest.run_async())


def test_forget() -> None:
    """A map that was looked at, or closed, has no rest."""
    chunks = FakeChunks(abs)
    rest, rests, flow = make(chunks, 10)
    assert rest.forget()
    assert rest.forget()
    assert rests == set()
    rest.run()
    rest.advance()
    assert flow.read == 0


def test_a_closed_map_ends_the_run() -> None:
    """Closing wakes whoever runs the rest."""
    chunks = FakeChunks(abs)
    rest, rests, flow = make(chunks, None)
    thread = threading.Thread(target=rest.run)
    thread.start()
    wait_until(lambda: flow.wake_taker)
    assert not rest.forget()
    flow.close()
    thread.join()
    assert rests == set()


def test_advancing_waits_for_the_run() -> None:
    """In a thread."""
    chunks = FakeChunks(abs)
    rest, _, flow = make(chunks, 20)
    runner = threading.Thread(target=rest.run)
    runner.start()
    wait_until(lambda: flow.wake_taker)
    other = threading.Thread(target=rest.advance)
    other.start()
    while runner.is_alive():
        chunks.run()
    other.join()
    assert flow.read == 20


def test_advancing_on_a_loop_waits_for_the_run() -> None:
    """And on a loop, as does another run."""
    chunks = FakeChunks(abs)
    rest, _, flow = make(chunks, 20)

    async def main() -> None:
        run = asyncio.create_task(rest.run_async())
        await asyncio.sleep(0)
        advance = asyncio.create_task(rest.advance_async())
        again = asyncio.create_task(rest.run_async())
        await asyncio.sleep(0)
        assert not advance.done()
        while not run.done():
            chunks.run()
            await asyncio.sleep(0)
        await asyncio.wait_for(asyncio.gather(advance, again), 30)

    asyncio.run(main())
    assert flow.read == 20


def test_it_has_no_time_limit() -> None:
    """That of the map is for those who take results, and nobody does."""
    with ThreadedChunks(abs) as chunks:
        flow = Flow(chunks, Policy(1))
        rest = Rest(flow, Feed(flow, iter(range(100)), Clock(1), deadline=0), set())
        thread = threading.Thread(target=rest.run)
        thread.start()
        try:
            wait_until(lambda: flow.ended)
        finally:
            flow.close()
            thread.join()
        assert flow.read == 100


class FirstDone(FakeChunks):
    """An engine that does the first chunk at once, and the others when told."""

    def submit_chunk(self, items: list[Any], done: Callable[[Delivery], None]) -> FakeHandle:
        """Queue a chunk."""
        handle = super().submit_chunk(items, done)
        if len(self.sizes) == 1:
            self.step()
        return handle


def test_a_slow_input_keeps_the_workers_busy() -> None:
    """Results that nobody takes are no reason to stop reading as long as there is room."""
    chunks = FirstDone(abs)
    flow = Flow(chunks, Policy(1))
    rest = Rest(flow, Feed(flow, iter(range(5)), Clock(READING + 1)), set())
    thread = threading.Thread(target=rest.run)
    thread.start()
    try:
        wait_until(lambda: len(chunks.sizes) == 5)
    finally:
        flow.close()
        thread.join()


def test_a_slow_input_leaves_time_for_the_loop() -> None:
    """Others run between its items, though there is room for all of them."""

    async def main() -> None:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        def source() -> Iterator[int]:
            for number in range(5):
                seen.append(turns)
                yield number

        seen: list[int] = []
        flow = Flow(FakeChunks(abs), Policy(1))
        rest = Rest(flow, Feed(flow, source(), Clock(READING + 1)), set())
        task = asyncio.create_task(others())
        await rest.run_async()
        task.cancel()
        assert sorted(set(seen)) == seen

    asyncio.run(main())


class Emptied(deque[Any]):
    """Somebody else takes what is in it, at the last moment."""

    def pop(self) -> Any:  # type: ignore[override]
        """Remove what is not there any more."""
        self.clear()
        return super().pop()


def test_advancing_holds_up_nobody() -> None:
    """Who finds it held by one that only waited is woken when that lets go."""

    class Held:
        def acquire(self, blocking: bool) -> bool:
            return False

        def __enter__(self) -> None:
            rest._over = True  # the run has ended
            rest._waiting.append(wake)

        def __exit__(self, *_: object) -> None:
            pass

    rest, _, _ = make(FakeChunks(abs), 10)
    rest._lock = Held()  # type: ignore[assignment]
    seen, wake = calls()
    rest.advance()
    assert seen == [1]


class Interrupting:
    """A lock during whose acquisition Ctrl-C is pressed."""

    def __init__(self) -> None:
        self.locked = False

    def acquire(self, blocking: bool) -> bool:
        """Acquire it, though nobody is told."""
        if self.locked:
            return False
        self.locked = True
        raise KeyboardInterrupt


def test_an_interrupt_while_it_is_forgotten() -> None:
    """The map is closed then, and shutdown does not wait for what nobody reads."""
    rest, rests, flow = make(FakeChunks(abs), 10)
    rest._lock = Interrupting()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        rest.forget()
    assert not rest.forget()
    flow.close()
    assert rest.forget()
    assert rests == set()


def test_two_let_go_at_once() -> None:
    """Each of those that wait is woken by one of them."""
    rest, rests, _ = make(FakeChunks(abs), 10)
    rest._waiting = Emptied([lambda: None])
    assert rest.forget()
    assert rests == set()
