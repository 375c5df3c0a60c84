"""``Pool``: the facade."""

import asyncio
import concurrent.futures
import os
import weakref
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import Any, Self

from pool_client.core import Core
from pool_client.futures import let_go
from pool_client.info import HostInfo, Stats, WorkerInfo, host_info, made_of, stats, worker_info
from pool_client.options import (
    CONNECT_TIMEOUT,
    MIN_MESSAGE,
    RETRIES,
    Options,
    address,
    choice,
    count,
    resolve_access,
    resolve_hosts,
    resolve_initargs,
    resolve_loop,
    resolve_paths,
    resolve_port,
    seconds,
)
from pool_client.ready import Ready
from pool_client.scheduling.tasks import Terms
from pool_client.view import View
from pool_protocol import LoopType, PickleType


class Pool(View, concurrent.futures.Executor):
    """A process pool on this machine and on others.

    A ``concurrent.futures.Executor``, and more: see the methods. Use it with ``with``, with
    ``async with`` (then it lives on the running loop), or close it with `shutdown`.

    Args:
        num_workers: local workers; None: as many as this process may use CPUs; with hosts, 0 is
            none.
        hosts: where other workers are: ``local/4``, ``ssh://user@host/8``, ``host:8899/8``;
            ``auto`` in place of the number is one for each CPU.
        qsize: tasks in a worker's hands, the running one included; None adapts.
        initializer: called with ``initargs`` in each worker before its first task.
        localhost: the address at which this machine listens for LAN hosts; all by default.
        localport: the port there; 0: any.
        lazy_create: start workers at first use instead of now.
        worker_loop: the event loop for asynchronous tasks.
        func_pickle: serializer for functions.
        data_pickle: serializer for arguments and results.
        max_workers: another name for ``num_workers``, as in ``ProcessPoolExecutor``.
        retries: how often a task that had started is tried again when its worker is lost.
        task_timeout: seconds that a call may run; None: as long as it likes.
        connect_timeout: seconds for all workers to come up.
        min_workers: be content with so many when that time is over.
        max_tasks_per_child: replace a worker after so many calls.
        max_message: largest message in bytes, at least 4096; None: no limit.
        ssh_command: the ssh program, with its first arguments if need be.
        advertise: the address at which LAN hosts reach this machine; None: found out.
        credential: path of the credential for LAN hosts; None: where ``pool_spawner init`` puts it.
        ssl_context: in place of a credential, a function that makes an ``ssl.SSLContext`` for an
            ``ssl.Purpose``.
        code_paths: folders whose modules workers on other hosts may ask for, besides the
            script's folder and the working directory.

    Raises:
        ValueError, TypeError: a bad argument.
        ImportError, RuntimeError: ``worker_loop`` or a serializer needs what is not here.
        pickle.PicklingError: the initializer, or what is in ``initargs``, cannot be sent.
        HostError, PoolBroken: workers could not be started; the text says where and why.
    """

    TimeoutError = TimeoutError

    def __init__(
        self,
        num_workers: int | None = None,
        hosts: str | Sequence[str] | None = None,
        qsize: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Sequence[Any] = (),
        localhost: str = "",
        localport: int = 0,
        lazy_create: bool = False,
        worker_loop: LoopType | int = LoopType.default,
        func_pickle: PickleType | int = PickleType.cloudpickle,
        data_pickle: PickleType | int = PickleType.pickle,
        *,
        max_workers: int | None = None,
        retries: int = RETRIES,
        task_timeout: float | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        min_workers: int | None = None,
        max_tasks_per_child: int | None = None,
        max_message: int | None = None,
        ssh_command: str | Sequence[str] = "ssh",
        advertise: str | None = None,
        credential: str | os.PathLike[str] | None = None,
        ssl_context: Any = None,
        code_paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    ) -> None:
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer must be callable, not {initializer!r}")
        again = count("retries", retries, 0)
        options = Options(
            hosts=resolve_hosts(num_workers, max_workers, hosts),
            qsize=count("qsize", qsize, 1),
            initializer=initializer,
            initargs=resolve_initargs(initargs),
            worker_loop=resolve_loop(worker_loop),
            func_pickle=choice("func_pickle", PickleType, func_pickle),
            data_pickle=choice("data_pickle", PickleType, data_pickle),
            retries=RETRIES if again is None else again,
            task_timeout=seconds("task_timeout", task_timeout),
            connect_timeout=seconds("connect_timeout", connect_timeout) or CONNECT_TIMEOUT,
            min_workers=count("min_workers", min_workers, 0),
            max_tasks_per_child=count("max_tasks_per_child", max_tasks_per_child, 1),
            max_message=count("max_message", max_message, MIN_MESSAGE),
            access=resolve_access(ssh_command, advertise, credential, ssl_context),
            localhost=address("localhost", localhost),
            localport=resolve_port(localport),
            code_paths=resolve_paths(code_paths),
        )
        self._core = Core(options)
        self._terms = Terms(options.retries, options.task_timeout)
        self._finalizer = weakref.finalize(self, Core.dropped, self._core)
        self._finalizer.atexit = False
        if not lazy_create and not _loop_is_running():
            self.create()

    def __repr__(self) -> str:
        core = self._core
        engine = core.engine
        if engine is None:
            hosts = ", ".join(f"{h.name}/{h.workers or 'auto'}" for h in core.options.hosts)
            return f"<Pool {hosts or 'no hosts'}: {core.state or 'not created'}>"
        scheduler = engine.scheduler
        ready = f"{len(scheduler.workers)} of {engine.fleet.wanted} workers ready"
        state = core.state or ("broken" if scheduler.broken else ready)
        return f"<Pool {made_of(engine)}: {state}>"

    # -- creation

    def create(self) -> None:
        """Start the workers and wait for them. Raises HostError or PoolBroken."""
        self._core.must_not_block("create")
        created = self._core.created()
        try:
            created.result()
        except BaseException:
            # Whatever ended the waiting, Ctrl-C included: leave nothing behind.
            self.kill_workers()
            raise

    async def _create_async(self) -> Self:
        try:
            await asyncio.wrap_future(self._core.created())
        except BaseException:
            await self.shutdown_async(cancel_futures=True)
            raise
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        """Start the workers, from a thread of the pool's own, and wait for them."""
        return self._create_async().__await__()

    @property
    def ready(self) -> Ready:
        """Set while all workers are connected and initialised."""
        return self._core.ready

    def is_ready(self) -> bool:
        """True while all workers are connected and initialised."""
        return self._core.ready.is_set()

    def total_workers(self) -> int:
        """The workers that the pool is to have: asked for and not given up, or joined.

        0 before creation and after shutdown; a host with ``auto`` counts once it is up.
        """
        core = self._core
        return 0 if core.engine is None or core.closed is not None else core.engine.fleet.wanted

    # -- workers that join

    def listen(self, host: str = "", port: int = 0) -> int:
        """Let workers join that are started by hand, with ``pool-worker --connect HOST:PORT``.

        They may come at any time, and leave again. Both sides need the credential.

        Args:
            host: the address at which this machine listens; all by default.
            port: the port there; 0: any that is free.

        Returns:
            The port.

        Raises:
            CredentialError: there is no usable credential; the text says what to do.
            HostError: the address cannot be had.
        """
        self._core.must_not_block("listen")
        return self._core.listen(host, port).result()

    async def listen_async(self, host: str = "", port: int = 0) -> int:
        """As `listen`, awaited."""
        return await asyncio.wrap_future(self._core.listen(host, port))

    # -- inspection

    def hosts(self) -> list[HostInfo]:
        """The hosts, those that were dropped and those that have joined included."""
        engine = self._core.engine
        return [] if engine is None else [host_info(r) for r in list(engine.fleet.runners)]

    def workers(self) -> list[WorkerInfo]:
        """The connected workers, in worker order."""
        engine = self._core.engine
        workers = [] if engine is None else list(engine.scheduler.workers.values())
        return [worker_info(worker) for worker in sorted(workers, key=lambda w: w.slot)]

    def stats(self) -> Stats:
        """What has happened so far."""
        engine = self._core.engine
        return Stats() if engine is None else stats(engine)

    # -- the end

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Finish what was submitted, then end the workers. Calling it again does nothing.

        Args:
            wait: return when all is over; otherwise it goes on in the background, and the exit
                of the interpreter waits for it. On the pool's own loop or thread this is always so.
            cancel_futures: cancel what no worker has yet.
        """
        core = self._core
        if wait and not cancel_futures and core.closed is None and not core.is_here():
            core.finish_maps()
        done = core.close(cancel=cancel_futures)
        if not wait or core.is_here():
            return
        let_go()
        try:
            done.result()
        except KeyboardInterrupt:
            # The second Ctrl-C: the user does not want to wait for running tasks.
            self.kill_workers()
            raise
        core.join()

    async def shutdown_async(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As `shutdown`, awaited."""
        core = self._core
        if wait and not cancel_futures and core.closed is None:
            await core.finish_maps_async()
        done = core.close(cancel=cancel_futures)
        if wait:
            await asyncio.wrap_future(done)
            core.join()

    def kill_workers(self) -> None:
        """End all workers now; unfinished futures get PoolBroken. Then shut down."""
        done = self._core.close(kill=True)
        if not self._core.is_here():
            let_go()
            done.result()
            self._core.join()

    def terminate_workers(self) -> None:
        """As `kill_workers`; a worker that runs a task cannot end it in good order either way."""
        self.kill_workers()

    def __enter__(self) -> Self:
        if not self._core.is_here():
            self.create()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        self.shutdown(wait=True, cancel_futures=interrupted)

    async def __aenter__(self) -> Self:
        self._core.start_here()
        return await self._create_async()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stopped = kind is not None and issubclass(kind, asyncio.CancelledError | KeyboardInterrupt)
        await self.shutdown_async(cancel_futures=stopped)


def _loop_is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
