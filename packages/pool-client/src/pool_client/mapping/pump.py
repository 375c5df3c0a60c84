"""Async inputs, alone or mixed with sync ones: read one by one into the flow, as they come.

The pump runs on the loop where the async inputs belong. What it has read is submitted when it fills
a chunk, and at once when an input pauses.
"""

import types
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import suppress
from typing import Any

from pool_client.mapping.flow import Flow, Wake
from pool_client.mapping.request import is_async
from pool_client.mapping.stash import Stash

#: Waits on the pump's loop: given a function that arranges for a wake-up (and says whether there
#: is anything to wait for), it returns once that came.
Wait = Callable[[Callable[[Wake], bool]], Awaitable[None]]


@types.coroutine
def drive(
    coroutine: Coroutine[Any, Any, None], on_pause: Callable[[], None]
) -> Generator[Any, Any, None]:
    """Await a coroutine; call ``on_pause`` whenever anything in it suspends, before that is seen.

    So noticing a pause costs nothing for inputs that do not pause.
    """
    step: Callable[[], Any] = lambda: coroutine.send(None)  # noqa: E731
    while True:
        try:
            yielded = step()
        except StopIteration:
            return
        on_pause()
        try:
            sent = yield yielded
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as error:
            step = _thrower(coroutine, error)
        else:
            step = _sender(coroutine, sent)


def _sender(coroutine: Coroutine[Any, Any, None], value: Any) -> Callable[[], Any]:
    return lambda: coroutine.send(value)


def _thrower(coroutine: Coroutine[Any, Any, None], error: BaseException) -> Callable[[], Any]:
    return lambda: coroutine.throw(error)


class Pump:
    """Reads columns, of which one at least is asynchronous, into a flow.

    The sync columns among them come zipped: from ``stash``, where another thread reads them, or
    from ``rows``, read here.
    """

    def __init__(
        self,
        flow: Flow,
        columns: tuple[Any, ...],
        wait: Wait,
        rows: Iterator[Any] | None = None,
        stash: Stash | None = None,
    ) -> None:
        self._flow = flow
        self._columns = columns
        self._wait = wait
        self._rows = rows
        self._stash = stash
        self._pending: list[Any] = []
        self._limit = 0
        self._opened: list[AsyncIterator[Any]] = []
        self.started = False
        self.stopped = False

    async def run(self) -> None:
        """Read until the inputs end, or the flow is closed. Closes what it opened."""
        self.started = True
        try:
            await drive(self._read(), self._flush)
        finally:
            self.give_up()
            try:
                for column in self._opened:
                    if (aclose := getattr(column, "aclose", None)) is not None:
                        with suppress(Exception):
                            await aclose()
            finally:
                self.stopped = True

    def give_up(self) -> None:
        """It does not run, perhaps never did: what was read before is all, unless that is known."""
        self._flow.end(RuntimeError("the pool was shut down while it read an input of map"))

    async def _read(self) -> None:
        error: BaseException | None = None
        try:
            self._opened.extend(aiter(column) for column in self._columns if is_async(column))
            await self._room()
            if len(self._columns) == 1:
                await self._read_one(self._opened[0])
            else:
                await self._read_rows()
        except (Exception, SystemExit) as caught:
            # The loop may be the engine's: what an input asks for is for whoever takes results.
            error = caught
        self._flush()
        self._flow.end(error)

    async def _read_one(self, column: AsyncIterator[Any]) -> None:
        pending = self._pending
        async for item in column:
            pending.append(item)
            if len(pending) >= self._limit:
                self._flush()
                await self._room()

    async def _read_rows(self) -> None:
        opened = iter(self._opened)
        readers = [next(opened).__anext__ if is_async(one) else None for one in self._columns]
        mixed = None in readers
        while True:
            sync_row = await self._sync_row() if mixed else ()
            if sync_row is None:
                return
            sync = iter(sync_row)
            row = []
            for reader in readers:
                if reader is None:
                    row.append(next(sync))
                    continue
                try:
                    row.append(await reader())
                except StopAsyncIteration:
                    return
            self._pending.append(tuple(row))
            if len(self._pending) >= self._limit:
                self._flush()
                await self._room()

    async def _sync_row(self) -> tuple[Any, ...] | None:
        """The next row of the sync columns; None at their end."""
        stash = self._stash
        if stash is None:
            assert self._rows is not None
            return next(self._rows, None)
        while not stash.rows:
            if stash.ended:
                if stash.error is not None:
                    raise stash.error
                return None
            if self._flow.closed:
                raise StopReading
            await self._wait(stash.expect)
        row: tuple[Any, ...] = stash.rows.popleft()
        return row

    async def _room(self) -> None:
        """Wait until more may be read."""
        flow = self._flow
        while not (limit := flow.quota()):
            if flow.closed or flow.ended:
                raise StopReading
            await self._wait(flow.expect_room)
        self._limit = limit

    def _flush(self) -> None:
        """Submit what was read."""
        if self._pending:
            items = self._pending.copy()
            self._pending.clear()
            # What was allowed to be read and was not, still may be.
            self._limit -= len(items)
            self._flow.submit(items)


class StopReading(Exception):
    """The flow takes no more."""
