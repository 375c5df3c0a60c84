"""The contestants behind one small interface, each in its best reasonable configuration.

The blocking ones are used as their users use them. The asynchronous ones share one event loop,
uvloop where it is installed; the loop stands still while another contestant has its turn.
"""

import asyncio
import multiprocessing
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pool_client import Pool

from .tasks import hold

WORKERS = 2
BURST = 10_000
"""Tasks that `repeat` submits before it lets the event loop have a turn."""
EXECUTOR = "ProcessPoolExecutor"
MULTIPROCESSING = "multiprocessing.Pool"
LOKY = "loky"
DISTEX = "distex"
DISTEX_100 = "distex qsize=100"
OURS = "Pool"
MACHINE = "the machine"
COLUMNS = (MACHINE, EXECUTOR, MULTIPROCESSING, LOKY, DISTEX, DISTEX_100, OURS)

Result = TypeVar("Result")


class Peer(Protocol):
    """A started pool."""

    def singles(self, func: Callable[[int], int], count: int) -> int:
        """Submit `count` tasks, then wait for each one's own future; return the sum."""

    def call(self, func: Callable[..., Any], *args: Any) -> Any:
        """Run one task and return its result."""

    def together(self, func: Callable[..., Any], argument: Any, count: int) -> list[Any]:
        """Run `count` equal tasks at the same time and return the results."""

    def map(
        self, func: Callable[[Any], Any], items: Iterable[Any], chunksize: int | None
    ) -> Iterable[Any]:
        """Map with the given chunksize, or with the pool's own default."""

    def close(self) -> None:
        """End the pool."""


class ExecutorPeer:
    """Any `concurrent.futures.Executor`: ProcessPoolExecutor, loky's, or our own pool."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    def singles(self, func: Callable[[int], int], count: int) -> int:
        """As `Peer.singles`."""
        submit = self.executor.submit
        futures = deque([submit(func, number) for number in range(count)])
        total = 0
        while futures:
            total += futures.popleft().result()
        return total

    def call(self, func: Callable[..., Any], *args: Any) -> Any:
        """As `Peer.call`."""
        return self.executor.submit(func, *args).result()

    def together(self, func: Callable[..., Any], argument: Any, count: int) -> list[Any]:
        """As `Peer.together`."""
        futures = [self.executor.submit(func, argument) for _ in range(count)]
        return [future.result() for future in futures]

    def map(
        self, func: Callable[[Any], Any], items: Iterable[Any], chunksize: int | None
    ) -> Iterator[Any]:
        """As `Peer.map`."""
        if chunksize is None:
            return self.executor.map(func, items)
        return self.executor.map(func, items, chunksize=chunksize)

    def close(self) -> None:
        """End the pool."""
        self.executor.shutdown()


class MultiprocessingPeer:
    """`multiprocessing.Pool`."""

    def __init__(self, workers: int) -> None:
        self.pool = multiprocessing.Pool(workers)

    def singles(self, func: Callable[[int], int], count: int) -> int:
        """As `Peer.singles`."""
        apply = self.pool.apply_async
        results = deque([apply(func, (number,)) for number in range(count)])
        total = 0
        while results:
            total += results.popleft().get()
        return total

    def call(self, func: Callable[..., Any], *args: Any) -> Any:
        """As `Peer.call`."""
        return self.pool.apply(func, args)

    def together(self, func: Callable[..., Any], argument: Any, count: int) -> list[Any]:
        """As `Peer.together`."""
        return self.pool.map(func, [argument] * count, chunksize=1)

    def map(
        self, func: Callable[[Any], Any], items: Iterable[Any], chunksize: int | None
    ) -> Iterable[Any]:
        """As `Peer.map`."""
        # Its fastest form: all the results at once, none before the last.
        return self.pool.map(func, items, chunksize)

    def close(self) -> None:
        """End the pool."""
        self.pool.terminate()
        self.pool.join()


class Loop:
    """An event loop that runs only while it is asked to; uvloop where it is installed."""

    def __init__(self) -> None:
        try:
            import uvloop
        except ImportError:
            self.loop = asyncio.new_event_loop()
        else:
            self.loop = uvloop.new_event_loop()
        # distex takes the loop that is set, not the one that runs.
        asyncio.set_event_loop(self.loop)

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine to its end and return its result."""
        return self.loop.run_until_complete(work)


class DistexPeer:
    """distex, whose `run_async` is a coroutine, and whose blocking methods run the loop."""

    def __init__(self, loop: Loop, workers: int, qsize: int | None = None) -> None:
        import distex

        root, programs = str(Path(__file__).parents[1]), str(Path(sys.executable).parent)
        for name, entry in (("PYTHONPATH", root), ("PATH", programs)):
            known = os.environ.get(name, "")
            if entry not in known.split(os.pathsep):
                os.environ[name] = f"{entry}{os.pathsep}{known}" if known else entry
        self.loop = loop
        self.pool = distex.Pool(workers) if qsize is None else distex.Pool(workers, qsize=qsize)

    def singles(self, func: Callable[[int], int], count: int) -> int:
        """As `Peer.singles`."""
        return self.loop.run(self._singles(func, count))

    async def _singles(self, func: Callable[[int], int], count: int) -> int:
        create, run = self.loop.loop.create_task, self.pool.run_async
        tasks = deque([create(run(func, number)) for number in range(count)])
        total = 0
        while tasks:
            total += await tasks.popleft()
        return total

    def call(self, func: Callable[..., Any], *args: Any) -> Any:
        """As `Peer.call`."""
        return self.pool.run(func, *args)

    async def call_async(self, func: Callable[..., Any], *args: Any) -> Any:
        """Run one task, awaited."""
        return await self.pool.run_async(func, *args)

    def together(self, func: Callable[..., Any], argument: Any, count: int) -> list[Any]:
        """As `Peer.together`."""
        return list(self.pool.map(func, [argument] * count))

    def map(
        self, func: Callable[[Any], Any], items: Iterable[Any], chunksize: int | None
    ) -> Iterable[Any]:
        """As `Peer.map`."""
        if chunksize is None:
            return self.pool.map(func, items)  # type: ignore[no-any-return]
        return self.pool.map(func, items, chunksize=chunksize)  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the pool."""
        self.pool.shutdown()


class AsyncPoolPeer:
    """Our pool on the caller's own event loop: no thread, no hop."""

    def __init__(self, loop: Loop, workers: int, **settings: Any) -> None:
        self.loop = loop
        self.pool = loop.run(self._open(workers, settings))

    async def _open(self, workers: int, settings: dict[str, Any]) -> Pool:
        return await Pool(workers, **settings).__aenter__()

    def call(self, func: Callable[..., Any], *args: Any) -> Any:
        """As `Peer.call`."""
        return self.loop.run(self.call_async(func, *args))

    def map(
        self, func: Callable[[Any], Any], items: Iterable[Any], chunksize: int | None
    ) -> Iterable[Any]:
        """As `Peer.map`; the loop runs only during the call, so all results come at once."""
        return self.loop.run(self._map(func, items, chunksize))

    async def _map(
        self, func: Callable[[Any], Any], items: Iterable[Any], chunksize: int | None
    ) -> list[Any]:
        return [result async for result in self.pool.map_async(func, items, chunksize=chunksize)]

    def singles(self, func: Callable[[int], int], count: int) -> int:
        """As `Peer.singles`."""
        return self.loop.run(self._singles(func, count))

    async def _singles(self, func: Callable[[int], int], count: int) -> int:
        run = self.pool.run_async
        futures = deque([run(func, number) for number in range(count)])
        total = 0
        while futures:
            total += await futures.popleft()
        return total

    def repeat(self, func: Callable[[Any], Any], argument: Any, count: int) -> None:
        """Submit `count` equal single tasks and await each."""
        self.loop.run(self._repeat(func, argument, count))

    async def _repeat(self, func: Callable[[Any], Any], argument: Any, count: int) -> None:
        run = self.pool.run_async
        futures: deque[Any] = deque()
        for number in range(count):
            futures.append(run(func, argument))
            if not number % BURST:
                await asyncio.sleep(0)  # the workers begin while the rest is submitted
        while futures:
            await futures.popleft()

    async def call_async(self, func: Callable[..., Any], *args: Any) -> Any:
        """Run one task, awaited."""
        return await self.pool.run_async(func, *args)

    def together(self, func: Callable[..., Any], argument: Any, count: int) -> list[Any]:
        """As `Peer.together`."""
        return self.loop.run(self._together(func, argument, count))

    async def _together(self, func: Callable[..., Any], argument: Any, count: int) -> list[Any]:
        futures = [self.pool.run_async(func, argument) for _ in range(count)]
        return [await future for future in futures]

    def close(self) -> None:
        """End the pool."""
        self.loop.run(self.pool.__aexit__(None, None, None))


def start_executor(workers: int = WORKERS) -> ExecutorPeer:
    """Start a ProcessPoolExecutor."""
    return ExecutorPeer(ProcessPoolExecutor(workers))


def start_loky(workers: int = WORKERS) -> ExecutorPeer:
    """Start loky's executor."""
    import loky

    return ExecutorPeer(loky.ProcessPoolExecutor(max_workers=workers))


def start_ours(workers: int = WORKERS) -> ExecutorPeer:
    """Start our pool for blocking use: its engine lives in a thread."""
    return ExecutorPeer(Pool(workers))


def blocking(loop: Loop) -> dict[str, Callable[[], Peer]]:
    """Return what starts each contestant for blocking use, those that fork first.

    A process forked from one without threads and other pools' sockets is the peers' best case.
    """
    return {
        EXECUTOR: start_executor,
        MULTIPROCESSING: partial(MultiprocessingPeer, WORKERS),
        LOKY: start_loky,
        DISTEX: partial(DistexPeer, loop, WORKERS),
        OURS: start_ours,
    }


@contextmanager
def opened(starters: Mapping[str, Callable[[], Peer]]) -> Iterator[dict[str, Peer]]:
    """Start contestants one after the other, with a few tasks for each worker; end them all."""
    with ExitStack() as stack:
        peers = {}
        for name, start in starters.items():
            peers[name] = start()
            stack.callback(peers[name].close)
            workers_of(peers[name])
        yield peers


def workers_of(peer: Peer, workers: int = WORKERS, patience: float = 20.0) -> list[int]:
    """Return the process ids of the workers, once as many as asked for have run a task.

    Raises TimeoutError when they do not all turn up.
    """
    deadline = time.monotonic() + patience
    found: set[int] = set()
    while len(found) < workers:
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {len(found)} of {workers} workers ran a task")
        found.update(peer.together(hold, 0.005, workers))
    return sorted(found)
