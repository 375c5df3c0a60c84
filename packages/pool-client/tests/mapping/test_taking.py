"""Taking results: errors in their place, small chunks together, the time limit."""

import gc
import weakref
from operator import length_hint
from typing import Any

import pytest

from mapping.hand import Clock, make_flow
from pool_client.mapping.chunking import Policy
from pool_client.mapping.flow import Flow
from pool_client.mapping.seam import ChunkResult
from pool_client.mapping.taking import FEW, Failure, Raising, Taker, iterate
from pool_client.testing import FakeChunks


def make_taker(
    items: list[list[int]], *, run: bool = True, buffersize: int | None = None, ordered: bool = True
) -> Taker:
    """Return a taker of chunks with these items, which are finished."""
    flow, chunks = make_flow(1, buffersize, ordered=ordered)
    for chunk in items:
        flow.submit(chunk)
    if run:
        chunks.run()
    flow.end()
    return Taker(flow, None, Clock())


def given(taker: Taker) -> list[Any]:
    """Return what the next take gives: results, and the exceptions in their places."""
    values = taker.take()
    assert values is not None
    results = iterate(values, taker.flawed)
    seen: list[Any] = []
    while length_hint(results):
        try:
            seen.append(next(results))
        except Exception as error:
            seen.append(repr(error))
    assert list(results) == []
    return seen


def test_small_chunks_are_given_together() -> None:
    taker = make_taker([[0, 1], [2], [3, 4]])
    taker.begin()
    assert taker.take() == [0, 2, 4, 6, 8]
    assert taker._flow.taken == 0
    taker.begin()
    assert taker._flow.taken == 5
    assert taker.take() is None
    assert taker.over()


def test_large_chunks_are_given_one_by_one() -> None:
    taker = make_taker([[1] * FEW, [2], [3]])
    assert taker.take() == [2] * FEW
    assert taker.take() == [4, 6]
    taker = make_taker([[2], [1] * FEW, [3]])
    assert len(taker.take() or []) == FEW + 1
    assert taker.take() == [6]


def test_with_a_buffer_chunks_make_room_one_by_one() -> None:
    taker = make_taker([[1], [2]], buffersize=10)
    assert taker.take() == [2]
    assert taker.take() == [4]


@pytest.mark.parametrize("ordered", [True, False])
def test_errors_are_in_their_places(ordered: bool) -> None:
    taker = make_taker([[1], [-2, 3, -4], [5]], ordered=ordered)
    taker.begin()
    assert given(taker) == [2, "ValueError(-2)", 6, "ValueError(-4)", 10]
    assert taker._count == 5
    taker.begin()
    assert not taker.flawed
    assert taker.take() is None
    assert taker.over()


def test_without_errors_nothing_is_looked_at() -> None:
    assert type(iterate([1], False)) is type(iter([]))
    results = iterate([1], True)
    assert isinstance(results, Raising)
    assert iter(results) is results


@pytest.mark.parametrize("error", [StopIteration(1), StopAsyncIteration(1)])
def test_an_error_is_not_taken_for_the_end(error: Exception) -> None:
    with pytest.raises(RuntimeError, match="raised Stop") as caught:
        next(Raising([Failure(error)]))
    assert caught.value.__cause__ is error


def test_one_error_of_many_items() -> None:
    """Its traceback does not grow."""
    try:
        raise KeyError("all")
    except KeyError as error:
        results = Raising([Failure(error)] * 100)
    sizes = set()
    for _ in range(100):
        with pytest.raises(KeyError) as caught:
            next(results)
        sizes.add(len(caught.traceback))
    assert sizes == {4}


def test_a_raised_error_keeps_nothing() -> None:
    class Result:
        pass

    class Kept(Exception):
        pass

    result = Result()
    reference = weakref.ref(result)
    results = iterate([Failure(Kept()), result], True)
    del result
    gc.disable()
    try:
        with pytest.raises(Kept) as caught:
            next(results)
        error = weakref.ref(caught.value)
        del results
        assert reference() is None
        del caught
        assert error() is None
    finally:
        gc.enable()


class Unreadable:
    nanos = 1
    nbytes = 1

    def result(self) -> ChunkResult:
        """Fail."""
        raise EOFError("unreadable")


def test_a_chunk_that_cannot_be_read() -> None:
    taker = make_taker([[1], [2, 3], [4]])
    taker._flow.parts[1].delivery = Unreadable()
    assert given(taker) == [2, *["EOFError('unreadable')"] * 2, 8]


def test_an_interrupt_is_not_an_items_error() -> None:
    class Interrupted(Unreadable):
        def result(self) -> ChunkResult:
            raise KeyboardInterrupt

    taker = make_taker([[1]])
    taker._flow.parts[0].delivery = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        taker.take()


def test_large_results_are_given_one_by_one() -> None:
    class Large:
        nanos = 1
        nbytes = 1 << 20

        def result(self) -> ChunkResult:
            return ChunkResult(["large"], (), 1)

    taker = make_taker([[1], [2], [3]])
    taker._flow.parts[1].delivery = Large()
    assert taker.take() == [2, "large"]
    assert taker.take() == [6]


def test_the_end() -> None:
    taker = make_taker([[1]], run=False)
    assert taker.take() is None
    assert not taker.over()
    taker._flow.close()
    assert taker.over()


def test_the_error_of_the_inputs() -> None:
    flow, chunks = make_flow()
    flow.submit([1])
    flow.end(KeyError("input"))
    taker = Taker(flow, None, Clock())
    assert not taker.over()
    chunks.run()
    assert taker.take() == [2]
    with pytest.raises(KeyError, match="input"):
        taker.over()
    assert taker.over()


def test_an_error_is_kept_by_nothing() -> None:
    class Kept(Exception):
        pass

    flow, _ = make_flow()
    flow.end(Kept())
    taker = Taker(flow, None, Clock())
    gc.disable()
    try:
        with pytest.raises(Kept) as caught:
            taker.over()
        reference: weakref.ref[Any] = weakref.ref(caught.value)
        del caught
        assert reference() is None
    finally:
        gc.enable()


def test_time_left() -> None:
    flow, _ = make_flow()
    clock = Clock()
    taker = Taker(flow, 2.5, clock)
    clock.now = 500_000_000
    assert taker.seconds_left() == 2.0
    clock.now = 2_500_000_000
    with pytest.raises(TimeoutError, match=r"2\.5 s"):
        taker.seconds_left()


def test_nothing_is_read_past_the_time_limit() -> None:
    flow, chunks = make_flow()
    clock = Clock()
    taker = Taker(flow, 1.0, clock)
    flow.submit([1])
    chunks.run()
    taker.begin()
    assert flow.quota() == 1
    clock.now = 10**9
    taker.begin()
    assert flow.quota() == 0
    assert taker.take() == [2]
    assert not taker.over()


@pytest.mark.parametrize("timeout", [None, float("inf"), 1e12])
def test_no_time_limit(timeout: float | None) -> None:
    taker = Taker(make_flow()[0], timeout, Clock())
    assert taker.deadline is None
    assert taker.seconds_left() is None


@pytest.mark.parametrize("timeout", [0.0, -5.0, float("-inf")])
def test_no_time_at_all(timeout: float) -> None:
    taker = Taker(make_flow()[0], timeout, Clock())
    with pytest.raises(TimeoutError):
        taker.seconds_left()


def test_a_map_that_is_closed_meanwhile_has_no_error() -> None:
    """Closing ends the inputs as well, which is nobody's error."""

    class Closing(Flow):
        @property
        def finished(self) -> bool:
            self.close()
            self.end(RuntimeError("shut down"))
            return super().finished

    flow = Closing(FakeChunks(abs), Policy())
    taker = Taker(flow, None, Clock())
    assert taker.over()
