"""The contestants: each does the same work, whatever its interface."""

from functools import partial

import pytest

from benchmarks.peers import WORKERS, AsyncPoolPeer, DistexPeer, Loop, blocking, opened
from benchmarks.tasks import increment

LOOP = Loop()
STARTERS = blocking(LOOP)


@pytest.mark.parametrize("name", STARTERS)
def test_a_blocking_contestant(name: str) -> None:
    with opened({name: STARTERS[name]}) as peers:
        peer = peers[name]
        assert peer.singles(increment, 50) == 50 * 51 // 2
        assert peer.call(increment, 1) == 2
        assert peer.together(increment, 1, 3) == [2, 2, 2]
        for chunksize in (None, 1, 7):
            assert list(peer.map(increment, range(20), chunksize)) == list(range(1, 21))


@pytest.mark.parametrize("start", [AsyncPoolPeer, partial(DistexPeer, qsize=100)])
def test_an_asynchronous_contestant(start: type[AsyncPoolPeer] | type[DistexPeer]) -> None:
    peer = start(LOOP, WORKERS)
    assert peer.singles(increment, 50) == 50 * 51 // 2
    assert LOOP.run(peer.call_async(increment, 1)) == 2
    assert peer.call(increment, 1) == 2
    assert peer.together(increment, 1, 3) == [2, 2, 2]
    assert list(peer.map(increment, range(20), 7)) == list(range(1, 21))
    peer.close()
