"""The seam: what the fake engines give is what the protocols ask for."""

from mapping.hand import double
from pool_client.mapping.seam import ChunkHandle, ChunkResult, Chunks, Delivery
from pool_client.testing import FakeChunks


def test_a_chunk_goes_down_and_a_delivery_comes_back() -> None:
    chunks: Chunks = FakeChunks(double)
    deliveries: list[Delivery] = []
    handle: ChunkHandle = chunks.submit_chunk([1, -2, 3], deliveries.append)
    assert handle.nbytes > 0
    assert isinstance(chunks, FakeChunks)
    chunks.run()
    assert not handle.cancel()
    (delivery,) = deliveries
    values, failed, nanos = delivery.result()
    assert (values[0], values[2], set(failed)) == (2, 6, {1})
    assert nanos == delivery.nanos
    assert delivery.nbytes > 0


def test_results_are_named() -> None:
    result = ChunkResult([1], (), 5)
    assert (result.values, result.failed, result.nanos) == ([1], (), 5)
