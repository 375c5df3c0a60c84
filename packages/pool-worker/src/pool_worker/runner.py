"""What is done with one task: unpack, call, pack. No I/O; ``words`` is a page's words.

``Runner.start`` gives either an ``Outcome`` or, where the results must be awaited, the
``Pending`` of it: ``asynchronous`` awaits ``results()`` and hands them to ``finish``.
"""

import pickle
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from types import GeneratorType
from typing import Any, NamedTuple, Protocol

from pool_protocol import Buffer, Payload, PickleType, by_value, serializer
from pool_protocol.errors import text_of
from pool_protocol.frames import LARGE
from pool_protocol.messages import ResultFlag, Task, TaskFlag
from pool_protocol.serializers import ATOMS, is_plain, pack_separate, unpack_separate
from pool_worker.failures import pack_error, type_name
from pool_worker.functions import FunctionTable
from pool_worker.page import ITEM, LIMIT_NS, START_NS

CHUNK, STAR, KWARGS, TIMED, SEPARATE = (
    int(TaskFlag.CHUNK),
    int(TaskFlag.STAR),
    int(TaskFlag.KWARGS),
    int(TaskFlag.TIMED),
    int(TaskFlag.SEPARATE),
)
ERROR = int(ResultFlag.ERROR)
CHUNK_RESULT = int(ResultFlag.CHUNK)
SEPARATE_RESULT = int(ResultFlag.CHUNK | ResultFlag.SEPARATE)

#: Types of which no value can be awaited, nor is large.
TINY = frozenset({int, float, bool, type(None), complex})
_ATOMS = TINY | {str, bytes, bytearray, tuple, list, dict, set, frozenset}
_ITERABLE_COROUTINE = 0x100


class Words(Protocol):
    """A page's words, or in a test a list."""

    def __setitem__(self, index: int, value: int, /) -> None:
        """Store one."""


_clock = time.monotonic_ns


class Outcome(NamedTuple):
    """What a Result carries."""

    flags: int
    payload: Payload


@dataclass(slots=True)
class Pending:
    """A task whose results are to be awaited."""

    function: int
    timed: bool
    chunk: bool
    values: list[Any] = field(default_factory=list)
    failed: dict[int, bytes] = field(default_factory=dict)
    """Packed errors by the indexes of their values."""
    plain: bool = False
    """No value can be awaited or fail to be packed, as their types show."""


def is_awaitable(value: object) -> bool:
    """True for what ``await`` takes."""
    cls = type(value)
    if cls in _ATOMS:
        return False
    if hasattr(cls, "__await__"):
        return True
    return isinstance(value, GeneratorType) and bool(value.gi_code.co_flags & _ITERABLE_COROUTINE)


class Runner:
    """Runs tasks with one serializer for data and one table of functions."""

    def __init__(self, kind: PickleType, functions: FunctionTable, words: Words) -> None:
        self.functions = functions
        self.unpack = serializer(kind).unpack
        self.loads = serializer(kind).loads
        self._pack = serializer(kind).pack
        self._dumps = _in_band(kind)
        self._words = words

    def start(self, task: Task) -> Outcome | Pending:
        """Call what a task wants. Never raises."""
        try:
            if task.flags & CHUNK:
                return self._start_chunk(task)
            return self._start_single(task)
        except BaseException as error:  # whatever a task raises belongs to its caller
            return self.failure(error)

    def failure(self, error: BaseException) -> Outcome:
        """The outcome of a task that failed as a whole."""
        return Outcome(ERROR, self.pack_error(error))

    def pack_error(self, error: BaseException) -> bytes:
        """An error as the client can read it. Never raises."""
        return pack_error(error, self._dumps)

    def settle(self, pending: Pending) -> Outcome:
        """Pack the values of a task, all of them awaited. Never raises."""
        try:
            if pending.chunk:
                return self._pack_chunk(pending)
            if pending.failed:
                return Outcome(ERROR, pending.failed[0])
            return Outcome(0, self.pack(pending.values[0], pending.function))
        except BaseException as error:
            return self.failure(error)

    def done(self) -> None:
        """Nothing is timed any more, and no item is running."""
        self._words[LIMIT_NS] = 0
        self._words[ITEM] = 0

    def begin_item(self, index: int, timed: bool) -> None:
        """From here on item ``index`` is to blame."""
        if timed:
            self._words[START_NS] = _clock()
        self._words[ITEM] = index

    # -- single tasks

    def _start_single(self, task: Task) -> Outcome | Pending:
        payload = self._begin(task)
        function = self.functions.resolve(task.function)
        arguments = self.unpack(payload, task.buffers)
        if task.flags & KWARGS:
            positional, named = arguments
            value = function(*positional, **named)
        else:
            value = function(*arguments)
        del arguments
        pending = Pending(task.function, bool(task.flags & TIMED), False, [value])
        return pending if is_awaitable(value) else self.settle(pending)

    def _begin(self, task: Task) -> Any:
        if not task.flags & TIMED:
            return task.payload
        view = memoryview(task.payload)
        self._words[START_NS] = _clock()
        self._words[LIMIT_NS] = int.from_bytes(view[:8], "little")
        return view[8:]

    def pack(self, value: object, function: int) -> Payload:
        """Pack a result. Raises PicklingError naming the function and the type."""
        try:
            return self._pack(value, is_large(value))
        except (RecursionError, MemoryError):
            raise
        except Exception as error:
            name = self.functions.name(function)
            raise pickle.PicklingError(
                f"the result of {name}, a {type_name(type(value))}, cannot be pickled: "
                f"{text_of(error)}"
            ) from error

    # -- chunks

    def _start_chunk(self, task: Task) -> Outcome | Pending:
        payload = self._begin(task)
        function = self.functions.resolve(task.function)
        pending = Pending(task.function, bool(task.flags & TIMED), True)
        star = bool(task.flags & STAR)
        if task.flags & SEPARATE:
            bodies, _ = unpack_separate(payload)
            self._call_carefully(pending, self._unpacking(function, star), bodies)
        elif pending.timed:
            items = self.unpack(payload, task.buffers)
            self._call_carefully(pending, _starred(function) if star else function, items)
        else:
            self._call_all(pending, function, self.unpack(payload, task.buffers), star)
        types = set(map(type, pending.values))
        pending.plain = types <= ATOMS
        if not pending.plain and any(map(is_awaitable, _samples(pending.values))):
            return pending
        return self.settle(pending)

    def _unpacking(self, function: Callable[..., Any], star: bool) -> Callable[[Any], Any]:
        unpack = self.loads
        if star:
            return lambda body: function(*unpack(body))
        return lambda body: function(unpack(body))

    def _call_carefully(
        self, pending: Pending, function: Callable[..., Any], items: Sequence[Any]
    ) -> None:
        for index, item in enumerate(items):
            self.begin_item(index, pending.timed)
            try:
                value = function(item)
            except BaseException as error:
                pending.failed[index] = self.pack_error(error)
                value = None
            pending.values.append(value)

    def _call_all(
        self, pending: Pending, function: Callable[..., Any], items: Iterable[Any], star: bool
    ) -> None:
        words = self._words
        append = pending.values.append
        index = 0
        # The iterator goes on where an item raised.
        numbered = enumerate(items)
        while True:
            try:
                if star:
                    for index, item in numbered:
                        words[ITEM] = index
                        append(function(*item))
                else:
                    for index, item in numbered:
                        words[ITEM] = index
                        append(function(item))
                return
            except BaseException as error:
                pending.failed[index] = self.pack_error(error)
                append(None)

    def _pack_chunk(self, pending: Pending) -> Outcome:
        values = pending.values
        if not pending.failed:
            if len(values) == 1:
                try:
                    return Outcome(CHUNK_RESULT, self._pack(values, is_large(values[0])))
                except BaseException:
                    # Packed again below, where the error becomes the item's.
                    pass
            elif pending.plain or is_plain(values):
                return Outcome(CHUNK_RESULT, self._pack(values))
        bodies = []
        for index, value in enumerate(values):
            body = pending.failed.get(index)
            if body is None:
                self.begin_item(index, pending.timed)
                body = self._pack_item(pending, index, value)
            bodies.append(body)
        return Outcome(SEPARATE_RESULT, pack_separate(bodies, sorted(pending.failed)))

    def bodies(
        self, flags: int, payload: Payload
    ) -> tuple[Sequence[Buffer], Collection[int]] | None:
        """A chunk's values packed one by one, and the indexes of errors; None if there is but one.

        ``flags`` and ``payload`` are those of the chunk's outcome.
        """
        if not flags & CHUNK_RESULT or not isinstance(payload, bytes):
            return None  # many values are never packed in more than one piece
        if flags == SEPARATE_RESULT:
            bodies, failed = unpack_separate(payload)
            return (bodies, failed) if len(bodies) > 1 else None
        values = self.unpack(payload)
        return ([self._dumps(value) for value in values], ()) if len(values) > 1 else None

    def _pack_item(self, pending: Pending, index: int, value: object) -> bytes:
        try:
            body = self.pack(value, pending.function)
            return body if type(body) is bytes else self._dumps(value)
        except BaseException as error:
            body = pending.failed[index] = self.pack_error(error)
            return body


def _in_band(kind: PickleType) -> Callable[[object], bytes]:
    """What pickles a value into one piece, its buffers inside."""
    pack = serializer(kind).pack

    def dumps(value: object) -> bytes:
        packed = pack(value)
        # For what else is in the value: see `pool_protocol.serializers`.
        return packed if type(packed) is bytes else by_value.dumps(value)

    return dumps


def _starred(function: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda item: function(*item)


def _samples(values: Iterable[Any]) -> Iterable[Any]:
    """One value of each type."""
    return {type(value): value for value in values}.values()


def is_large(value: object) -> bool:
    """True if bytes in it are worth not being copied."""
    if isinstance(value, (bytes, bytearray)):
        return len(value) > LARGE
    if isinstance(value, (tuple, list)):
        return any(isinstance(part, (bytes, bytearray)) and len(part) > LARGE for part in value[:8])
    return False
