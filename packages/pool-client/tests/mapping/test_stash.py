"""Rows on their way to a pump on another thread."""

from collections.abc import Iterator

from mapping.hand import calls, make_flow
from pool_client.mapping.chunking import DEPTH
from pool_client.mapping.stash import Stash


def test_it_reads_what_can_soon_be_used() -> None:
    flow, _ = make_flow()
    rows = iter(range(100))
    stash = Stash(flow, rows)
    stash.fill()
    assert list(stash.rows) == list(range(DEPTH * 2))
    stash.fill()
    stash.rows.popleft()
    stash.fill()
    assert len(stash.rows) == DEPTH * 2


def test_it_reads_no_further_than_the_buffer() -> None:
    flow, _ = make_flow(1, 2)
    stash = Stash(flow, iter(range(100)))
    stash.fill()
    assert list(stash.rows) == [0, 1]
    stash.rows.clear()
    stash.fill()
    assert not stash.rows
    flow.count_taken(1)
    stash.fill()
    assert list(stash.rows) == [2]


def test_it_ends() -> None:
    flow, _ = make_flow()
    stash = Stash(flow, iter(range(2)))
    stash.fill()
    assert stash.ended
    assert stash.error is None
    assert list(stash.rows) == [0, 1]
    stash.fill()


def test_it_fails() -> None:
    error = KeyError("input")

    def rows() -> Iterator[int]:
        yield 1
        raise error

    flow, _ = make_flow()
    stash = Stash(flow, rows())
    stash.fill()
    assert stash.ended
    assert stash.error is error
    assert list(stash.rows) == [1]


def test_a_pump_that_waits_is_woken() -> None:
    flow, _ = make_flow(1, 1)
    stash = Stash(flow, iter(range(100)))
    rung, ring = calls()
    assert flow.expect(ring, reads=False)
    woken, wake = calls()
    assert stash.expect(wake)
    assert rung == [1], "whoever takes is told to read"
    assert flow.hungry
    stash.fill()
    assert woken == [1]
    assert not flow.hungry
    assert not stash.expect(wake)
    stash.rows.clear()
    assert stash.expect(wake)
    stash.fill()
    assert woken == [1], "no room, so no rows"
    flow.close()
    assert not stash.expect(wake)
