"""``Pool.map``: a blocking iterator over the results of a map."""

import time
from collections.abc import Iterator
from itertools import chain
from threading import Lock, get_ident
from typing import Any, Self, cast

from pool_client.futures import let_go
from pool_client.map_rest import Rest, Rests
from pool_client.mapping.chunking import Policy
from pool_client.mapping.feed import Feed
from pool_client.mapping.flow import Flow
from pool_client.mapping.pump import Pump
from pool_client.mapping.request import Request
from pool_client.mapping.seam import Chunks, Spawn
from pool_client.mapping.stash import Stash
from pool_client.mapping.taking import Taker, iterate
from pool_client.waiting import Bell, wait_on_loop

#: Seconds that close() waits until the async inputs are closed.
_CLOSING = 5.0


def start(
    chunks: Chunks,
    request: Request,
    *,
    single: bool = False,
    spawn: Spawn | None = None,
    rests: Rests | None = None,
) -> "MapIterator":
    """Start a map: read and submit its first chunks, in this thread.

    Args:
        chunks: where chunks go; the function and the options of its tasks are bound in it.
        request: the checked arguments.
        single: automatic chunks hold one item.
        spawn: runs a coroutine on the engine's loop; needed for async inputs only.
        rests: the pool's collection of maps that are to be run whole at shutdown.

    Returns: the iterator of the results.
    """
    policy = Policy(request.chunksize, request.buffersize, single)
    source = _Source(Flow(chunks, policy, request.ordered, request.length), request.timeout)
    try:
        source.begin(request, spawn, rests)
    except BaseException:
        source.close()
        raise
    results = cast(MapIterator, MapIterator.from_iterable(source))
    results._source = source
    return results


class MapIterator(chain[Any]):
    """The results of a map. Any thread may take them, also several at a time.

    The exception of an item is raised in its place; the next results come after it. An error of the
    inputs, and TimeoutError, are the end. Dropping it cancels what was not sent, as does ``close``.
    """

    # Being a chain, it hands over the results of a chunk without running any Python code.
    __slots__ = ("__weakref__", "_source")
    _source: "_Source"

    def close(self) -> None:
        """Cancel what was not sent, and close the async inputs. There are no more results."""
        self._source.close(wait=True)

    def __del__(self) -> None:
        self._source.drop()

    def __reduce__(self) -> Any:
        raise TypeError("the results of a map cannot be copied or pickled")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._source!r}>"


class _Pumping:
    """A pump at work on the engine's loop."""

    def __init__(self, pump: Pump, spawn: Spawn) -> None:
        self._pump = pump
        self._thread: int | None = None
        self._stopped = Bell()
        coroutine = self._run()
        try:
            self._cancel = spawn(coroutine, pump.give_up)
        except Exception:  # after a Ctrl-C the engine may have it, and finds the flow closed
            coroutine.close()
            raise

    async def _run(self) -> None:
        self._thread = get_ident()
        try:
            await self._pump.run()
        finally:
            self._stopped.ring()

    def stop(self, wait: bool) -> None:
        """Stop reading; ``wait`` until the inputs are closed, unless this is the loop's thread."""
        if self._pump.stopped:
            return
        self._cancel()
        if wait and self._pump.started and self._thread != get_ident():
            self._stopped.wait(_CLOSING)
            if self._pump.stopped:
                self._stopped.ring()  # for another thread that closes


class _Source:
    """Iterates over the chunks' results; what it returns are iterators of results."""

    def __init__(self, flow: Flow, timeout: float | None) -> None:
        self._flow = flow
        self._taker = Taker(flow, timeout, _now)
        self._lock = Lock()
        self._bell = Bell()
        self._reader: Feed | Stash | None = None
        self._rest: Rest | None = None
        self._must_run = False
        self._values: list[Any] = []
        self._current: Iterator[Any] = iter(self._values)
        self._pumping: _Pumping | None = None

    def __repr__(self) -> str:
        return repr(self._flow)

    def begin(self, request: Request, spawn: Spawn | None, rests: Rests | None) -> None:
        """Read the first chunks."""
        flow = self._flow
        if not request.asynchronous:
            self._reader = feed = Feed(flow, request.sync_rows(), _now, self._taker.deadline)
            feed.fill(started=False)
            self._must_run = request.length is not None
            if self._must_run and rests is not None and not flow.ended:
                self._rest = Rest(flow, feed, rests)
            return
        if spawn is None:
            raise RuntimeError("async inputs need an event loop")
        stash = None
        if request.mixed:
            self._reader = stash = Stash(flow, request.sync_rows())
            stash.fill()
        pump = Pump(flow, request.columns, wait_on_loop, stash=stash)
        self._pumping = _Pumping(pump, spawn)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Iterator[Any]:
        with self._lock:
            current = self._current
            if current.__length_hint__():  # type: ignore[attr-defined]
                # Another thread came here at the same time and got the next results. A chain
                # forgets the iterator it had, so both must be given the same one.
                return current
            self._values = []
            try:
                self._values = values = self._advance()
            except BaseException:
                self.close()
                raise
            self._current = current = iterate(values, self._taker.flawed)
            return current

    def _advance(self) -> list[Any]:
        flow = self._flow
        self._must_run = False
        if self._rest is not None:
            self._rest.advance()
            self._rest = None
        taker = self._taker
        taker.begin()
        while True:
            if (reader := self._reader) is not None:
                reader.fill()
            values = taker.take()
            if values is not None:
                return values
            if taker.over():
                raise StopIteration
            seconds = taker.seconds_left()
            # What has arrived concerns a pump, not the stash that gives it rows.
            if flow.expect(self._bell.ring, reads=isinstance(reader, Feed)):
                let_go()
                self._bell.wait(seconds)

    def close(self, wait: bool = False) -> None:
        """Cancel what was not sent; ``wait`` until the async inputs are closed."""
        self._flow.close()
        self._reader = None
        self._values.clear()
        if self._rest is not None:
            self._rest.forget()
        if self._pumping is not None:
            self._pumping.stop(wait)

    def drop(self) -> None:
        """The iterator is gone."""
        if self._must_run and not self._flow.closed:
            self._flow.abandon()
            self._values.clear()
        else:
            self.close()


_now = time.monotonic_ns
