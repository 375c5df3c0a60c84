"""``Pool.map_async``: an asynchronous generator of the results of a map."""

import asyncio
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import suppress
from operator import length_hint
from typing import Any

from pool_client.map_rest import Rest, Rests
from pool_client.mapping.chunking import Policy
from pool_client.mapping.feed import Feed
from pool_client.mapping.flow import Flow, Wake
from pool_client.mapping.pump import Pump
from pool_client.mapping.request import Request
from pool_client.mapping.seam import Chunks
from pool_client.mapping.taking import Failure, Taker
from pool_client.waiting import wait_on_loop


def start(
    chunks: Chunks, request: Request, *, single: bool = False, rests: Rests | None = None
) -> "MapGenerator":
    """Start a map: read and submit its first chunks; async inputs begin when the loop runs.

    Args:
        chunks: where chunks go; the function and the options of its tasks are bound in it.
        request: the checked arguments.
        single: automatic chunks hold one item.
        rests: the pool's collection of maps that are to be run whole at shutdown.

    Returns: the asynchronous generator of the results. Async inputs are read on the loop that runs
    now, or if none does, on the one on which the generator is first used.
    """
    policy = Policy(request.chunksize, request.buffersize, single)
    flow = Flow(chunks, policy, request.ordered, request.length)
    source = _Source(flow, request)
    try:
        source.begin(rests)
        return MapGenerator(source)
    except BaseException:
        flow.close()
        raise


class MapGenerator(AsyncGenerator[Any, None]):
    """The results of a map, on one event loop.

    The exception of an item is raised in its place; the next results come after it. An error of the
    inputs, TimeoutError, being cancelled and what is thrown in are the end. Dropping it cancels
    what was not sent, as does ``aclose``.
    """

    # A native generator is finished by what it raises, so each exception of an item uses one up.
    # That its ``__anext__`` is an attribute of this object lets a loop over the results call it
    # without running any Python code.
    __slots__ = ("__anext__", "__weakref__", "_native", "_source")
    __anext__: Callable[[], Coroutine[Any, Any, Any]]

    def __init__(self, source: "_Source") -> None:
        self._source = source
        self._renew()
        source.reference = weakref.ref(self)

    def _renew(self) -> None:
        """Have a new native generator go on."""
        native = _results(self._source)
        # Run to its first yield, so that its loop knows it, and whatever ends it runs ``finally``.
        with suppress(StopIteration):
            native.__anext__().__await__().__next__()
        self._native = native
        self.__anext__ = native.__anext__
        self._source.watch(native)

    def asend(self, value: None, /) -> Coroutine[Any, Any, Any]:
        """As ``__anext__``; the value is ignored."""
        return self._native.asend(value)

    def athrow(self, *error: Any) -> Coroutine[Any, Any, Any]:
        """Raise an exception where the results are taken. There are no more of them."""
        return self._native.athrow(*error)

    async def aclose(self) -> None:
        """Cancel what was not sent, and close the async inputs. There are no more results."""
        await self._native.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._source!r}>"


async def _results(source: "_Source | None") -> AsyncGenerator[Any, None]:
    assert source is not None
    try:
        yield None
        await source.advance()
        while (values := await source.next()) is not None:
            if not source.flawed:
                for value in values:
                    yield value
                continue
            for value in values:
                if type(value) is not Failure:
                    yield value
                    continue
                if source.go_on():
                    # Another generator does. And the exception, which has this frame in its
                    # traceback, must not keep the map alive.
                    source = values = None
                value.throw()
    finally:
        value = None
        if source is not None:
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
        self._values: Iterator[Any] = iter(())
        self._turn = _now() + _TURN
        self._watched: weakref.ref[Any] | None = None
        self.reference: weakref.ref[MapGenerator] | None = None

    def __repr__(self) -> str:
        return repr(self._flow)

    @property
    def flawed(self) -> bool:
        """Whether there are failures among the values that ``next`` gave."""
        return self._taker.flawed

    def watch(self, native: object) -> None:
        """Drop this when the native generator is gone: its loop may never run its ``finally``."""
        # The generator refers to this, so this must not refer to the generator.
        self._watched = weakref.ref(native, self.drop)

    def go_on(self) -> bool:
        """Have another native generator give the rest; False if nobody could take it."""
        if self.reference is None or (generator := self.reference()) is None:
            return False
        generator._renew()
        return True

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
        _pumps.add(self._pumping)
        self._pumping.add_done_callback(_pumps.discard)
        # It may be cancelled before it begins.
        self._pumping.add_done_callback(lambda _: pump.give_up())

    async def advance(self) -> None:
        """The generator is used for the first time."""
        self._must_run = False
        if self._rest is not None:
            await self._rest.advance_async()
            self._rest = None
        if self._request.asynchronous and self._pumping is None:
            self._start_pump()

    async def next(self) -> Iterator[Any] | None:
        """Results to give, or None at the end. What was given before counts as taken."""
        taker = self._taker
        if length_hint(self._values):
            return self._values  # what the generator before this one left
        if _now() > self._turn:
            # Where results are always there, nothing else here would ever suspend.
            await asyncio.sleep(0)
            self._turn = _now() + _TURN
        taker.begin()
        while True:
            if self._feed is not None:
                self._feed.fill()
            values = taker.take()
            if values is not None:
                self._values = iter(values)
                return self._values
            if taker.over():
                return None
            await wait_on_loop(self._expect, taker.seconds_left())

    def _expect(self, wake: Wake) -> bool:
        return self._flow.expect(wake, reads=self._feed is not None)

    async def stop(self) -> None:
        """The map ended, was closed, or the generator is gone."""
        self._watched = None
        if self._must_run and self.reference is not None and self.reference() is None:
            # Gone without being used: a weak reference dies before the generator is finalized.
            self._flow.abandon()
            return
        self._close()
        if self._pumping is not None and not self._pumping.done():
            self._pumping.cancel()
            await asyncio.wait([self._pumping])

    def drop(self, _: object = None) -> None:
        """The generator is gone; from any thread, also when the loop is."""
        self._watched = None
        if self._must_run and not self._flow.closed:
            self._flow.abandon()
            return
        self._close()
        if self._pumping is not None and not self._pumping.done():
            with suppress(RuntimeError):  # the loop is closed
                self._pumping.get_loop().call_soon_threadsafe(self._pumping.cancel)

    __del__ = drop

    def _close(self) -> None:
        self._flow.close()
        self._feed = None
        self._values = iter(())
        if self._rest is not None:
            self._rest.forget()


_now = time.monotonic_ns

#: For so long, in ns, others on the loop may wait for their turn while results are taken.
_TURN = 10_000_000

#: Pumps at work: a loop itself holds its tasks weakly, and the collector would take them.
_pumps: set[asyncio.Task[None]] = set()
