"""The inside of a pool: its state, and the engine wherever it lives.

The engine lives on the running loop (``async with``) or on a thread of its own (everything else).
States: new, open, closing, closed; and forked, in a forked child's copy.
"""

import asyncio
import contextlib
import threading
import weakref
from concurrent.futures import Future, wait
from typing import Any

from pool_client.calls import (
    AsyncCall,
    BroadcastCall,
    Call,
    Mailbox,
    RemoteAsyncCall,
    SubmittedCall,
)
from pool_client.engine import AFTER_SHUTDOWN, Engine
from pool_client.exits import forget, register
from pool_client.functions import FunctionTable
from pool_client.futures import AsyncTaskFuture, TaskFuture, let_go, renew_locks
from pool_client.loop_thread import LoopThread
from pool_client.map_rest import Rests
from pool_client.options import Options
from pool_client.packing import pack_call
from pool_client.ready import Ready
from pool_client.scheduling.tasks import Terms
from pool_protocol import serializer

#: Seconds between looks whether anybody still runs the loop of a pool that the exit waits for.
_LOOK = 0.5

_NOBODY = (
    "this pool has no workers, and nobody can join: give it num_workers or hosts, or call listen()"
)


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
        self._refusal: str | None = None if options.hosts else _NOBODY
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

    def _started(self) -> Engine:
        """As `working`, also for a pool that has nobody to work yet."""
        if self._refusal is _NOBODY:
            return self.engine or self._start_thread()
        return self.working()

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
        if self._refusal is not None and self._refusal is not _NOBODY:
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
        register(self)
        return engine

    def is_here(self) -> bool:
        """Is this the engine's own thread, which must not wait for the engine?"""
        return self.engine is not None and self.engine.thread == threading.get_ident()

    def must_not_block(self, method: str) -> None:
        """Raise RuntimeError where blocking would stop the engine itself."""
        if self.is_here():
            others = {"create": "await pool", "map": "async for … in pool.map_async(…)"}
            instead = others.get(method, f"await pool.{method}_async(…)")
            raise RuntimeError(
                f"{method}() would wait here for the loop that it is called on; use '{instead}'"
            )

    def created(self) -> "Future[None]":
        """A future that is done once the pool is up; its exception says why it is not."""
        engine = self._started()
        future: Future[None] = _awaited()

        def tell(error: BaseException | None) -> None:
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        engine.submit(lambda: engine.fleet.creation.when_done(tell))
        return future

    def listen(self, host: str, port: int) -> "Future[int]":
        """Let others join; the future has the port."""
        engine = self._started()
        future: Future[int] = _awaited()

        async def listen() -> None:
            try:
                if engine.leaving:
                    raise RuntimeError(AFTER_SHUTDOWN)
                actual = await engine.fleet.listen(host, port)
                if self._refusal is _NOBODY:
                    self._refusal = None
            except asyncio.CancelledError:  # at the end of the pool
                future.set_exception(RuntimeError(AFTER_SHUTDOWN))
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(actual)

        engine.submit(lambda: engine.keep(engine.loop.create_task(listen())))
        return future

    @property
    def state(self) -> str:
        """``closing``, ``closed``, or empty."""
        if self.closed is None:
            return ""
        return "closed" if self.closed.done() else "closing"

    # -- calls

    def submit(self, func: Any, args: Any, kwargs: Any, terms: Terms) -> TaskFuture:
        """Queue a call. What cannot be packed fails the future."""
        engine = self.working()
        call = SubmittedCall()
        call.engine_thread = engine.thread
        try:
            self._prepare(call, func, args, kwargs, terms)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            _check_callable(func)
            call.set_exception(error)
        else:
            engine.submit(call)
        return call

    def submit_async(self, func: Any, args: Any, kwargs: Any, terms: Terms) -> AsyncTaskFuture:
        """Queue a call for the running loop."""
        call = self.async_call()
        try:
            self._prepare(call, func, args, kwargs, terms)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            _check_callable(func)
            call.set_exception(error)
        else:
            call.engine.submit(call)
        return call

    def async_call(self) -> AsyncCall:
        """A call for the running loop, still to be prepared."""
        engine = self.working()
        call: AsyncCall
        if engine.thread == threading.get_ident() and engine.loop.is_running():
            # Without asking for the running loop: that is a system call on Python 3.11.
            call = AsyncCall(loop=engine.loop)
        else:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                raise RuntimeError(
                    "run_async() needs a running event loop, and there is none in this thread; "
                    "use run() or submit() here"
                ) from None
            call = RemoteAsyncCall(loop=loop)
            call.mailbox = self._mailbox(loop)
        call.engine = engine
        return call

    def broadcast(self, call: Call, func: Any, args: Any, kwargs: Any, terms: Terms) -> None:
        """Queue a call for every worker; its outcome is the list of theirs."""
        engine = self.working()
        self._prepare(call, func, args, kwargs, terms)
        engine.submit(BroadcastCall(call))

    def _prepare(self, call: Call, func: Any, args: Any, kwargs: Any, terms: Terms) -> None:
        function = self.functions.get(func)
        payload, flags, nbytes = pack_call(
            self.serializer, function, args, kwargs, terms.timeout, self.options.max_message
        )
        call.prepare(self.serializer, function, flags, payload, nbytes, terms)

    def _mailbox(self, loop: asyncio.AbstractEventLoop) -> Mailbox:
        mailbox = self._mailboxes.get(loop)
        if mailbox is None:
            mailbox = self._mailboxes[loop] = Mailbox(loop)
        return mailbox

    # -- the end

    def close(self, *, cancel: bool = False, kill: bool = False) -> "Future[None]":
        """Begin to end the pool; the future is done once nothing of it is left."""
        with self._lock:
            self._refuse()
            engine = None if self._forked else self.engine
            if self.closed is None or kill or cancel:
                before = self.closed
                if engine is None:
                    self.ready.give_up(RuntimeError(AFTER_SHUTDOWN))
                    self.closed = Future()
                    self.closed.set_result(None)
                elif before is None or not before.done():
                    self.closed = self._close_engine(engine, cancel, kill, before)
            assert self.closed is not None
            return self.closed

    def _close_engine(
        self, engine: Engine, cancel: bool, kill: bool, before: "Future[None] | None"
    ) -> "Future[None]":
        done: Future[None] = before or _awaited()

        async def close() -> None:
            error: BaseException | None = None
            try:
                await engine.close(cancel=cancel, kill=kill)
            except BaseException as caught:
                if self._thread is not None and isinstance(caught, asyncio.CancelledError):
                    raise  # by another close, which was faster
                self._sweep()
                error = caught
            if done.done():
                return
            forget(self)
            if self._thread is not None:
                await self._thread.cancel_others()
                self._thread.end()
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        if self.is_here():
            task = engine.loop.create_task(close())
            engine.keep(task)
        else:
            try:
                engine.submit(lambda: engine.keep(engine.loop.create_task(close())))
            except RuntimeError:
                # By the close before this one, whose future is about to be done.
                if not engine.ended:
                    raise
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

    def at_exit(self, interrupted: bool) -> None:
        """The interpreter exits: finish, then end. After a Ctrl-C nothing more is begun."""
        if self.engine is None or self._is_stranded():
            self._strand()
            return
        if not interrupted:
            with contextlib.suppress(RuntimeError):
                self.finish_maps()
        done = self.close(cancel=interrupted)
        if self.is_here():
            return
        try:
            self._outlast(done)
        except KeyboardInterrupt:
            self._outlast(self.close(kill=True))
        self.join()

    def _outlast(self, done: "Future[None]") -> None:
        """Wait for the end, for as long as anybody runs the engine's loop."""
        let_go()
        while not wait((done,), _LOOK).done:
            if self._is_stranded():
                self._strand()
                return
        done.result()

    def _is_stranded(self) -> bool:
        """Does the engine live on a loop of the user's that nobody runs (any more)?"""
        engine = self.engine
        return engine is not None and self._thread is None and not engine.loop.is_running()

    def _refuse(self) -> None:
        """Take nothing more, and say why, unless there is a reason already."""
        if self._refusal in (None, _NOBODY):
            self._refusal = AFTER_SHUTDOWN

    def _sweep(self) -> None:
        """Without the engine's loop: end the processes, remove the files."""
        if self.engine is not None:
            self.engine.fleet.sweep()

    def _strand(self) -> None:
        """The loop that carried the engine is gone: end what it left; nobody waits for it."""
        self._sweep()
        with self._lock:
            self._refuse()
            self.closed = self.closed or _awaited()
            if not self.closed.done():
                self.closed.set_result(None)
        if self.engine is not None:
            self.engine.fleet.strand()

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
        if self._refusal in (None, _NOBODY) and self.engine is not None:
            if self._is_stranded():
                self._strand()
            else:
                self.close()


def _awaited() -> "Future[Any]":
    """A future that cannot be cancelled: who stops waiting for it leaves it to its maker."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future


def _can_watch(loop: asyncio.AbstractEventLoop) -> bool:
    """Can the loop watch descriptors? Windows' proactor cannot."""
    return "Proactor" not in type(loop).__name__


def _check_callable(func: Any) -> None:
    if not callable(func):
        raise TypeError(f"{func!r} is not callable; give the function first, then its arguments")
