"""The fake engines do what the seam says."""

import gc
import weakref

import pytest
from support import wait_until

from pool_client.mapping.seam import Delivery
from pool_client.testing import FakeChunks, ThreadedChunks


def test_by_hand() -> None:
    """Chunks wait until they are run, one by one or all."""
    chunks = FakeChunks(abs)
    done: list[Delivery] = []
    first = chunks.submit_chunk([-1, "x", 3], done.append)
    second = chunks.submit_chunk([-4], done.append)
    assert first.nbytes > second.nbytes
    assert second.cancel()
    assert chunks.run() == 2
    assert not chunks.step()
    assert not first.cancel()
    result = done[0].result()
    assert result.values[::2] == [1, 3]
    assert isinstance(result.values[1], TypeError)
    assert result.failed == {1}
    assert done[0].nanos > 0
    assert done[0].nbytes > 0
    assert len(done) == 1


def test_an_error_is_no_circle() -> None:
    """It would keep whoever had the chunk run, and thereby a map that nobody wants any more."""

    class Kept:
        pass

    def run() -> "weakref.ref[Kept]":
        kept = Kept()
        chunks = FakeChunks(abs)
        chunks.submit_chunk(["x"], lambda delivery: None)
        chunks.run()
        return weakref.ref(kept)

    gc.disable()
    try:
        assert run()() is None
    finally:
        gc.enable()


def test_closed() -> None:
    """A closed engine refuses."""
    chunks = FakeChunks(abs)
    chunks.closed = True
    with pytest.raises(RuntimeError):
        chunks.submit_chunk([1], lambda delivery: None)


def test_with_threads() -> None:
    """Threads do the work, with starred items too."""
    done: list[Delivery] = []
    with ThreadedChunks(pow, star=True) as chunks:
        chunks.submit_chunk([(2, 3)], done.append)
        wait_until(lambda: done)
    assert done[0].result().values == [8]
