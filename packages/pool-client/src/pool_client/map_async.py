"""``Pool.map_async``: an async generator of the results of a map."""

import asyncio
import time
import weakref
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from pool_client.map_rest import Rest, Rests
from pool_client.mapping.chunking import Policy
from pool_client.mapping.feed import Feed
from pool_client.mapping.flow import Flow, Wake
from pool_client.mapping.pump import Pump
from pool_client.mapping.request import Request
from pool_client.mapping.seam import Chunks
from pool_client.mapping.taking import Taker
from pool_client.waiting import wait_on_loop


def start(
    chunks: Chunks, request: Request, *, single: bool = False, rests: Rests | None = None
) -> AsyncGenerator[Any, None]:
    """Start a map: read and submit its first chunks; async inputs begin when the loop runs.

    Args:
        chunks: where chunks go; the function and the options of its tasks are bound in it.
        request: the checked arguments.
        single: automatic chunks hold one item.
        rests: the pool's collection of maps that are to be run whole at shutdown.

    Returns: the async generator of the results. Async inputs are read on the loop that runs now,
    or if none does, on the one on which the generator is first used.
    """
    policy = Policy(request.chunksize, request.buffersize, single)
    flow = Flow(chunks, policy, request.ordered, request.length)
    source = _Source(flow, request)
    results = _results(source)
    try:
        source.begin(rests)
        _prime(results)
    except BaseException:
        flow.close()
        raise
    source.reference = weakref.ref(results)
    return results


def _prime(results: AsyncGenerator[Any, None]) -> None:
    """Run a generator to its first yield, so that whatever ends it runs its ``finally``."""
    with suppress(StopIteration):
        results.__anext__().__await__().__next__()


async def _results(source: "_Source") -> AsyncGenerator[Any, None]:
    try:
        yield None
        await source.advance()
        while (values := await source.next()) is not None:
            for value in values:
                yield value
    finally:
        await source.stop()


class _Source:
    """Gives the results chunk by chunk."""

    def __init__(self, flow: Flow, request: Request) -> None:
        self._flow = flow
        self._request = request
        self._taker = Taker(flow, request.timeout, _now)
        self._feed: Feed | None = None
        self._rest: Rest | None = None
        self._must_run = False
        self._pumping: asyncio.Task[None] | None = None
        self.reference: weakref.ref[Any] | None = None

    def begin(self, rests: Rests | None) -> None:
        """Read the first chunks."""
        request, flow = self._request, self._flow
        if request.asynchronous:
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                return
            self._start_pump()
            return
        self._feed = Feed(flow, request.sync_rows(), _now, self._taker.deadline)
        self._feed.fill(started=False)
        self._must_run = request.length is not None
        if self._must_run and rests is not None and not flow.ended:
            self._rest = Rest(flow, self._feed, rests)

    def _start_pump(self) -> None:
        rows = self._request.sync_rows() if self._request.mixed else None
        pump = Pump(self._flow, self._request.columns, wait_on_loop, rows=rows)
        self._pumping = asyncio.get_running_loop().create_task(pump.run())

    async def advance(self) -> None:
        """The generator is used for the first time."""
        self._must_run = False
        if self._rest is not None:
            await self._rest.advance_async()
            self._rest = None
        if self._request.asynchronous and self._pumping is None:
            self._start_pump()

    async def next(self) -> list[Any] | None:
        """The results of a chunk, or None at the end. What was given before counts as taken."""
        taker = self._taker
        taker.begin()
        while True:
            if self._feed is not None:
                self._feed.fill()
            values = taker.take()
            if values is not None:
                return values
            if taker.over():
                return None
            await wait_on_loop(self._expect, taker.seconds_left())

    def _expect(self, wake: Wake) -> bool:
        return self._flow.expect(wake, reads=self._feed is not None)

    async def stop(self) -> None:
        """The generator ended, was closed, or is gone."""
        if self._must_run and self.reference is not None and self.reference() is None:
            # Gone without being used: a weak reference dies before the generator is finalized.
            self._flow.abandon()
            return
        self._flow.close()
        self._feed = None
        if self._rest is not None:
            self._rest.forget()
        if self._pumping is not None and not self._pumping.done():
            self._pumping.cancel()
            await asyncio.wait([self._pumping])


_now = time.monotonic_ns
