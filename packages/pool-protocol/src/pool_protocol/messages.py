"""Messages: one class each, one table.

``Task`` and ``Result`` are made hundreds of thousands of times a second, so they are named tuples
over a frame's own fields; their payloads are opaque here. Every other message is a frozen
dataclass that travels as one JSON object and, where it has a ``blob``, opaque bytes after it.
No message is ever a pickle, so reading one runs no code of the peer's.
"""

import dataclasses
import enum
import json
import struct
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from pool_protocol.errors import RemoteProtocolError
from pool_protocol.frames import LARGE, Buffer, Frame, Packed, encode

_LENGTH = struct.Struct("<I")


class TaskFlag(enum.IntFlag):
    """How the payload of a Task is to be read."""

    CHUNK = 1
    """Many calls in one task: the payload packs a list of items."""
    STAR = 2
    """Each item of a chunk is a tuple of arguments."""
    KWARGS = 4
    """The payload is ``(args, kwargs)``; without it, it is ``args``."""
    TIMED = 8
    """The payload opens with the time limit of each call, in ns (u64)."""
    SEPARATE = 16
    """A chunk's items are pickled one by one."""


class ResultFlag(enum.IntFlag):
    """How the payload of a Result is to be read."""

    ERROR = 1
    """The payload packs an error, not a value."""
    CHUNK = 2
    """The payload packs a list of values."""
    SEPARATE = 4
    """A chunk's values are packed one by one, errors among them."""


class Task(NamedTuple):
    """Client to worker: call function ``function`` (0: none). ``id`` rises with each sending."""

    kind: int
    flags: int
    function: int
    id: int
    payload: Buffer
    buffers: Sequence[Buffer]


class Result(NamedTuple):
    """Worker to client: the outcome of the task sent as ``id``; ``nanos`` is its service time."""

    kind: int
    flags: int
    nanos: int
    id: int
    payload: Buffer
    buffers: Sequence[Buffer]


@dataclass(frozen=True, slots=True)
class Function:
    """Client to worker: ``blob`` is the pickle of function ``id``."""

    KIND: ClassVar[int] = 3
    id: int
    name: str
    by_value: bool
    python: str
    blob: Buffer = b""


@dataclass(frozen=True, slots=True)
class Forget:
    """Client to worker: function ``id`` will not be used again."""

    KIND: ClassVar[int] = 4
    id: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Client to worker: nobody wants the result of the task sent as ``id`` any more."""

    KIND: ClassVar[int] = 5
    id: int


@dataclass(frozen=True, slots=True)
class Setup:
    """Client to worker, first: how to work; ``blob`` packs ``(initializer, initargs)``."""

    KIND: ClassVar[int] = 6
    func_pickle: int
    data_pickle: int
    worker_loop: int
    max_message: int | None
    blob: Buffer = b""


@dataclass(frozen=True, slots=True)
class Ready:
    """Worker to client, after Setup: initialised, send tasks."""

    KIND: ClassVar[int] = 7
    pid: int
    python: str
    version: str


@dataclass(frozen=True, slots=True)
class SetupFailed:
    """Worker to client: the set-up failed; ``blob`` packs the error. The worker ends."""

    KIND: ClassVar[int] = 8
    pid: int
    blob: Buffer = b""


@dataclass(frozen=True, slots=True)
class Retire:
    """Client to worker: finish what you hold, then end."""

    KIND: ClassVar[int] = 9


@dataclass(frozen=True, slots=True)
class HostReady:
    """Supervisor to client, first: who and what this host is."""

    KIND: ClassVar[int] = 16
    pid: int
    host: str
    python: str
    version: str
    cpus: int


@dataclass(frozen=True, slots=True)
class Start:
    """Client to supervisor: start these workers."""

    KIND: ClassVar[int] = 17
    workers: list[int]


@dataclass(frozen=True, slots=True)
class Lost:
    """Supervisor to client: a worker has ended.

    ``exitcode`` is negative for a signal, ``started`` the dispatch id of the task that was
    running (0: none), ``item`` its item in a chunk, ``blob`` the results that the worker had
    gathered but not sent, as frames.
    """

    KIND: ClassVar[int] = 18
    worker: int
    pid: int
    exitcode: int
    started: int
    item: int
    reason: str
    blob: Buffer = b""


@dataclass(frozen=True, slots=True)
class Kill:
    """Client to supervisor: end this worker now."""

    KIND: ClassVar[int] = 19
    worker: int


@dataclass(frozen=True, slots=True)
class Recall:
    """Client to supervisor: let the worker start nothing more of what was sent up to ``last``."""

    KIND: ClassVar[int] = 20
    worker: int
    last: int


@dataclass(frozen=True, slots=True)
class Recalled:
    """Supervisor to client: nothing sent after ``started`` and up to ``last`` will run.

    ``blob`` holds the results that the worker had gathered but not sent, as frames.
    """

    KIND: ClassVar[int] = 21
    worker: int
    started: int
    last: int
    blob: Buffer = b""


@dataclass(frozen=True, slots=True)
class Watch:
    """Client to supervisor: watch the time limits of running tasks, or stop watching."""

    KIND: ClassVar[int] = 22
    on: bool


@dataclass(frozen=True, slots=True)
class Stop:
    """Client to supervisor: end every worker now, then end."""

    KIND: ClassVar[int] = 23


@dataclass(frozen=True, slots=True)
class Ping:
    """Either way on a control connection: answer with a Pong of the same number."""

    KIND: ClassVar[int] = 24
    number: int


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a Ping."""

    KIND: ClassVar[int] = 25
    number: int


Control = (
    Function
    | Forget
    | Cancel
    | Setup
    | Ready
    | SetupFailed
    | Retire
    | HostReady
    | Start
    | Lost
    | Kill
    | Recall
    | Recalled
    | Watch
    | Stop
    | Ping
    | Pong
)
Message = Task | Result | Control

TASK = 1
RESULT = 2
#: Every control message by its kind: the one table.
CONTROL: dict[int, type[Control]] = {
    cls.KIND: cls
    for cls in (
        *(Function, Forget, Cancel, Setup, Ready, SetupFailed, Retire),
        *(HostReady, Start, Lost, Kill, Recall, Recalled, Watch, Stop, Ping, Pong),
    )
}


def _is_int(value: object) -> bool:
    return type(value) is int and -(1 << 63) <= value < 1 << 64


#: Whether a value that came as JSON belongs into a field of a type.
_CHECKS: dict[object, Callable[[object], bool]] = {
    int: _is_int,
    str: lambda value: type(value) is str,
    bool: lambda value: type(value) is bool,
    int | None: lambda value: value is None or _is_int(value),
    list[int]: lambda value: type(value) is list and all(map(_is_int, value)),
}
_FIELDS = {
    cls: {f.name: _CHECKS[f.type] for f in dataclasses.fields(cls) if f.name != "blob"}
    for cls in CONTROL.values()
}
_HAS_BLOB = {cls for cls in CONTROL.values() if "blob" in {f.name for f in dataclasses.fields(cls)}}


def encode_control(message: Control, limit: int | None = None) -> list[Buffer]:
    """The buffers of a control message. Raises FrameTooLarge when it is over ``limit`` bytes."""
    cls = type(message)
    meta = json.dumps({name: getattr(message, name) for name in _FIELDS[cls]}).encode()
    head = _LENGTH.pack(len(meta)) + meta
    blob = getattr(message, "blob", b"")
    if len(blob) <= LARGE:
        return encode(cls.KIND, 0, 0, 0, head + blob, limit)
    # Only bytes cannot change before they are written.
    payload = Packed([head, blob if type(blob) is bytes else bytes(blob)])
    return encode(cls.KIND, 0, 0, 0, payload, limit)


_new = tuple.__new__


def decode(frames: Sequence[Frame], kinds: Collection[int]) -> list[Message]:
    """The messages in ``frames``, of which ``kinds`` are the kinds.

    Raises RemoteProtocolError for anything that is not a message.
    """
    if len(kinds) == 1:
        if RESULT in kinds:
            return [_new(Result, frame) for frame in frames]
        if TASK in kinds:
            return [_new(Task, frame) for frame in frames]
    return list(map(_decode_any, frames))


def _decode_any(frame: Frame) -> Message:
    kind, flags, aux, id, payload, buffers = frame
    if kind == RESULT:
        return _new(Result, frame)
    if kind == TASK:
        return _new(Task, frame)
    cls = CONTROL.get(kind)
    if cls is None:
        raise RemoteProtocolError(f"unknown kind of message: {kind}")
    if buffers or flags or aux or id:
        raise RemoteProtocolError(f"a {cls.__name__} with fields that only tasks have")
    return _decode_control(cls, payload)


def _decode_control(cls: type[Control], payload: Buffer) -> Control:
    try:
        (length,) = _LENGTH.unpack_from(payload)
        end = _LENGTH.size + length
        if end > len(payload):
            raise ValueError("cut short")
        view = memoryview(payload)
        meta = json.loads(str(view[_LENGTH.size : end], "utf-8"))
        blob = bytes(view[end:])
    except (ValueError, struct.error, RecursionError) as error:
        raise RemoteProtocolError(f"an unreadable {cls.__name__}: {error}") from error
    checks = _FIELDS[cls]
    if not isinstance(meta, dict) or meta.keys() != checks.keys():
        raise RemoteProtocolError(f"a {cls.__name__} without its fields")
    for name, check in checks.items():
        if not check(meta[name]):
            raise RemoteProtocolError(f"a {cls.__name__} with a bad {name}")
    if cls in _HAS_BLOB:
        meta["blob"] = blob
    elif blob:
        raise RemoteProtocolError(f"a {cls.__name__} with bytes after its end")
    return cls(**meta)
