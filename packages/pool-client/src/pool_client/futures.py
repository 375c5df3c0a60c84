"""The two futures that the pool hands out.

``TaskFuture`` is a ``concurrent.futures.Future`` that is cheap by the hundred thousand: the base
class makes a ``Condition`` for each, which costs more than everything else that a submission does;
this one makes it when somebody first waits. One lock serves all futures of all pools.

``AsyncTaskFuture`` is an ``asyncio.Future`` that can also stand where a coroutine is wanted
(``create_task``, ``TaskGroup.create_task``): the work has started either way.
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future
from concurrent.futures._base import (
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    LOGGER,
    PENDING,
    RUNNING,
)
from contextlib import suppress
from typing import Any

from pool_client.waiting import LONGEST

_DONE = frozenset({CANCELLED_AND_NOTIFIED, FINISHED})


class TaskFuture(Future[Any]):
    """A future of ``submit``.

    States and waiters change under ``lock``, which all futures share. The base class's functions
    (``wait``, ``as_completed``) lock ``_condition``; that is made from the same lock, so both see
    the same state. A cancelled future is done at once: unlike the base class's
    it does not wait, in the state CANCELLED, for an executor to come by and notice.
    """

    _state: str = PENDING
    _result: Any = None
    _exception: BaseException | None = None
    _done_callbacks: Any = ()
    #: The thread whose loop carries the engine, which has to do the work; 0: not known.
    engine_thread: int = 0
    #: The lock of all futures, reentrant as the base class's condition is.
    lock = threading.RLock()

    def __init__(self) -> None:
        """Not the base class's: it would make the condition. What it sets is on the class here."""

    def __getattr__(self, name: str) -> Any:
        """What the base class makes at once is made when somebody first asks for it."""
        if name == "_condition":
            with self.lock:
                return self.__dict__.setdefault(name, threading.Condition(self.lock))
        if name == "_waiters":
            self._must_not_block(None)
            with self.lock:
                return self.__dict__.setdefault(name, [])
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __reduce__(self) -> Any:
        raise TypeError("a future cannot be pickled; pass its result() instead")

    def __repr__(self) -> str:
        state = self._state.lower()
        if self._state == FINISHED:
            error = self._exception
            what = f"returned {_type(self._result)}" if error is None else f"raised {_type(error)}"
            return f"<TaskFuture at {id(self):#x} state={state} {what}>"
        return f"<TaskFuture at {id(self):#x} state={state}>"

    def done(self) -> bool:
        """True once there is a result, an error, or it was cancelled."""
        return self._state in _DONE

    def running(self) -> bool:
        """True from when it is sent to a worker until it is done."""
        return self._state == RUNNING

    def cancelled(self) -> bool:
        """True once it was cancelled; it never runs then."""
        return self._state == CANCELLED_AND_NOTIFIED

    def cancel(self) -> bool:
        """Cancel the task if it was not sent to a worker yet; True if it is cancelled."""
        with self.lock:
            if self._state in (RUNNING, FINISHED):
                return False
            if self._state != PENDING:
                return True
            self._state = CANCELLED_AND_NOTIFIED
            self._tell("add_cancelled")
        self._invoke()
        return True

    def result(self, timeout: float | None = None) -> Any:
        """The task's result; waits up to ``timeout`` seconds. Raises what the task raised."""
        if self._state != FINISHED:
            self._wait(timeout)
        if self._exception is not None:
            try:
                raise self._exception
            finally:
                self = None  # type: ignore[assignment]  # breaks the cycle with the traceback
        return self._result

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the task raised, or None; waits up to ``timeout`` seconds."""
        if self._state != FINISHED:
            self._wait(timeout)
        return self._exception

    def _wait(self, timeout: float | None) -> None:
        self._must_not_block(timeout)
        condition = self._condition
        end = math.inf if timeout is None else time.monotonic() + timeout
        with condition:
            while not self.done() and (left := end - time.monotonic()) > 0:
                condition.wait(min(left, LONGEST))
        if self._state == CANCELLED_AND_NOTIFIED:
            raise CancelledError
        if self._state != FINISHED:
            raise TimeoutError

    def _must_not_block(self, timeout: float | None) -> None:
        """Raise RuntimeError where waiting would stop the engine, for ever."""
        here = self.engine_thread == threading.get_ident()
        if here and timeout is None and self._state not in _DONE:
            raise RuntimeError(
                "to wait for this future here would stop the loop that it needs; use "
                "'await asyncio.wrap_future(future)', or run_async() in place of submit()"
            )

    def add_done_callback(self, fn: Callable[["TaskFuture"], object]) -> None:
        """Call ``fn(self)`` once the future is done, in the thread that finds out."""
        with self.lock:
            if self._state not in _DONE:
                self._done_callbacks = (*self._done_callbacks, fn)
                return
        self._call(fn)

    def _invoke(self) -> None:
        for fn in self._done_callbacks:
            try:
                self._call(fn)
            except BaseException:  # SystemExit, for one, would end the engine's thread
                LOGGER.exception("exception calling callback for %r", self)

    def _call(self, fn: Callable[["TaskFuture"], object]) -> None:
        try:
            fn(self)
        except Exception:
            LOGGER.exception("exception calling callback for %r", self)

    def set_running_or_notify_cancel(self) -> bool:
        """For the engine: it is about to be sent, perhaps again. False: it is done."""
        with self.lock:
            if self._state == PENDING:
                self._state = RUNNING
            return self._state == RUNNING

    def set_result(self, result: Any) -> None:
        """For the engine. Whatever came first counts."""
        self._finish(result, None)

    def set_exception(self, exception: BaseException | None) -> None:
        """For the engine. Whatever came first counts."""
        self._finish(None, exception)

    def _finish(self, result: Any, exception: BaseException | None) -> None:
        with self.lock:
            if self._state in _DONE:
                return
            self._result = result
            self._exception = exception
            self._state = FINISHED
            self._tell("add_result" if exception is None else "add_exception")
        if self._done_callbacks:
            self._invoke()

    def _tell(self, event: str) -> None:
        extras = self.__dict__
        if "_condition" in extras:
            extras["_condition"].notify_all()
        if "_waiters" in extras:
            for waiter in extras["_waiters"]:
                getattr(waiter, event)(self)


def let_go() -> None:
    """Give back what this thread has left locked, before it waits for the engine.

    ``concurrent.futures.wait`` and ``as_completed`` lock their futures one by one, and a Ctrl-C in
    the middle leaves them so: the engine would wait for the lock, and this thread for the engine.
    """
    with suppress(RuntimeError):  # it is not this thread's
        while True:
            TaskFuture.lock.release()


def renew_locks() -> None:
    """In a forked child: a thread that the child does not have may have held the lock."""
    TaskFuture.lock = threading.RLock()


def _type(value: object) -> str:
    return type(value).__name__


class AsyncTaskFuture(asyncio.Future[Any]):
    """A future of ``run_async``; cancelling it also cancels the task, wherever it is.

    ``engine``, where whoever made it has set it, is told when it is cancelled.
    """

    # Slots, because a dictionary for each would be one more object for the garbage collector; and
    # no __init__, because asyncio's own takes half the time.
    __slots__ = ("_steps", "engine")

    _steps: Generator[Any, None, Any]
    engine: Any

    def cancel(self, msg: Any | None = None) -> bool:
        """Give the task up. One that was not sent never runs; an asynchronous one is cancelled."""
        if not super().cancel(msg):
            return False
        engine = getattr(self, "engine", None)
        if engine is not None:
            engine.give_up(self)
        return True

    # A coroutine's methods, so that asyncio takes the future for one.

    def send(self, value: Any) -> Any:
        """Run until the next suspension."""
        return self._iterator().send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an error where the future is awaited."""
        if not self.done() and isinstance(error[0], asyncio.CancelledError):
            self.cancel()
        return self._iterator().throw(*error)

    def close(self) -> None:
        """Stop awaiting."""
        self._iterator().close()

    def _iterator(self) -> Generator[Any, None, Any]:
        try:
            return self._steps
        except AttributeError:
            self._steps = self.__await__()
            return self._steps
