"""Tasks of one call: ``submit``, ``run``, ``run_async`` and ``run_on_all``."""

import asyncio
import contextlib
import weakref
from collections import deque
from collections.abc import Sequence
from concurrent.futures import CancelledError
from typing import Any

from pool_client.futures import AsyncTaskFuture, TaskFuture
from pool_client.outcomes import unpack_error, unpack_value, unreadable
from pool_client.scheduling.tasks import TASK_FIELDS, Function, Task, Terms
from pool_protocol import Payload, Serializer
from pool_protocol.messages import Result

#: The function of a call that is over.
_GONE = Function(0, "", b"", False)


class Call(Task):
    """A call that is its own future: one object for both, as the garbage collector walks them all.

    Whoever keeps the future of a call that is over keeps neither its arguments nor its function.
    """

    serializer: Serializer

    def prepare(
        self,
        serializer: Serializer,
        function: Function,
        flags: int,
        payload: Payload,
        nbytes: int,
        terms: Terms,
    ) -> None:
        """What is to be sent; before that it is a future and nothing else."""
        # What the base class sets is set here: this runs for every task.
        self.serializer = serializer
        self.function = function
        self.flags = flags
        self.payload = payload
        self.nbytes = nbytes
        self.terms = terms
        self.items = 1
        self.attempts = 0
        self.id = 0
        self.cost = 0.0

    def resolve(self, result: Result) -> None:
        """Bring the outcome to the future."""
        if result[1]:
            self.fail(unpack_error(result[4], self.serializer))
            return
        try:
            value = self.serializer.unpack(result[4], result[5])
        except BaseException as error:  # user code: __setstate__ and reducers may raise anything
            # Not tried again for a better text: that might succeed, and nobody would be told.
            self.fail(unreadable(error))
            return
        self._let_go()
        self.deliver(value, None)

    def fail(self, error: BaseException) -> None:
        """Bring an error to the future."""
        self._let_go()
        self.deliver(None, error)

    def deliver(self, value: Any, error: BaseException | None) -> None:
        """Settle the future, unless somebody has cancelled it."""
        raise NotImplementedError

    def _let_go(self) -> None:
        self.function, self.payload = _GONE, b""


class SubmittedCall(TaskFuture, Call):
    """A call of `submit`."""

    __slots__ = (*TASK_FIELDS, "serializer")

    def start(self) -> bool:
        """A call that runs already is being tried again."""
        if self.set_running_or_notify_cancel():
            return True
        self._let_go()
        return False

    def deliver(self, value: Any, error: BaseException | None) -> None:
        """An error that says so cancels it, if it is not too late for that."""
        if error is None:
            self.set_result(value)
        elif not isinstance(error, CancelledError) or not self.cancel():
            self.set_exception(error)


class AsyncCall(AsyncTaskFuture, Call):
    """A call of `run_async` on the engine's own loop."""

    __slots__ = (*TASK_FIELDS, "serializer")

    def resolve(self, result: Result) -> None:
        """The usual case first: a good result, somebody waiting."""
        _, flags, _, _, payload, buffers = result
        if flags or buffers:
            super().resolve(result)
            return
        try:
            value = self.serializer.loads(payload)
        except BaseException as error:
            self.fail(unreadable(error))
            return
        self.function = _GONE
        self.payload = b""
        try:  # noqa: SIM105 - a context manager for every task takes longer
            self.set_result(value)
        except asyncio.InvalidStateError:
            pass  # somebody has cancelled it

    def start(self) -> bool:
        """A cancelled future's task is not sent."""
        if not self.cancelled():
            return True
        self._let_go()
        return False

    def deliver(self, value: Any, error: BaseException | None) -> None:
        """At once, as this is the loop's thread."""
        settle(self, value, error)


def settle(future: AsyncTaskFuture, value: Any, error: BaseException | None) -> None:
    """Give an asyncio future its outcome, unless it has one or its loop is closed."""
    if future.done() or future.get_loop().is_closed():
        return
    if error is None:
        future.set_result(value)
    elif isinstance(error, CancelledError):
        future.cancel()
    else:
        future.set_exception(_raisable(error))


def _raisable(error: BaseException) -> BaseException:
    if isinstance(error, StopIteration):
        # A future may not raise it: it would end the coroutine that awaits.
        wrapped = RuntimeError("the task raised StopIteration")
        wrapped.__cause__ = error
        return wrapped
    return error


class Mailbox:
    """Outcomes on their way to another loop: one wake-up for each burst."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # Weakly: a mailbox is kept for its loop, not the other way round.
        self._loop = weakref.ref(loop)
        self._outcomes: deque[tuple[AsyncTaskFuture, Any, BaseException | None]] = deque()
        self._woken = False

    def put(self, future: AsyncTaskFuture, value: Any, error: BaseException | None) -> None:
        """From the engine's thread."""
        self._outcomes.append((future, value, error))
        if not self._woken:
            self._woken = True
            loop = self._loop()
            with contextlib.suppress(RuntimeError):
                if loop is not None:
                    loop.call_soon_threadsafe(self._empty)
                    return
            # That loop is closed or gone: nobody can be waiting.
            self._outcomes.clear()
            self._woken = False

    def _empty(self) -> None:
        self._woken = False
        outcomes = self._outcomes
        while outcomes:
            settle(*outcomes.popleft())


class RemoteAsyncCall(AsyncCall):
    """A call of `run_async` on another loop than the engine's."""

    __slots__ = ("mailbox",)

    mailbox: Mailbox

    def resolve(self, result: Result) -> None:
        """Nothing here may look at the future, which belongs to another thread."""
        Call.resolve(self, result)

    def deliver(self, value: Any, error: BaseException | None) -> None:
        """Post the outcome."""
        self.mailbox.put(self, value, error)


class PinnedCall(Task):
    """One worker's part of a broadcast; it stays with its slot when the worker is replaced."""

    __slots__ = (*TASK_FIELDS, "broadcast", "index")

    pinned = True

    def __init__(self, broadcast: "BroadcastCall", index: int) -> None:
        model = broadcast.model
        super().__init__(model.function, model.flags, model.payload, model.nbytes, model.terms)
        self.broadcast = broadcast
        self.index = index

    def start(self) -> bool:
        """The others have started, so this one runs even if one of them failed."""
        return True

    def resolve(self, result: Result) -> None:
        """One more answer."""
        serializer = self.broadcast.model.serializer
        if result.flags:
            self.fail(unpack_error(result.payload, serializer))
            return
        try:
            value = unpack_value(result, serializer)
        except BaseException as error:
            self.fail(error)
        else:
            self.broadcast.answer(self.index, value, None)

    def fail(self, error: BaseException) -> None:
        """One answer that will not come."""
        self.broadcast.answer(self.index, None, error)


class BroadcastCall:
    """``run_on_all``: one call on every worker; the model's future gets the list of results."""

    def __init__(self, model: Call) -> None:
        self.model = model
        self._values: list[Any] = []
        self._missing = 0
        self._error: BaseException | None = None

    def tasks(self, count: int) -> Sequence[Task]:
        """One task for each of ``count`` workers."""
        if not self.model.start():
            return [_Nothing(self, index) for index in range(count)]
        self._values = [None] * count
        self._missing = count
        return [PinnedCall(self, index) for index in range(count)]

    def answer(self, index: int, value: Any, error: BaseException | None) -> None:
        """What one worker answered; the first error wins, after all have answered."""
        self._values[index] = value
        if self._error is None:
            self._error = error
        self._missing -= 1
        if not self._missing:
            self.model.deliver(self._values, self._error)

    def fail(self, error: BaseException) -> None:
        """It could not be sent at all."""
        self.model.deliver(None, error)


class _Nothing(PinnedCall):
    """The part of a broadcast that was cancelled before it was sent."""

    __slots__ = ()

    def start(self) -> bool:
        return False
