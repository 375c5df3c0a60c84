"""Sync inputs: read in batches, never too far, their errors in place."""

import itertools
from collections.abc import Iterator

import pytest

from mapping.hand import Clock, make_feed, make_flow
from pool_client.mapping.chunking import BATCH, DEPTH, READING
from pool_client.mapping.feed import Feed, read


def failing(count: int, error: BaseException) -> Iterator[int]:
    yield from range(count)
    raise error


def test_read() -> None:
    rows = iter(range(5))
    assert read(rows, 3) == ([0, 1, 2], False, None)
    assert read(rows, 2) == ([3, 4], False, None)
    assert read(rows, 2) == ([], True, None)


def test_read_keeps_what_came_before_an_error() -> None:
    error = KeyError("input")
    assert read(failing(3, error), 10) == ([0, 1, 2], True, error)


def test_read_does_not_keep_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt):
        read(failing(3, KeyboardInterrupt()), 10)


def test_it_fills_what_is_free() -> None:
    flow, chunks = make_flow(2)
    feed = make_feed(flow)
    feed.fill()
    assert chunks.sizes == [2] * DEPTH * 2
    feed.fill()
    assert len(chunks.sizes) == DEPTH * 2


def test_it_ends_with_its_rows() -> None:
    flow, chunks = make_flow(2)
    feed = make_feed(flow, range(5))
    feed.fill()
    assert chunks.sizes == [2, 2, 1]
    assert flow.ended
    assert flow.error is None
    feed.fill()


def test_rows_that_end_with_a_chunk() -> None:
    flow, chunks = make_flow(2)
    make_feed(flow, range(2)).fill()
    assert chunks.sizes == [2]
    assert flow.ended


def test_rows_that_fail() -> None:
    flow, chunks = make_flow(2)
    error = KeyError("input")
    make_feed(flow, failing(3, error)).fill()
    assert chunks.sizes == [2, 1]
    assert flow.error is error


def test_small_chunks_are_read_together() -> None:
    flow, chunks = make_flow(3)
    for number in (-1, -2):
        flow.submit([number] * 3)
        handle = chunks.queue.popleft()
        delivery = chunks.execute(handle.payload)
        delivery.nanos = 3000
        handle.done(delivery)
    rows = iter(range(10**6))
    feed = Feed(flow, rows, Clock())
    feed.fill()
    assert set(chunks.sizes) == {3}
    assert len(chunks.sizes) > BATCH
    assert next(rows) == 3 * (len(chunks.sizes) - 2)


def test_nothing_is_read_after_the_deadline() -> None:
    flow, chunks = make_flow()
    feed = Feed(flow, itertools.count(), Clock(10), deadline=15)
    feed.fill()
    assert chunks.sizes == [1]
    feed.fill()
    assert chunks.sizes == [1]


def test_work_starts_whatever_the_deadline() -> None:
    flow, chunks = make_flow()
    Feed(flow, itertools.count(), Clock(1), deadline=0).fill(started=False)
    assert chunks.sizes == [1] * DEPTH * 2


def test_a_slow_input_is_left_when_there_is_something_to_take() -> None:
    flow, chunks = make_flow()
    feed = make_feed(flow, clock=Clock(READING))
    feed.fill()
    assert len(chunks.sizes) == DEPTH * 2, "nothing to take, so there is time"
    chunks.step()
    chunks.step()
    chunks.step()
    feed.fill()
    assert len(chunks.sizes) < DEPTH * 2 + 3


def test_a_slow_input_does_not_delay_the_start() -> None:
    flow, chunks = make_flow()
    make_feed(flow, clock=Clock(READING)).fill(started=False)
    assert len(chunks.sizes) < 3


def test_a_map_that_is_read_whole_has_no_deadline() -> None:
    flow, chunks = make_flow()
    flow.whole = True
    feed = Feed(flow, iter(range(4)), Clock(1), deadline=0)
    feed.fill()
    assert chunks.sizes == [1] * 4
    assert flow.ended


def test_a_slow_input_that_is_read_whole_lets_others_go_on() -> None:
    flow, chunks = make_flow()
    flow.whole = True
    make_feed(flow, clock=Clock(READING)).fill()
    assert len(chunks.sizes) < 3
