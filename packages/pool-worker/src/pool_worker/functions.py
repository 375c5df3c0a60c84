"""The functions that a worker knows, by their ids.

A function is unpickled when a task first needs it, so that whatever its unpickling does (also a
crash) is that task's, and not the death of an idle worker.
"""

import sys
from collections.abc import Callable
from typing import Any

from pool_protocol import Buffer, PickleType, VersionMismatch, serializer
from pool_protocol.messages import Function
from pool_worker.main_globals import MAIN

PYTHON = ".".join(map(str, sys.version_info[:3]))


class FunctionTable:
    """Functions by id; ``ready`` holds those that were used already."""

    def __init__(self, unpack: Callable[[Buffer], Any]) -> None:
        self.ready: dict[int, Callable[..., Any]] = {}
        self._unpack = unpack
        self._messages: dict[int, Function] = {}
        self._failures: dict[int, BaseException] = {}

    def add(self, message: Function) -> None:
        """Learn a function; it is not unpickled yet."""
        self.forget(message.id)
        self._messages[message.id] = message

    def forget(self, number: int) -> None:
        """Drop a function; unknown ones are ignored."""
        self.ready.pop(number, None)
        self._messages.pop(number, None)
        self._failures.pop(number, None)

    def name(self, number: int) -> str:
        """What to call a function in a message."""
        message = self._messages.get(number)
        return message.name if message is not None else f"function {number}"

    def resolve(self, number: int) -> Callable[..., Any]:
        """The function. Raises whatever its unpickling raised, each time."""
        function = self.ready.get(number)
        if function is not None:
            return function
        failure = self._failures.get(number)
        if failure is not None:
            raise failure.with_traceback(None)
        message = self._messages.get(number)
        if message is None:
            raise LookupError(f"this worker was never told of function {number}")
        try:
            function = self._load(message)
        except BaseException as error:
            self._failures[number] = error
            raise
        self.ready[number] = function
        return function

    def _load(self, message: Function) -> Callable[..., Any]:
        if message.by_value and _minor(message.python) != _minor(PYTHON):
            raise VersionMismatch(
                f"{message.name} is sent by value from Python {message.python}, and this worker "
                f"runs Python {PYTHON}: install the same minor version on both, or put the "
                "function into a module that both can import"
            )
        function: Callable[..., Any] = self._unpack(message.blob)
        return function


def unpacker(kind: PickleType) -> Callable[[Buffer], Any]:
    """What unpacks functions of a kind. Raises SerializerMissing, saying what to install."""
    loads = serializer(kind).loads
    return MAIN.unpack if kind is PickleType.cloudpickle else loads


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
