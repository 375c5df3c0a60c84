"""The inside of a pool: its state, and the engine wherever it lives.

The engine lives on the running loop (``async with``) or on a thread of its own (everything else).
States: new, open, closing, closed; and forked, in a forked child's copy.
"""

import asyncio
import contextlib
import threading
import weakref
from concurrent.futures import Future
from typing import Any

from pool_client import exits
from pool_client.calls import AsyncCall, Call, Mailbox, RemoteAsyncCall
from pool_client.engine import Engine
from pool_client.functions import FunctionTable
from pool_client.futures import AsyncTaskFuture, TaskFuture, renew_locks
from pool_client.loop_thread import LoopThread
from pool_client.map_rest import Rests
from pool_client.options import Options
from pool_client.packing import pack_call
from pool_client.ready import Ready
from pool_client.tasks import Terms
from pool_protocol import serializer


class Core:
    """Everything that a pool's views share."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.functions = FunctionTable(options.func_pickle, options.max_message)
        self.serializer = serializer(options.data_pickle)
        self.ready = Ready()
        self.engine: Engine | None = None
        self.closed: Future[None] | None = None
        #: Maps over inputs of known length that nobody has looked at: to be run whole.
        self.rests: Rests = set()
        self._refusal: str | None = None
        self._forked = False
        self._thread: LoopThread | None = None
        self._lock = threading.RLock()
        self._mailboxes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Mailbox] = (
            weakref.WeakKeyDictionary()
        )

    # -- the engine

    def working(self) -> Engine:
        """The engine, started if need be. Raises RuntimeError after shutdown and in a fork."""
        if self._refusal is not None:
            raise RuntimeError(self._refusal)
        return self.engine or self._start_thread()

    def _start_thread(self) -> Engine:
        with self._lock:
            if self.engine is None:
                thread = LoopThread("pool-engine")
                try:
                    engine = self._new_engine(thread.loop)
                except BaseException:
                    thread.stop()
                    raise
                engine.thread = thread.ident or 0
                thread.loop.call_soon_threadsafe(engine.start)
                self._thread, self.engine = thread, engine
            return self.engine

    def start_here(self) -> Engine:
        """Start the engine on the running loop, unless it lives somewhere already."""
        if self._refusal is not None:
            raise RuntimeError(self._refusal)
        with self._lock:
            if self.engine is None:
                loop = asyncio.get_running_loop()
                if not _can_watch(loop):
                    return self._start_thread()
                self.engine = self._new_engine(loop)
                self.engine.start()
            return self.engine

    def _new_engine(self, loop: asyncio.AbstractEventLoop) -> Engine:
        engine = Engine(self.options, self.functions, loop, self.ready)
        exits.register(self)
        return engine

    def is_here(self) -> bool:
        """Is this the engine's own thread, which must not wait for the engine?"""
        return self.engine is not None and self.engine.thread == threading.get_ident()

    def must_not_block(self, method: str) -> None:
        """Raise RuntimeError where blocking would stop the engine itself."""
        if self.is_here():
            raise RuntimeError(
                f"{method}() would wait here for the loop that it is called on; use "
                f"'await pool.{method}_async(…)'"
                if method != "map"
                else "map() would wait here for the loop that it is called on; use "
                "'async for … in pool.map_async(…)'"
            )

    def created(self) -> "Future[None]":
        """A future that is done once the pool is up; its exception says why it is not."""
        engine = self.working()
        future: Future[None] = Future()

        def tell(error: BaseException | None) -> None:
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        engine.submit(lambda: engine.fleet.when_created(tell))
        return future

    # -- calls

    def submit(self, func: Any, args: Any, kwargs: Any, terms: Terms) -> TaskFuture:
        """Queue a call. What cannot be packed fails the future."""
        engine = self.working()
        future = TaskFuture()
        try:
            task = self._call(Call, future, func, args, kwargs, terms)
        except BaseException as error:
            _check_callable(func)
            future.set_exception(error)
            return future
        engine.submit(task)
        return future

    def submit_async(self, func: Any, args: Any, kwargs: Any, terms: Terms) -> AsyncTaskFuture:
        """Queue a call for the running loop."""
        engine = self.working()
        loop = asyncio.get_running_loop()
        future = AsyncTaskFuture(loop, engine)
        kind = AsyncCall if loop is engine.loop else RemoteAsyncCall
        try:
            task = self._call(kind, future, func, args, kwargs, terms)
        except BaseException as error:
            _check_callable(func)
            future.set_exception(error)
            return future
        if isinstance(task, RemoteAsyncCall):
            task.mailbox = self._mailbox(loop)
        engine.submit(task)
        return future

    def _call(
        self, kind: type[Call], future: Any, func: Any, args: Any, kwargs: Any, terms: Terms
    ) -> Call:
        function = self.functions.get(func)
        payload, flags, nbytes = pack_call(
            self.serializer, function, args, kwargs, terms.timeout, self.options.max_message
        )
        return kind(future, self.serializer, function, flags, payload, nbytes, terms)

    def broadcast_model(self, future: Any, func: Any, args: Any, kwargs: Any, terms: Terms) -> Call:
        """The call that ``run_on_all`` makes on every worker; its outcome goes to ``future``."""
        engine = self.working()
        if isinstance(future, TaskFuture):
            return self._call(Call, future, func, args, kwargs, terms)
        loop = asyncio.get_running_loop()
        kind = AsyncCall if loop is engine.loop else RemoteAsyncCall
        task = self._call(kind, future, func, args, kwargs, terms)
        if isinstance(task, RemoteAsyncCall):
            task.mailbox = self._mailbox(loop)
        return task

    def _mailbox(self, loop: asyncio.AbstractEventLoop) -> Mailbox:
        mailbox = self._mailboxes.get(loop)
        if mailbox is None:
            mailbox = self._mailboxes[loop] = Mailbox(loop)
        return mailbox

    # -- the end

    def close(self, *, cancel: bool = False, kill: bool = False) -> "Future[None]":
        """Begin to end the pool; the future is done once nothing of it is left."""
        with self._lock:
            if self._refusal is None:
                self._refusal = "cannot schedule new futures after shutdown"
            engine = None if self._forked else self.engine
            if self.closed is None or kill or cancel:
                before = self.closed
                if engine is None:
                    self.closed = Future()
                    self.closed.set_result(None)
                elif before is None or not before.done():
                    self.closed = self._close_engine(engine, cancel, kill, before)
            assert self.closed is not None
            return self.closed

    def _close_engine(
        self, engine: Engine, cancel: bool, kill: bool, before: "Future[None] | None"
    ) -> "Future[None]":
        done: Future[None] = before or Future()

        async def close() -> None:
            await engine.close(cancel=cancel, kill=kill)
            if not done.done():
                exits.forget(self)
                if self._thread is not None:
                    await _cancel_others()
                    engine.loop.stop()
                done.set_result(None)

        if self.is_here():
            task = engine.loop.create_task(close())
            engine.keep(task)
        else:
            engine.submit(lambda: engine.keep(engine.loop.create_task(close())))
        return done

    def join(self) -> None:
        """Wait for the engine's thread, once the pool is closed."""
        if self._thread is not None:
            self._thread.stop()

    def finish_maps(self) -> None:
        """Submit what is left of the maps whose input has a known length."""
        for rest in list(self.rests):
            rest.run()

    async def finish_maps_async(self) -> None:
        """As `finish_maps`, on a loop."""
        for rest in list(self.rests):
            await rest.run_async()

    def at_exit(self) -> None:
        """The interpreter exits: finish, then end."""
        engine = self.engine
        if engine is None or (self._thread is None and not engine.loop.is_running()):
            self._sweep()
            return
        with contextlib.suppress(RuntimeError):
            self.finish_maps()
        done = self.close()
        if self.is_here():
            return
        try:
            done.result()
        except KeyboardInterrupt:
            self.close(kill=True).result()
        self.join()

    def _sweep(self) -> None:
        """The loop that carried the engine is gone: end the processes, remove the files."""
        if self.engine is not None:
            self.engine.fleet.sweep()

    def after_fork(self) -> None:
        """In a forked child: close the copies of the descriptors, refuse to work."""
        self._refusal = (
            "this pool belongs to the parent process; make a new one in the forked child"
        )
        self._forked = True
        self.closed = None
        self._thread = None
        # Another thread of the parent's may have held them.
        self._lock = threading.RLock()
        renew_locks()
        if self.engine is not None:
            self.engine.fleet.abandon()

    def dropped(self) -> None:
        """The pool's last reference is gone: end in the background."""
        if self._refusal is None and self.engine is not None:
            if self._thread is None and not self.engine.loop.is_running():
                self._sweep()
            else:
                self.close()


async def _cancel_others() -> None:
    """End what still runs on a loop that is about to stop: inputs of maps that nobody reads."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _can_watch(loop: asyncio.AbstractEventLoop) -> bool:
    """Can the loop watch descriptors? Windows' proactor cannot."""
    return "Proactor" not in type(loop).__name__


def _check_callable(func: Any) -> None:
    if not callable(func):
        raise TypeError(f"{func!r} is not callable; give the function first, then its arguments")
