"""A fake engine at the seam of the map: threads instead of worker processes. For tests."""

import pickle
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from pool_client.mapping.seam import ChunkResult, Delivery


class FakeDelivery:
    """A finished chunk."""

    def __init__(self, payload: bytes, failed: frozenset[int], nanos: int) -> None:
        self._payload = payload
        self._failed = failed
        self.nanos = nanos

    @property
    def nbytes(self) -> int:
        """Size of the packed result."""
        return len(self._payload)

    def result(self) -> ChunkResult:
        """Unpack it."""
        return ChunkResult(pickle.loads(self._payload), self._failed, self.nanos)


class FakeHandle:
    """A chunk in the queue or beyond."""

    def __init__(self, payload: bytes, done: Callable[[Delivery], None]) -> None:
        self.payload = payload
        self.done = done
        self.sent = False
        self.cancelled = False

    @property
    def nbytes(self) -> int:
        """Size of the packed chunk."""
        return len(self.payload)

    def cancel(self) -> bool:
        """Withdraw it, unless a worker has it."""
        if not self.sent:
            self.cancelled = True
        return self.cancelled


class FakeChunks:
    """An engine whose workers are run by hand: nothing happens until ``step`` or ``run``."""

    def __init__(self, func: Callable[..., Any], workers: int = 2, star: bool = False) -> None:
        self.func = func
        self.workers = workers
        self.delay = 0.0
        self.star = star
        self.queue: deque[FakeHandle] = deque()
        self.sizes: list[int] = []
        self.submitters: set[int] = set()
        self.closed = False

    def submit_chunk(self, items: list[Any], done: Callable[[Delivery], None]) -> FakeHandle:
        """Queue a chunk."""
        if self.closed:
            raise RuntimeError("the pool is shut down")
        handle = FakeHandle(pickle.dumps(items), done)
        self.sizes.append(len(items))
        self.submitters.add(threading.get_ident())
        self.queue.append(handle)
        return handle

    def step(self, place: int = 0) -> bool:
        """Run one queued chunk; False if there is none."""
        try:
            handle = self.queue[place]
            del self.queue[place]
        except IndexError:
            return False
        handle.sent = True
        if not handle.cancelled:
            handle.done(self.execute(handle.payload))
        return True

    def run(self) -> int:
        """Run what is queued; returns how many chunks that were."""
        steps = 0
        while self.step():
            steps += 1
        return steps

    def execute(self, payload: bytes) -> FakeDelivery:
        """Do what a worker does with a chunk."""
        start = time.perf_counter_ns()
        values: list[Any] = []
        failed = set()
        for place, item in enumerate(pickle.loads(payload)):
            try:
                values.append(self.func(*item) if self.star else self.func(item))
            except Exception as error:
                # Its traceback refers to this frame, and through it to all that has called it.
                values.append(error.with_traceback(None))
                failed.add(place)
        nanos = time.perf_counter_ns() - start
        return FakeDelivery(pickle.dumps(values), frozenset(failed), nanos)


class ThreadedChunks(FakeChunks):
    """An engine whose workers are threads. Use it in a ``with`` block."""

    def __init__(self, func: Callable[..., Any], workers: int = 2, star: bool = False) -> None:
        super().__init__(func, workers, star)
        self._filled = threading.Semaphore(0)
        self._stop = False
        self._threads = [threading.Thread(target=self._work) for _ in range(workers)]

    def __enter__(self) -> "ThreadedChunks":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        for _thread in self._threads:
            self._filled.release()
        for thread in self._threads:
            thread.join()

    def submit_chunk(self, items: list[Any], done: Callable[[Delivery], None]) -> FakeHandle:
        """Queue a chunk."""
        handle = super().submit_chunk(items, done)
        self._filled.release()
        return handle

    def _work(self) -> None:
        while True:
            self._filled.acquire()
            if self._stop:
                return
            self.step()
