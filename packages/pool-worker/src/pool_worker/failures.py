"""Errors of tasks, packed so that the client can always read them.

A packed error is a pickle of ``(blob, type, text, traceback)``: ``blob`` is the pickled exception
if it survives a round trip in this process, else None; the others are strings. Nothing that an
exception's own methods do may escape from here.
"""

import os
import pickle
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

from pool_protocol import by_value
from pool_protocol.errors import text_of

Dumps = Callable[[object], bytes]

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep

#: A packed ``asyncio.CancelledError``, by hand: to make one would load asyncio.
CANCELLED = pickle.dumps(
    (b"casyncio.exceptions\nCancelledError\n)R.", "asyncio.exceptions.CancelledError", "", "")
)


def pack_error(error: BaseException, dumps: Dumps = pickle.dumps) -> bytes:
    """Pack an exception; ``dumps`` is tried first, cloudpickle after it. Never raises."""
    blob = _survivor(error, dumps) or _survivor(error, by_value.dumps)
    return pickle.dumps((blob, type_name(type(error)), text_of(error), _traceback(error)))


def exit_status(packed: Any) -> tuple[int, str]:
    """With what a program would end that has this packed error, and what it would print."""
    _, name, text, trace = pickle.loads(packed)
    if name != "SystemExit":
        return 1, trace
    if text in ("", "None"):
        return 0, ""
    return (int(text) & 0xFF, "") if text.lstrip("-").isdigit() else (1, f"{text}\n")


def _survivor(error: BaseException, dumps: Dumps) -> bytes | None:
    try:
        data = bytes(dumps(error))
        if type(pickle.loads(data)) is type(error):
            return data
    except BaseException:  # an exception's own __reduce__ or __init__ may do anything
        return None
    return None


def type_name(cls: type) -> str:
    """The full name of a class, without the module for a builtin."""
    try:
        module, name = str(cls.__module__), str(cls.__qualname__)
    except BaseException:
        return "an unnameable class"
    return name if module == "builtins" else f"{module}.{name}"


def _traceback(error: BaseException) -> str:
    try:
        _drop_own_frames(error)
        return "".join(traceback.format_exception(error))
    except BaseException:
        return f"{type_name(type(error))}: {text_of(error)}\n"


def _drop_own_frames(error: BaseException) -> None:
    chained: BaseException | None = error
    for _ in range(100):
        if chained is None:
            return
        chained.__traceback__ = _users(chained.__traceback__)
        chained = chained.__cause__ or chained.__context__


def _users(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_HERE):
        trace = trace.tb_next
    return trace
