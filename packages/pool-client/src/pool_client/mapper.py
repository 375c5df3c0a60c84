"""``map`` bound to a pool: checked arguments, chunks into the engine, loops for async inputs."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from pool_client.chunk_tasks import Answers, Chunk
from pool_client.core import Core
from pool_client.map_async import start as start_async
from pool_client.map_sync import start as start_sync
from pool_client.mapping import Request, check
from pool_client.scheduling.tasks import Function, Terms


class BoundChunks:
    """Chunks of one function's calls, on their way into the engine."""

    def __init__(
        self, owner: object, core: Core, function: Function, star: bool, terms: Terms
    ) -> None:
        # A pool ends with its last reference; a map that goes on is one.
        self._owner = owner
        self._core = core
        self._function = function
        self._star = star
        self._terms = terms

    @property
    def workers(self) -> int:
        """How many workers the pool has or will have."""
        engine = self._core.engine
        return max(1, self._core.options.workers if engine is None else engine.fleet.wanted)

    @property
    def delay(self) -> float:
        """The round trip to a worker, on average over them, in ns."""
        engine = self._core.engine
        if engine is None:
            return 0.0
        hosts = [(runner.host.delay, runner.wanted) for runner in engine.fleet.runners]
        return sum(delay * wanted for delay, wanted in hosts) / self.workers

    def submit_chunk(self, items: list[Any], done: Callable[[Answers], None]) -> Chunk:
        """Pack a chunk in this thread and queue it."""
        core = self._core
        engine = core.working()
        chunk = Chunk(items, self._function, self._star, self._terms, core.serializer, done)
        for task in chunk.tasks(core.options.max_message):
            engine.submit(task)
        return chunk


def _spawn(
    core: Core, coroutine: Coroutine[Any, Any, None], over: Callable[[], None]
) -> Callable[[], None]:
    """Run a coroutine on the engine's loop. Raises RuntimeError when the engine has ended."""
    engine = core.working()
    tasks: list[asyncio.Task[None]] = []

    def begin() -> None:
        task = engine.loop.create_task(coroutine)
        task.add_done_callback(lambda _: over())
        tasks.append(task)
        engine.keep(task)

    def stop() -> None:
        for task in tasks:
            task.cancel()

    def cancel() -> None:
        with suppress(RuntimeError):  # the loop is closed
            engine.loop.call_soon_threadsafe(stop)

    # Not to the loop itself: a loop that is about to end takes it, and never gets to it.
    engine.submit(begin)
    return cancel


def _bind(
    owner: object,
    core: Core,
    terms: Terms,
    func: Any,
    iterables: tuple[Any, ...],
    options: dict[str, Any],
) -> tuple[BoundChunks, Request]:
    """Check what was asked for, and that the pool can do it."""
    request = check(func, iterables, **options)
    core.working()
    return BoundChunks(owner, core, core.functions.get(func), request.star, terms), request


def start_map(
    owner: object,
    core: Core,
    terms: Terms,
    func: Any,
    iterables: tuple[Any, ...],
    options: dict[str, Any],
) -> Iterator[Any]:
    """`Pool.map`."""
    chunks, request = _bind(owner, core, terms, func, iterables, options)
    return start_sync(
        chunks,
        request,
        single=terms.retries == 0,
        spawn=partial(_spawn, core),
        rests=core.rests,
    )


def start_map_async(
    owner: object,
    core: Core,
    terms: Terms,
    func: Any,
    iterables: tuple[Any, ...],
    options: dict[str, Any],
) -> AsyncIterator[Any]:
    """`Pool.map_async`."""
    chunks, request = _bind(owner, core, terms, func, iterables, options)
    return start_async(chunks, request, single=terms.retries == 0, rests=core.rests)
