"""Messages as frames, and frames as messages.

A control message travels as one JSON object and, where it has a ``blob``, opaque bytes after it. No
message is ever a pickle, so reading one runs no code of the peer's.
"""

import dataclasses
import json
import struct
from collections.abc import Callable, Collection
from typing import Any

from pool_protocol.errors import RemoteProtocolError
from pool_protocol.frames import LARGE, Buffer, Frame, FrameDecoder, Packed, encode
from pool_protocol.messages import CONTROL, RESULT, TASK, Control, Message, Result, Task

_LENGTH = struct.Struct("<I")


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


def decode(frames: list[Frame], kinds: Collection[int]) -> list[Message]:
    """The messages in ``frames``, of which ``kinds`` are the kinds; they may take their places.

    Raises RemoteProtocolError for anything that is not a message.
    """
    if len(kinds) == 1 and (RESULT in kinds or TASK in kinds):
        # Each frame goes as its message comes: the garbage collector comes when there are many more
        # objects than before, and there may be thousands of these.
        cls: Any = Result if RESULT in kinds else Task
        messages: list[Any] = frames
        for index, frame in enumerate(frames):
            messages[index] = _new(cls, frame)
        return messages
    return list(map(_decode_any, frames))


def decode_whole(data: Buffer) -> list[Message]:
    """The messages in a piece of a stream that begins with one; what is cut off at its end is none.

    Raises RemoteProtocolError for anything that is not a message.
    """
    decoder = FrameDecoder()
    messages: list[Message] = []
    view = memoryview(data)
    while view:
        hole = decoder.get_buffer()
        count = min(len(hole), len(view))
        hole[:count] = view[:count]
        view = view[count:]
        frames = decoder.received(count)
        messages += decode(frames, {frame[0] for frame in frames})
    return messages


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
