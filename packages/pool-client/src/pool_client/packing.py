"""Calls packed for the wire."""

import pickle
import struct
from typing import Any

from pool_client.scheduling.tasks import Function
from pool_protocol import FrameTooLarge, Packed, Payload, Serializer, payload_size
from pool_protocol.errors import text_of
from pool_protocol.frames import HEADER_SIZE, LARGE
from pool_protocol.messages import TaskFlag

_LIMIT = struct.Struct("<Q")
#: The longest limit that travels, in ns: 292 years.
_FOREVER = 2.0**63
_KWARGS = int(TaskFlag.KWARGS)
_TIMED = int(TaskFlag.TIMED)


def pack_call(
    serializer: Serializer,
    function: Function,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    timeout: float | None,
    limit: int | None,
) -> tuple[Payload, int, int]:
    """The payload of a call, its flags, and its size in bytes.

    Raises PicklingError naming the function, RecursionError, or FrameTooLarge.
    """
    try:
        payload = serializer.pack((args, kwargs) if kwargs else args, function.large)
    except (RecursionError, MemoryError, KeyboardInterrupt):
        raise
    except BaseException as error:  # user code: __reduce__ may raise anything
        raise _unpicklable(serializer, function, args, kwargs, error) from error
    flags = _KWARGS if kwargs else 0
    if timeout is not None:
        payload = with_limit(payload, timeout)
        flags |= _TIMED
    size = len(payload) if type(payload) is bytes else payload_size(payload)
    if size > LARGE:
        function.large = True
    if limit is not None:
        check_size(size, limit)
    return payload, flags, size


def with_limit(payload: Payload, seconds: float) -> Payload:
    """A payload that opens with a time limit for each call."""
    prefix = _LIMIT.pack(int(min(max(1.0, seconds * 1e9), _FOREVER)))
    if isinstance(payload, Packed):
        return Packed([prefix, *payload.stream], payload.buffers)
    return prefix + payload


def check_size(size: int, limit: int) -> None:
    """Raise FrameTooLarge for a payload that would make a frame over the limit."""
    if size + HEADER_SIZE > limit:
        raise FrameTooLarge(
            f"a message of {size + HEADER_SIZE:,} bytes is over max_message, {limit:,} bytes; "
            "raise it, or send less at once"
        )


def _unpicklable(
    serializer: Serializer,
    function: Function,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    error: BaseException,
) -> pickle.PicklingError:
    for name, value in [*enumerate(args), *kwargs.items()]:
        try:
            serializer.pack(value)
        except BaseException:
            what = f"argument {name!r} of type {type(value).__qualname__}"
            break
    else:
        what = "the arguments"
    text = f"{what} for {function.name} cannot be pickled: {text_of(error)}"
    return pickle.PicklingError(text)
