"""A pool as a stage of an eventkit pipe. Importing this module gives every event ``poolmap``.

import eventkit as ev
import pool_client.poolmap

await ev.Sequence(data).poolmap(pool, bz2.compress).map(len).mean().last()
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from eventkit import Event, Op
from eventkit.util import get_event_loop

from pool_client.mapper import BoundChunks
from pool_client.mapping import Flow, Policy, check
from pool_client.mapping.flow import Part, Wake
from pool_client.mapping.pump import Pump
from pool_client.view import View
from pool_client.waiting import wait_on_loop


class PoolMap(Op):  # type: ignore[misc]  # eventkit has no annotations
    """Calls a function on a pool's workers with everything that the source emits.

    What the source emits at once are the arguments of one call. Work starts with the emit, and
    emits the result when it is there. An error is emitted by ``error_event``, in its place, and the
    pipe goes on. The pipe ends after the source has, when all results are out.

    Args:
        pool: a `Pool`, or what its `options` returns.
        func: any callable that the pool can run.
        timeout: seconds from the connection to the source (or, where no loop runs then, from the
            first emit) for all results; after that TimeoutError is emitted and the pipe ends.
        chunksize: most calls in one message; None adapts to the time they take. Calls wait for
            each other only as long as the source does not pause.
        ordered: results in the order of the emits, or as they come.
        source: the event to connect to.

    Raises:
        TypeError, ValueError: a bad argument.
        RuntimeError: the pool was shut down.
    """

    def __init__(
        self,
        pool: View,
        func: Callable[..., Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        ordered: bool = True,
        source: Event | None = None,
    ) -> None:
        self._emits = Emits()
        request = check(
            func, (self._emits,), timeout=timeout, chunksize=chunksize, ordered=ordered, star=True
        )
        core, terms = pool._core, pool._terms
        core.working()
        self._flow = Flow(
            BoundChunks(pool, core, core.functions.get(func), request.star, terms),
            Policy(request.chunksize, None, terms.retries == 0),
            request.ordered,
        )
        self._limit = request.timeout
        self._running: asyncio.Task[None] | None = None
        super().__init__(source)

    def _connect_from(self, source: Event) -> None:
        super()._connect_from(source)
        if not self.done() and asyncio._get_running_loop() is not None:
            self._start()

    def on_source(self, *args: Any) -> None:
        """The source emits."""
        if not self.done():
            self._start()
            self._emits.put(args)

    def on_source_done(self, source: Event) -> None:
        """The source has ended."""
        self._disconnect_from(source)
        self._source = None
        self._emits.end()
        if self._running is None:
            self.set_done()

    def _start(self) -> None:
        if self._running is None:
            self._running = get_event_loop().create_task(self._run())

    async def _run(self) -> None:
        flow = self._flow
        pump = Pump(flow, (self._emits,), wait_on_loop)
        pumping = asyncio.get_running_loop().create_task(pump.run())
        # It may be cancelled before it begins.
        pumping.add_done_callback(lambda _: pump.give_up())
        try:
            async with asyncio.timeout(self._limit):
                await self._emit_all()
        except TimeoutError:
            text = f"poolmap took longer than its timeout of {self._limit:g} s"
            self.on_source_error(self, TimeoutError(text))
        finally:
            flow.close()
            pumping.cancel()
            if self._source is not None:
                self._disconnect_from(self._source)
                self._source = None
        self.set_done()

    async def _emit_all(self) -> None:
        flow = self._flow
        while not flow.finished:
            part = flow.take()
            if part is None:
                await wait_on_loop(self._expect)
            else:
                flow.count_taken(part.count)
                self._emit_part(part)
                await asyncio.sleep(0)
        if flow.error is not None:
            self.on_source_error(self, flow.error)

    def _expect(self, wake: Wake) -> bool:
        return self._flow.expect(wake, reads=False)

    def _emit_part(self, part: Part) -> None:
        assert part.delivery is not None
        try:
            result = part.delivery.result()
        except Exception as error:
            self.on_source_error(self, error)
            return
        for place, value in enumerate(result.values):
            if place in result.failed:
                self.on_source_error(self, value)
            else:
                self.emit(value)


class Emits:
    """What a source emitted, to be read as it comes. Made and used on one loop."""

    def __init__(self) -> None:
        self._rows: deque[tuple[Any, ...]] = deque()
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None

    def put(self, row: tuple[Any, ...]) -> None:
        """The source emitted these values."""
        self._rows.append(row)
        self._wake()

    def end(self) -> None:
        """The source has ended."""
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def __aiter__(self) -> "Emits":
        return self

    async def __anext__(self) -> tuple[Any, ...]:
        """The next row. Suspends only where the source pauses, which is when chunks are sent."""
        while not self._rows:
            if self._ended:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._rows.popleft()


def _poolmap(
    self: Event,
    pool: View,
    func: Callable[..., Any],
    timeout: float | None = None,
    chunksize: int | None = None,
    ordered: bool = True,
) -> PoolMap:
    """Call ``func`` on a pool's workers with everything that this event emits; see `PoolMap`."""
    return PoolMap(pool, func, timeout, chunksize, ordered, self)


Event.poolmap = _poolmap
