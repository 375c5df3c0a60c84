"""Taking results: errors in their place, small chunks together, the time limit."""

import gc
import weakref
from typing import Any

import pytest

from mapping.hand import Clock, make_flow
from pool_client.mapping.seam import ChunkResult
from pool_client.mapping.taking import FEW, Taker, outcome


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


def test_outcomes() -> None:
    first, second = KeyError(1), KeyError(2)
    result = ChunkResult([0, first, 2, second], frozenset({3, 1}), 0)
    assert outcome(result, ordered=True) == ([0], first)
    assert outcome(result, ordered=False) == ([0, 2], first)


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


def test_an_error_comes_after_the_results_before_it() -> None:
    taker = make_taker([[1], [2, -3, 4], [5]])
    assert taker.take() == [2, 4]
    with pytest.raises(ValueError, match="-3"):
        taker.begin()


def test_an_error_that_comes_first() -> None:
    taker = make_taker([[-3, 4], [5]])
    with pytest.raises(ValueError, match="-3"):
        taker.take()


def test_an_error_out_of_order_takes_nothing_with_it() -> None:
    taker = make_taker([[2, -3, 4], [5]], ordered=False)
    assert taker.take() == [4, 8]
    with pytest.raises(ValueError, match="-3"):
        taker.begin()


class Unreadable:
    nanos = 1
    nbytes = 1

    def result(self) -> ChunkResult:
        """Fail."""
        raise EOFError("unreadable")


def test_a_chunk_that_cannot_be_read() -> None:
    taker = make_taker([[1], [2]])
    taker._flow.parts[1].delivery = Unreadable()
    assert taker.take() == [2]
    with pytest.raises(EOFError):
        taker.begin()
    taker = make_taker([[1]])
    taker._flow.parts[0].delivery = Unreadable()
    with pytest.raises(EOFError):
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
