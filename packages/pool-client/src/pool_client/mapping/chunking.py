"""How large a chunk is, how many are out, and how far inputs are read ahead.

A chunk takes about TARGET: long enough that a message costs little, short enough that workers
finish together. It starts at one item, grows while chunks are shorter, shrinks at once when one is
longer, and shrinks near the end of an input whose length is known, as in guided self-scheduling
(Polychronopoulos and Kuck, 1987).
"""

#: Service time that a chunk should have, and that it should have at least near the end, ns.
TARGET = 10_000_000
SHORT = 200_000
#: Service time that should lie ready for each worker, ns; it covers the waking of a consumer.
READY = 20_000_000
#: Largest factor from the size of a chunk that was measured to the next size.
GROWTH = 8
#: Most items of an automatic chunk: above it, nothing is gained and lists leave the cache.
MOST = 8192
#: Chunks out for each worker: at least; of the largest automatic size; of one that was given.
DEPTH = 3
DEEP = 8
DEEPEST = 1024
#: Work that is out beside that on a line with a delay, as a multiple of the delay: what is on its
#: way there and back, and as much that waits for the next write.
COVER = 2.0
#: Chunks out in all, unless DEPTH asks for more.
MOST_CHUNKS = 16_384
#: Chunks' worth of items for each worker that may be read ahead, and items in any case.
AHEAD = 16
AHEAD_ITEMS = 4096
#: Bytes of an automatic chunk, and bytes of inputs and results that are read ahead.
CHUNK_BYTES = 1 << 20
AHEAD_BYTES = 64 << 20
#: Chunks read in one go, and the time that this may take, ns.
BATCH = 16
BATCH_NANOS = 500_000
#: What a chunk costs beside its items, ns.
OVERHEAD = 5_000
#: How long reading inputs may take before finished results are handed over, ns.
READING = 20_000_000


class Policy:
    """The choices of one map, from what was measured so far.

    ``single``: automatic chunks hold one item. All times are in nanoseconds.
    """

    def __init__(
        self,
        chunksize: int | None = None,
        buffersize: int | None = None,
        single: bool = False,
    ) -> None:
        #: Whether it is for the policy to say how far inputs are read ahead.
        self.automatic = buffersize is None
        self._fixed = chunksize if chunksize is not None else 1 if single else None
        self._buffersize = buffersize
        self._grown = 1
        self._growing = True
        self._item_nanos: float | None = None
        self._nanos = 0.0
        self._items = 0.0
        self._read_nanos = 0.0
        self._reading_nanos = 0.0
        self._reading_items = 0.0
        self._bytes_in = 0.0
        self._bytes_out = 0.0

    def __repr__(self) -> str:
        nanos = "?" if self._item_nanos is None else f"{self._item_nanos:.0f}"
        return (
            f"<Policy size={self._fixed or self._grown} item={nanos} ns, "
            f"{self._bytes_in:.0f} bytes in, {self._bytes_out:.0f} out>"
        )

    # -- what was measured

    def reading(self, count: int, nanos: int) -> None:
        """So many items were read in this time."""
        self._reading_nanos = self._reading_nanos / 2 + nanos
        self._reading_items = self._reading_items / 2 + count
        self._read_nanos = self._reading_nanos / self._reading_items

    def packed(self, count: int, nbytes: int) -> None:
        """A chunk of ``count`` items has this size."""
        self._bytes_in = _estimate(self._bytes_in, nbytes / count)

    def finished(self, count: int, nanos: int, nbytes: int, largest: int) -> None:
        """Chunks with ``count`` items took this time in workers; their results have this size.

        ``largest`` is the number of items of the largest of them.
        """
        # Large chunks weigh more: a small one that was preempted says little.
        self._nanos = self._nanos / 2 + nanos
        self._items = self._items / 2 + count
        self._measured(count, nbytes, largest)

    def overlong(self, count: int, nanos: int, nbytes: int) -> None:
        """A chunk of ``count`` items took longer than TARGET: what was known before is wrong."""
        self._nanos, self._items = float(nanos), float(count)
        self._measured(count, nbytes, count)

    def _measured(self, count: int, nbytes: int, largest: int) -> None:
        self._bytes_out = _estimate(self._bytes_out, nbytes / count)
        self._item_nanos = max(self._nanos / self._items, 1.0)
        wanted = max(1, min(int(TARGET / self._item_nanos), MOST))
        # Sizes grow by generation: chunks of the old size that come late do not add up.
        self._grown = min(wanted, max(self._grown, GROWTH * largest))
        self._growing = self._grown < wanted

    # -- what follows

    def size(self, workers: int, unread: int | None = None) -> int:
        """Items of the next chunk; ``unread`` is how many items are left, where that is known."""
        limit = self._buffersize
        if self._fixed is not None:
            return self._fixed if limit is None else min(self._fixed, limit)
        size = self._grown
        bytes_each = max(self._bytes_in, self._bytes_out)
        if size * bytes_each > CHUNK_BYTES:
            size = int(CHUNK_BYTES / bytes_each)
        if size * self._read_nanos > READING:
            size = int(READING / self._read_nanos)
        if limit is None:
            limit = self._ahead_by_bytes(workers)
        size = min(size, limit // (DEPTH * workers))
        if unread is not None and size * workers * DEPTH > unread:
            size = min(size, max(self._shortest(), -(-unread // (workers * DEPTH))))
        return max(1, size)

    def depth(self, workers: int, delay: float = 0.0) -> int:
        """Chunks that should be out; ``delay`` is the round trip to the workers, ns."""
        if self._item_nanos is None:
            return DEPTH * workers
        size, most, growing = self._fixed, DEEPEST, False
        if size is None:
            size = self.size(workers)
            # Chunks that can grow do so before there are more of them.
            growing = self._growing and size == self._grown
            most = DEPTH if growing else DEEP
        nanos = self._item_nanos * size + OVERHEAD
        each = min(READY / nanos, most)
        if not growing:
            each += COVER * delay / nanos
        return max(DEPTH * workers, min(int(each * workers), MOST_CHUNKS))

    def batch(self, size: int, count: int, known: bool) -> int:
        """Of ``count`` chunks of this size, how many may be read at once, before any is sent.

        ``known``: the length of the input is known.
        """
        if (known and self._fixed is None) or not self._bytes_in:
            return 1
        # Reading so many takes so little time that the first need not go ahead.
        return max(1, min(count, BATCH, int(BATCH_NANOS / (size * self._read_nanos + 1))))

    def ahead(self, workers: int, delay: float = 0.0) -> int:
        """Items that may be read ahead of the results that were taken; ``delay`` as for depth."""
        if self._buffersize is not None:
            return self._buffersize
        size = self._fixed or self._grown
        wanted = max(AHEAD_ITEMS, AHEAD * workers * size, 2 * self.depth(workers, delay) * size)
        least = self._fixed * (workers + 1) if self._fixed is not None else 1
        return max(min(wanted, self._ahead_by_bytes(workers)), least)

    def _ahead_by_bytes(self, workers: int) -> int:
        # However large they are, one for each worker and one more, or workers would wait.
        return max(workers + 1, int(AHEAD_BYTES / max(self._bytes_in + self._bytes_out, 1.0)))

    def _shortest(self) -> int:
        if self._item_nanos is None:
            return 1
        return int(SHORT / self._item_nanos)


def _estimate(old: float, new: float) -> float:
    """Up at once, down by halves: too much is worse than too little."""
    return new if new >= old else (old + new) / 2
