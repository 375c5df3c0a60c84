"""Async inputs, driven by hand: what is submitted when they pause, end, fail and are closed."""

import itertools
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from typing import Any

import pytest

from mapping.hand import calls, make_flow
from pool_client.mapping.chunking import DEPTH
from pool_client.mapping.flow import Flow, Wake
from pool_client.mapping.pump import Pump, drive
from pool_client.mapping.stash import Stash


@types.coroutine
def suspend(name: str) -> Generator[str, Any, Any]:
    """Suspend whatever awaits this."""
    return (yield name)


async def wait(expect: Callable[[Wake], bool]) -> None:
    """Suspend if there is something to wait for; the test resumes it."""
    if expect(lambda: None):
        await suspend("wait")


def wait_once() -> Callable[[Callable[[Wake], bool]], Coroutine[Any, Any, None]]:
    """Return a `wait` that may find nothing to wait for only once: who asks again would spin."""
    found = itertools.count(1)

    async def impatient(expect: Callable[[Wake], bool]) -> None:
        if expect(lambda: None):
            await suspend("wait")
        elif next(found) > 1:
            pytest.fail("the pump does not stop asking")

    return impatient


class Source:
    """An async input that can be looked at. It pauses before the items named in ``pauses``."""

    def __init__(self, items: Any, pauses: tuple[int, ...] = ()) -> None:
        self.items = items
        self.pauses = pauses
        self.given = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            for item in self.items:
                if item in self.pauses:
                    await suspend("input")
                self.given += 1
                yield item
        finally:
            self.closed = True


class Bare:
    """An async iterator without ``aclose``."""

    def __init__(self, count: int) -> None:
        self.left = count

    def __aiter__(self) -> "Bare":
        return self

    async def __anext__(self) -> int:
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return self.left


def start(flow: Flow, *columns: Any, **kwargs: Any) -> tuple[Pump, Any]:
    """Return a pump and its coroutine, which has not begun."""
    pump = Pump(flow, columns, wait, **kwargs)
    return pump, pump.run()


def ended(coroutine: Any) -> bool:
    """Resume a coroutine; whether it ended."""
    try:
        coroutine.send(None)
    except StopIteration:
        return True
    return False


# -- drive


def test_drive_without_a_pause() -> None:
    pauses, pause = calls()

    async def work() -> None:
        pass

    assert ended(drive(work(), pause))
    assert pauses == []


def test_drive_passes_everything_through() -> None:
    pauses, pause = calls()
    seen: list[Any] = []

    async def work() -> None:
        seen.append(await suspend("first"))
        try:
            await suspend("second")
        except KeyError as error:
            seen.append(error)
        try:
            await suspend("third")
        finally:
            seen.append("closed")

    driven: Any = drive(work(), pause)
    assert driven.send(None) == "first"
    assert pauses == [1]
    assert driven.send("value") == "second"
    error = KeyError("thrown")
    assert driven.throw(error) == "third"
    assert pauses == [1, 1, 1]
    driven.close()
    assert seen == ["value", error, "closed"]


def test_drive_passes_errors_out() -> None:
    async def work() -> None:
        await suspend("once")

    driven: Any = drive(work(), lambda: None)
    driven.send(None)
    with pytest.raises(KeyError):
        driven.throw(KeyError())


# -- one input


def test_chunks_are_filled() -> None:
    flow, chunks = make_flow(3)
    source = Source(range(7))
    pump, coroutine = start(flow, source)
    assert not pump.started
    assert ended(coroutine)
    assert pump.started
    assert pump.stopped
    assert chunks.sizes == [3, 3, 1]
    assert flow.ended
    assert flow.error is None
    assert source.closed


def test_a_pause_submits_what_was_read() -> None:
    flow, chunks = make_flow(10)
    source = Source(range(7), pauses=(3, 5))
    _, coroutine = start(flow, source)
    assert coroutine.send(None) == "input"
    assert chunks.sizes == [3]
    assert coroutine.send(None) == "input"
    assert chunks.sizes == [3, 2]
    assert ended(coroutine)
    assert chunks.sizes == [3, 2, 2]


def test_a_pause_with_nothing_read() -> None:
    flow, chunks = make_flow(10)
    _, coroutine = start(flow, Source(range(2), pauses=(0,)))
    coroutine.send(None)
    assert chunks.sizes == []
    assert ended(coroutine)
    assert chunks.sizes == [2]


def test_it_waits_for_room() -> None:
    flow, chunks = make_flow(1, 2)
    source = Source(itertools.count())
    _, coroutine = start(flow, source)
    assert coroutine.send(None) == "wait"
    assert source.given == 2
    chunks.run()
    assert coroutine.send(None) == "wait"
    assert source.given == 2
    flow.take()
    flow.count_taken(1)
    assert coroutine.send(None) == "wait"
    assert source.given == 3
    coroutine.close()


def test_pauses_do_not_let_it_read_too_far() -> None:
    flow, chunks = make_flow(5, 5)
    source = Source(itertools.count(), pauses=(1, 2, 3))
    _, coroutine = start(flow, source)
    for _ in range(3):
        assert coroutine.send(None) == "input"
    assert coroutine.send(None) == "wait"
    assert source.given == 5
    assert chunks.sizes == [1, 1, 1, 2]
    coroutine.close()


def test_an_input_that_fails() -> None:
    error = KeyError("input")

    async def source() -> AsyncIterator[int]:
        yield 1
        yield 2
        raise error

    flow, chunks = make_flow(10)
    _, coroutine = start(flow, source())
    assert ended(coroutine)
    assert chunks.sizes == [2]
    assert flow.error is error


def test_an_input_that_exits() -> None:
    """The loop, which may be the engine's, does not see it; who takes the results does."""

    async def source() -> AsyncIterator[int]:
        yield 1
        raise SystemExit(3)

    flow, chunks = make_flow(10)
    _, coroutine = start(flow, source())
    assert ended(coroutine)
    assert chunks.sizes == [1]
    assert isinstance(flow.error, SystemExit)


def test_an_input_that_is_none() -> None:
    class Broken:
        def __aiter__(self) -> int:
            return 3

    flow, _ = make_flow()
    _, coroutine = start(flow, Broken())
    assert ended(coroutine)
    assert isinstance(flow.error, TypeError)


def test_a_closed_map_is_not_read() -> None:
    flow, _ = make_flow(1, 1)
    source = Source(itertools.count())
    _, coroutine = start(flow, source)
    assert coroutine.send(None) == "wait"
    flow.close()
    assert ended(coroutine)
    assert source.given == 1
    assert source.closed


def test_an_engine_that_refuses() -> None:
    flow, chunks = make_flow(2)
    chunks.closed = True
    source = Source(itertools.count())
    _, coroutine = start(flow, source)
    assert ended(coroutine)
    assert isinstance(flow.error, RuntimeError)
    assert source.given == 2


class Interrupted(BaseException):
    """As asyncio.CancelledError: no Exception."""


def test_cancelled() -> None:
    flow, chunks = make_flow(10)
    source = Source(range(5), pauses=(3,))
    pump, coroutine = start(flow, source)
    coroutine.send(None)
    with pytest.raises(Interrupted):
        coroutine.throw(Interrupted())
    assert pump.stopped
    assert source.closed
    assert chunks.sizes == [3]
    assert isinstance(flow.error, RuntimeError)


def test_it_is_given_up_before_it_begins() -> None:
    flow, _ = make_flow()
    pump, coroutine = start(flow, Source(range(5)))
    coroutine.close()
    assert not flow.ended
    pump.give_up()
    assert isinstance(flow.error, RuntimeError)


def test_an_input_that_cannot_be_closed() -> None:
    flow, chunks = make_flow(10)
    _, coroutine = start(flow, Bare(3))
    assert ended(coroutine)
    assert chunks.sizes == [3]


def test_an_input_that_fails_to_close() -> None:
    class Stubborn(Bare):
        async def aclose(self) -> None:
            raise RuntimeError("no")

    flow, _ = make_flow(10)
    pump, coroutine = start(flow, Stubborn(3), Bare(2))
    assert ended(coroutine)
    assert pump.stopped
    assert flow.error is None


# -- several inputs


def submitted(chunks: Any) -> list[Any]:
    """Return all items that were submitted."""
    import pickle

    return [item for handle in chunks.queue for item in pickle.loads(handle.payload)]


def test_several_are_zipped_to_the_shortest() -> None:
    flow, chunks = make_flow(2)
    first, second = Source(itertools.count()), Source([10, 11, 12])
    _, coroutine = start(flow, first, second)
    assert ended(coroutine)
    assert submitted(chunks) == [(0, 10), (1, 11), (2, 12)]
    assert chunks.sizes == [2, 1]
    assert first.closed
    assert second.closed


def test_mixed_inputs_of_one_thread() -> None:
    flow, chunks = make_flow(2)
    rows: Iterator[Any] = zip("abc", "xyz", strict=True)
    source = Source(itertools.count())
    _, coroutine = start(flow, "abc", source, "xyz", rows=rows)
    assert ended(coroutine)
    assert submitted(chunks) == [("a", 0, "x"), ("b", 1, "y"), ("c", 2, "z")]
    assert source.given == 3


def test_mixed_inputs_wait_for_room() -> None:
    flow, chunks = make_flow(1, 2)
    rows: Iterator[Any] = zip(itertools.count(), strict=True)
    _, coroutine = start(flow, [], Source(itertools.count()), rows=rows)
    assert coroutine.send(None) == "wait"
    assert submitted(chunks) == [(0, 0), (1, 1)]
    assert next(rows) == (2,)
    coroutine.close()


def test_mixed_inputs_of_two_threads() -> None:
    flow, chunks = make_flow(10)
    stash = Stash(flow, zip(range(DEPTH * 2 * 10 + 1), strict=True))
    _, coroutine = start(flow, Source(itertools.count()), [], stash=stash)
    assert coroutine.send(None) == "wait"
    assert flow.hungry
    assert chunks.sizes == []
    stash.fill()
    assert coroutine.send(None) == "wait"
    assert chunks.sizes == [10, 10]
    stash.rows.append((7,))
    assert coroutine.send(None) == "wait"
    assert chunks.sizes == [10, 10, 1], "no rows is a pause as well"
    stash.ended = True
    assert ended(coroutine)
    assert flow.ended
    assert flow.error is None


def test_a_sync_input_of_another_thread_that_fails() -> None:
    def rows() -> Iterator[Any]:
        yield (1,)
        raise KeyError("input")

    flow, chunks = make_flow(10)
    stash = Stash(flow, rows())
    stash.fill()
    _, coroutine = start(flow, Source(itertools.count()), [], stash=stash)
    assert ended(coroutine)
    assert chunks.sizes == [1]
    assert isinstance(flow.error, KeyError)


def test_closing_while_it_wants_rows_of_another_thread() -> None:
    """It ends by itself: cancelling cannot reach it where it does not suspend."""
    flow, chunks = make_flow(10)
    stash = Stash(flow, zip(range(1), strict=True))
    source = Source(itertools.count(), pauses=(0,))
    coroutine: Any = Pump(flow, (source, []), wait_once(), stash=stash).run()
    stash.fill()
    stash.ended = False
    assert coroutine.send(None) == "input"
    flow.close()
    assert ended(coroutine)
    assert source.closed
    assert chunks.sizes == [1]


def test_an_engine_that_shuts_down_while_an_input_pauses() -> None:
    flow, chunks = make_flow(10)
    source = Source(itertools.count(), pauses=(1, 2))
    _, coroutine = start(flow, source)
    assert coroutine.send(None) == "input"
    chunks.closed = True
    assert coroutine.send(None) == "input"
    assert isinstance(flow.error, RuntimeError)
    assert ended(coroutine)
    assert source.given == 10
