"""The map: what is read, what is out, what can be handed over. Decides; never waits, no I/O.

    request   the arguments of a call, checked
    seam      what the map needs of an engine: chunks go down, deliveries come back
    chunking  how large a chunk is, how many are out, how far inputs are read ahead
    flow      the state of one map
    feed      sync inputs: read in batches into the flow
    pump      async inputs: read one by one into the flow, as they come
    stash     sync inputs on their way to a pump on another thread
    taking    results: chunk by chunk, errors in their place, the time limit

The waiting is done by ``pool_client.map_sync`` and ``pool_client.map_async``.
"""

from pool_client.mapping.chunking import Policy
from pool_client.mapping.feed import Feed
from pool_client.mapping.flow import Flow
from pool_client.mapping.request import Request, check
from pool_client.mapping.seam import ChunkHandle, ChunkResult, Chunks, Delivery, Spawn

__all__ = [
    "ChunkHandle",
    "ChunkResult",
    "Chunks",
    "Delivery",
    "Feed",
    "Flow",
    "Policy",
    "Request",
    "Spawn",
    "check",
]
