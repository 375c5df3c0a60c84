"""Sizes of chunks, how many are out, how far is read ahead."""

from typing import Any

import pytest

from pool_client.mapping.chunking import (
    AHEAD_BYTES,
    AHEAD_ITEMS,
    BATCH,
    CHUNK_BYTES,
    DEEP,
    DEEPEST,
    DEPTH,
    GROWTH,
    MOST,
    MOST_CHUNKS,
    READING,
    SHORT,
    TARGET,
    Policy,
)

MS = 1_000_000


def grown(nanos: int, **kwargs: Any) -> Policy:
    """A policy that has seen many chunks of items that take so long."""
    policy = Policy(**kwargs)
    for _ in range(10):
        size = policy.size(2)
        policy.finished(size, size * nanos, size, size)
    return policy


def test_it_starts_with_one_item_for_each_place() -> None:
    policy = Policy()
    assert policy.size(2) == 1
    assert policy.size(2, unread=10**6) == 1
    assert policy.size(2, unread=3) == 1
    assert policy.depth(2) == DEPTH * 2
    assert repr(policy) == "<Policy size=1 item=? ns, 0 bytes in, 0 out>"


def test_it_grows_by_generations() -> None:
    policy = Policy()
    for _ in range(5):
        policy.finished(1, 100, 10, 1)
    assert policy.size(2) == GROWTH
    policy.finished(GROWTH, 100 * GROWTH, 10, GROWTH)
    assert policy.size(2) == GROWTH * GROWTH
    policy.finished(1, 100, 10, 1)
    assert policy.size(2) == GROWTH * GROWTH
    assert "item=100 ns" in repr(policy)


def test_it_grows_to_the_most() -> None:
    policy = grown(50)
    assert policy.size(2) == MOST


@pytest.mark.parametrize("nanos", [2_000, 100_000, 3 * MS])
def test_a_chunk_takes_the_time_aimed_at(nanos: int) -> None:
    assert grown(nanos).size(2) == TARGET // nanos


def test_slow_items_stay_single() -> None:
    assert grown(1000 * MS).size(2) == 1


def test_it_shrinks_at_once() -> None:
    policy = grown(50)
    policy.overlong(MOST, MOST * 10 * MS, 1)
    assert policy.size(2) == 1


def test_a_small_chunk_that_was_preempted_says_little() -> None:
    policy = grown(50)
    policy.finished(8, 4 * MS, 8, 8)
    assert policy.size(2) > MOST // 4


def test_a_time_of_zero() -> None:
    assert grown(0).size(2) == MOST


def test_the_end_of_a_known_input_is_shared_out() -> None:
    policy = grown(10_000)
    assert policy.size(2, unread=10**9) == TARGET // 10_000
    assert policy.size(2, unread=600) == 100
    assert policy.size(2, unread=1) == SHORT // 10_000
    slow = grown(2 * MS)
    assert slow.size(2, unread=6) == 1


def test_a_given_size_is_kept() -> None:
    policy = grown(1000 * MS, chunksize=100)
    assert policy.size(2) == 100
    assert policy.size(2, unread=3) == 100
    assert policy.ahead(2) >= 300


def test_a_given_size_is_cut_to_the_buffer() -> None:
    assert Policy(chunksize=100, buffersize=30).size(2) == 30
    assert Policy(chunksize=10, buffersize=30).size(2) == 10


def test_single_items() -> None:
    assert grown(50, single=True).size(2) == 1
    assert grown(50, single=True, chunksize=5).size(2) == 5


def test_chunks_leave_room_for_others_in_the_buffer() -> None:
    policy = grown(50, buffersize=60)
    assert policy.size(2) == 10
    assert policy.ahead(2) == 60
    assert not policy.automatic
    assert grown(50, buffersize=1).size(2) == 1
    assert Policy().automatic


def test_chunks_are_bounded_in_bytes() -> None:
    policy = grown(50)
    policy.packed(1, 10_000)
    assert policy.size(2) == CHUNK_BYTES // 10_000
    policy = grown(50)
    policy.finished(1, 50, 20_000, 1)
    assert policy.size(2) == CHUNK_BYTES // 20_000


def test_what_is_ahead_is_bounded_in_bytes() -> None:
    policy = grown(50)
    policy.packed(1, 1_000_000)
    assert policy.ahead(2) == AHEAD_BYTES // 1_000_001
    policy.packed(1, AHEAD_BYTES * 10)
    assert policy.ahead(2) == 3
    assert policy.ahead(100) == 101
    assert policy.size(2) == 1


def test_estimates_of_bytes_fall_slowly() -> None:
    policy = grown(50)
    policy.packed(1, 100_000)
    policy.packed(1, 10)
    assert 10 <= policy.size(2) <= 30


def test_what_is_ahead_is_bounded_in_items() -> None:
    assert Policy().ahead(2) == AHEAD_ITEMS
    assert grown(50).ahead(2) == 16 * 2 * MOST


def test_with_many_workers_chunks_are_smaller() -> None:
    policy = grown(50)
    policy.packed(MOST, 100 * MOST)
    assert policy.size(10_000) * 3 * 10_000 <= policy.ahead(10_000)


def test_slow_reading_makes_small_chunks() -> None:
    policy = grown(50)
    policy.reading(10, 10 * MS)
    assert policy.size(2) == READING // MS
    policy.reading(10, 10_000 * MS)
    assert policy.size(2) == 1


def test_depth_covers_a_wait() -> None:
    assert grown(50, chunksize=1).depth(2) == 2 * DEEPEST
    assert grown(1, chunksize=1).depth(1000) == MOST_CHUNKS
    assert grown(1, chunksize=1).depth(10_000) == DEPTH * 10_000
    assert grown(MS, chunksize=1).depth(2) == 39
    assert grown(100 * MS, chunksize=1).depth(2) == DEPTH * 2
    assert grown(10).depth(2) == DEEP * 2
    assert grown(10_000).depth(2) == DEPTH * 2


def test_depth_covers_a_slow_line() -> None:
    # 8,192 items of 50 ns take 0.4 ms: what goes there and back in 40 ms is a hundred chunks.
    near, far = (grown(50).depth(2, delay) for delay in (0, 40 * MS))
    assert near == DEEP * 2
    assert 2 * 100 < far < 2 * 250
    assert grown(50).ahead(2, 40 * MS) >= far * MOST
    assert grown(1, chunksize=1).depth(2, 40 * MS) == MOST_CHUNKS
    assert grown(100 * MS, chunksize=1).depth(2, 40 * MS) == DEPTH * 2
    assert Policy().depth(2, 40 * MS) == DEPTH * 2


def test_on_a_slow_line_too_chunks_grow_first() -> None:
    policy = Policy()
    policy.finished(1, 100, 10, 1)
    assert policy.depth(2, 40 * MS) == DEPTH * 2


def test_depth_waits_for_growth() -> None:
    policy = Policy()
    policy.finished(1, 100, 10, 1)
    assert policy.depth(2) == DEPTH * 2


def test_depth_of_chunks_that_cannot_grow() -> None:
    policy = Policy()
    policy.finished(1, 100, 10, 1)
    policy.packed(1, CHUNK_BYTES)
    assert policy.depth(2) == DEEP * 2


def test_small_chunks_are_read_together() -> None:
    policy = Policy(chunksize=1)
    assert policy.batch(1, 100, known=True) == 1
    policy.packed(1, 10)
    assert policy.batch(1, 100, known=True) == BATCH
    assert policy.batch(1, 3, known=False) == 3
    policy.reading(1, 100_000)
    assert policy.batch(1, 100, known=True) == 4
    policy.reading(1, 1000 * MS)
    assert policy.batch(1, 100, known=True) == 1


def test_chunks_of_a_known_input_are_sized_one_by_one() -> None:
    policy = grown(50)
    policy.packed(1, 1)
    assert policy.batch(1, 10, known=True) == 1
    assert policy.batch(1, 10, known=False) == 10
