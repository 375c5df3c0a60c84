"""Tasks of many calls: the chunks of ``map``.

A chunk is delivered whole. If its worker is lost it is split: the item that was running is tried
again by itself, those before and after it in chunks of their own. Arguments that are over
``max_message`` together are sent in several tasks; results that are come back in parts.
"""

import contextlib
import pickle
from collections.abc import Callable, Sequence
from typing import Any

from pool_client.mapping.seam import ChunkResult
from pool_client.outcomes import unpack_error, unreadable
from pool_client.packing import check_size, with_limit
from pool_client.scheduling.tasks import TASK_FIELDS, Function, Task, Terms
from pool_protocol import (
    Buffer,
    FrameTooLarge,
    Packed,
    Payload,
    PoolError,
    Serializer,
    by_value,
    payload_size,
)
from pool_protocol.errors import text_of
from pool_protocol.frames import LARGE, nbytes
from pool_protocol.messages import RESULT, Result, ResultFlag, TaskFlag
from pool_protocol.serializers import is_plain, pack_separate, unpack_separate

# Plain numbers: an IntFlag's operators take microseconds.
_CHUNK = int(TaskFlag.CHUNK)
_STAR_CHUNK = int(TaskFlag.CHUNK | TaskFlag.STAR)
_TIMED = int(TaskFlag.TIMED)
_SEPARATE = int(TaskFlag.SEPARATE)
_ERROR = int(ResultFlag.ERROR)
_SEPARATE_RESULTS = int(ResultFlag.SEPARATE)
_PART_RESULTS = int(ResultFlag.CHUNK | ResultFlag.SEPARATE)


def pack_items(
    items: Sequence[Any], serializer: Serializer, streamed: bool = False
) -> tuple[Payload, int, dict[int, BaseException]]:
    """The payload of a chunk, its flags, and the items that cannot be pickled.

    An item that cannot be pickled stands in the payload as None; its error is in the mapping.
    """
    errors: dict[int, BaseException] = {}
    if len(items) == 1 or is_plain(items):
        try:
            return serializer.pack(list(items), streamed), 0, errors
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if len(items) == 1:
                return b"", 0, {0: unpicklable(items[0], error)}
    bodies: list[bytes] = []
    for index, item in enumerate(items):
        try:
            bodies.append(pack_whole(item, serializer))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # user code: __reduce__ may raise anything
            errors[index] = unpicklable(item, error)
            bodies.append(pickle.dumps(None))
    return pack_separate(bodies), _SEPARATE, errors


def pack_whole(value: Any, serializer: Serializer) -> bytes:
    """A value pickled into one piece, its buffers inside."""
    packed = serializer.pack(value)
    if isinstance(packed, Packed):
        if packed.buffers:
            # For what else is in the value: see `pool_protocol.serializers`.
            return by_value.dumps(value)
        return b"".join(packed.stream)
    return packed


def unpicklable(value: Any, error: BaseException) -> BaseException:
    """What a user reads when an argument cannot be pickled; a RecursionError stays one."""
    if isinstance(error, RecursionError):
        return error
    made = pickle.PicklingError(
        f"an argument of type {type(value).__qualname__} cannot be pickled: {text_of(error)}"
    )
    made.__cause__ = error
    return made


class Chunk:
    """The items of one chunk and what is known of them.

    It is the handle of the submitted chunk, and says ``done`` with its `Answers` once all are in.
    """

    def __init__(
        self,
        items: list[Any],
        function: Function,
        star: bool,
        terms: Terms,
        serializer: Serializer,
        done: Callable[["Answers"], None],
    ) -> None:
        self.items = items
        self.function = function
        self.star = star
        self.terms = terms
        self.serializer = serializer
        self.nbytes = 0
        self._max_message: int | None = None
        self._cancelled = False
        self._sent = False
        #: Whoever takes this decides whether the chunk is sent. Not a lock: cancelling happens in
        #: other threads and in finalizers, which may come while this one is deciding.
        self._undecided = [None]
        self._done = done
        self._missing = len(items)
        self._answers = Answers(serializer)

    def cancel(self) -> bool:
        """Withdraw the chunk; True if it was not sent, and then ``done`` is not called."""
        with contextlib.suppress(IndexError):
            self._undecided.pop()
            self._cancelled = True
        return self._cancelled

    def begin(self) -> bool:
        """It is about to be sent. False: it was withdrawn."""
        with contextlib.suppress(IndexError):
            self._undecided.pop()
            self._sent = True
        return self._sent

    def task(self, start: int, stop: int) -> "ChunkTask | None":
        """The task for some of the items; None when none of them can be sent."""
        items = self.items[start:stop] if stop - start < len(self.items) else self.items
        streamed = self.function.estimate.mean is not None and self._is_large(items)
        payload, flags, errors = pack_items(items, self.serializer, streamed)
        if len(errors) == len(items):
            for index, error in errors.items():
                self.answer(start + index, start + index + 1, error)
            return None
        if errors:
            # Send what can be sent, each run of good items by itself.
            raise _Patchy(errors)
        flags |= _STAR_CHUNK if self.star else _CHUNK
        if self.terms.timeout is not None:
            payload = with_limit(payload, self.terms.timeout)
            flags |= _TIMED
        return ChunkTask(self, start, stop, flags, payload)

    @staticmethod
    def _is_large(items: Sequence[Any]) -> bool:
        head = items[0]
        return isinstance(head, bytes) and len(head) > LARGE

    def tasks(self, max_message: int | None = None) -> list["ChunkTask"]:
        """The tasks of the whole chunk: one, unless items cannot be pickled or are too large."""
        self._max_message = max_message
        tasks = self.cover(0, len(self.items))
        self.nbytes = sum(task.nbytes for task in tasks)
        return tasks

    def cover(self, start: int, stop: int) -> list["ChunkTask"]:
        """The tasks of some of the items; what cannot be sent is answered."""
        if start == stop:
            return []
        try:
            task = self.task(start, stop)
        except _Patchy as patchy:
            return self._patch(start, stop, patchy.errors)
        if task is None:
            return []
        if self._max_message is not None:
            try:
                check_size(task.nbytes, self._max_message)
            except FrameTooLarge as error:
                middle = (start + stop) // 2
                if middle > start:
                    return self.cover(start, middle) + self.cover(middle, stop)
                self.answer(start, stop, error)
                return []
        return [task]

    def _patch(self, start: int, stop: int, errors: dict[int, BaseException]) -> list["ChunkTask"]:
        tasks: list[ChunkTask] = []
        begin = start
        for index, error in sorted(errors.items()):
            tasks += self.cover(begin, start + index)
            begin = start + index + 1
            self.answer(start + index, begin, error)
        return tasks + self.cover(begin, stop)

    def answer(self, start: int, stop: int, answer: Result | BaseException) -> None:
        """Some of the items are known now."""
        self._answers.add(start, stop, answer)
        self._missing -= stop - start
        if not self._missing and not self._cancelled:
            self._done(self._answers)


class Answers:
    """All that came back for a chunk, still packed."""

    def __init__(self, serializer: Serializer) -> None:
        self.serializer = serializer
        self.nanos = 0
        self.nbytes = 0
        self._answers: list[tuple[int, int, Result | BaseException]] = []

    def add(self, start: int, stop: int, answer: Result | BaseException) -> None:
        """The answer for some of the items."""
        self._answers.append((start, stop, answer))
        if isinstance(answer, Result):
            self.nanos += answer.nanos
            self.nbytes += nbytes(answer.payload) + sum(map(nbytes, answer.buffers))

    def result(self) -> ChunkResult:
        """All values in order; runs in the consumer's thread, which pays for unpickling."""
        if len(self._answers) == 1:
            return self._unpack(*self._answers[0])
        values: list[Any] = []
        failed: set[int] = set()
        for start, stop, answer in sorted(self._answers, key=lambda a: a[0]):
            part = self._unpack(start, stop, answer)
            values += part.values
            failed.update(start + index for index in part.failed)
        return ChunkResult(values, frozenset(failed), self.nanos)

    def _unpack(self, start: int, stop: int, answer: Result | BaseException) -> ChunkResult:
        count = stop - start
        found = self._read(answer, count)
        if len(found.values) != count:
            error = PoolError(f"{len(found.values)} values came for {count} calls of a map")
            return _all_failed(error, count, found.nanos)
        return found

    def _read(self, answer: Result | BaseException, count: int) -> ChunkResult:
        if isinstance(answer, BaseException):
            return _all_failed(answer, count, 0)
        if answer.flags & _ERROR:
            error = unpack_error(answer.payload, self.serializer)
            return _all_failed(error, count, answer.nanos)
        if answer.flags & _SEPARATE_RESULTS:
            return self._unpack_separate(answer)
        try:
            values = self.serializer.unpack(answer.payload, answer.buffers)
        except BaseException as error:
            return _all_failed(unreadable(error), count, answer.nanos)
        return ChunkResult(values, frozenset(), answer.nanos)

    def _unpack_separate(self, answer: Result) -> ChunkResult:
        bodies, errors = unpack_separate(answer.payload)
        values: list[Any] = []
        failed = set(errors)
        for index, body in enumerate(bodies):
            if index in errors:
                values.append(unpack_error(body, self.serializer))
                continue
            try:
                values.append(self.serializer.unpack(body))
            except BaseException as error:
                values.append(unreadable(error))
                failed.add(index)
        return ChunkResult(values, frozenset(failed), answer.nanos)


def _all_failed(error: BaseException, count: int, nanos: int) -> ChunkResult:
    return ChunkResult([error] * count, frozenset(range(count)), nanos)


class _Patchy(Exception):
    def __init__(self, errors: dict[int, BaseException]) -> None:
        self.errors = errors


class ChunkTask(Task):
    """The calls for items ``start`` to ``stop`` of a chunk."""

    __slots__ = (*TASK_FIELDS, "chunk", "parts", "start_index", "stop_index")

    def __init__(self, chunk: Chunk, start: int, stop: int, flags: int, payload: Payload) -> None:
        super().__init__(chunk.function, flags, payload, payload_size(payload), chunk.terms)
        self.chunk = chunk
        self.start_index = start
        self.stop_index = stop
        self.items = stop - start
        #: What came of the result ahead of the rest: values and their count, by the first's index.
        self.parts: dict[int, tuple[int, Buffer]] = {}

    def start(self) -> bool:
        """A cancelled chunk is not sent."""
        self.parts.clear()
        return self.chunk.begin()

    def take_part(self, first: int, payload: Buffer) -> None:
        """They come in order, before the result, on the worker's own connection."""
        self.parts[first] = len(unpack_separate(payload)[0]), payload

    def resolve(self, result: Result) -> None:
        """These items are answered."""
        start = self.start_index
        for _, (count, payload) in sorted(self.parts.items(), key=lambda part: part[0]):
            part = Result(RESULT, _PART_RESULTS, 0, 0, payload, ())
            self.chunk.answer(start, start + count, part)
            start += count
        self.chunk.answer(start, self.stop_index, result)

    def fail(self, error: BaseException) -> None:
        """These items will not be answered."""
        self.chunk.answer(self.start_index, self.stop_index, error)

    def split(self, item: int) -> tuple[Sequence[Task], Task, Sequence[Task]]:
        """The parts before, at and after an item, to be tried again."""
        if self.items == 1:
            return (), self, ()
        at = self.start_index + min(item, self.items - 1)
        before = self._part(self.start_index, at)
        blamed = self._part(at, at + 1)
        after = self._part(at + 1, self.stop_index)
        if not blamed:
            return before, _Answered(self.chunk, at, at + 1, 0, b""), after
        return before, blamed[0], after

    def _part(self, start: int, stop: int) -> "list[ChunkTask]":
        # Packed anew. Items may have changed meanwhile; those that cannot be packed any more are
        # answered there and then.
        parts = self.chunk.cover(start, stop)
        for part in parts:
            part.attempts = self.attempts
        return parts


class _Answered(ChunkTask):
    """A part that has its answer already."""

    __slots__ = ()

    def start(self) -> bool:
        """There is nothing to send."""
        return False

    def fail(self, error: BaseException) -> None:
        """It has its answer."""
