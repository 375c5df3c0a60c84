"""Functions as they travel: pickled once, sent once to each worker, known by a number.

A plain function, builtin or class is known by identity: it is pickled at its first submission and
kept, so later changes to what it closes over are not seen. Anything that carries state (a bound
method, a partial, a callable object) is pickled at every submission, as its state may have
changed, and known by the bytes of its pickle.
"""

import pickle
import sys
import threading
import types
from collections import OrderedDict
from typing import Any

from pool_client.packing import check_size
from pool_client.scheduling.tasks import Function
from pool_protocol import PickleType, Serializer, by_value, serializer
from pool_protocol.frames import Packed

#: Functions that are kept; the longest unused is forgotten first.
CAPACITY = 4096

#: What a function's message holds besides its pickle, in bytes, at most.
_NAMES = 1536
#: The most of a function's name that travels, in characters (JSON may need twelve bytes for one).
_LONGEST = 100

_BY_IDENTITY = (types.FunctionType, type)
#: Functions and methods written in C: they have no module of their own, or no use for it.
_OF_C = (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType)


class FunctionTable:
    """The functions of a pool. Thread-safe."""

    def __init__(self, kind: PickleType, max_message: int | None = None) -> None:
        self._max_message = max_message
        self._serializer: Serializer = serializer(kind)
        if kind is PickleType.cloudpickle:
            _send_main_by_value()
        self._kind = kind
        self._by_identity: dict[int, tuple[object, Function]] = {}
        self._by_bytes: OrderedDict[bytes, Function] = OrderedDict()
        self._last = 0
        #: Reentrant: finalizers, also of what is evicted, may submit something in the middle.
        self._lock = threading.RLock()
        #: Numbers that no worker needs any more, for the engine to pass on.
        self.forgotten: list[int] = []

    def __len__(self) -> int:
        return len(self._by_bytes)

    def get(self, func: Any) -> Function:
        """The function's record. Raises PicklingError, naming the function, or FrameTooLarge."""
        known = self._by_identity.get(id(func))
        if known is not None:
            # The record keeps the object alive, so its id cannot be another's.
            return known[1]
        blob = self._pickle(func)
        if self._max_message is not None:
            check_size(len(blob) + _NAMES, self._max_message)
        with self._lock:
            function = self._by_bytes.get(blob)
            if function is None:
                self._last += 1
                made = Function(
                    self._last, name_of(func)[:_LONGEST], blob, not is_by_reference(func)
                )
                function = self._by_bytes.setdefault(blob, made)
                self._evict()
            else:
                self._by_bytes.move_to_end(blob)
            if _is_stateless(func):
                self._by_identity[id(func)] = (func, function)
        return function

    def _pickle(self, func: Any) -> bytes:
        try:
            packed = self._serializer.pack(func)
        except Exception as error:
            raise pickle.PicklingError(
                f"the function {name_of(func)} cannot be pickled with {self._kind.name}: {error}"
            ) from error
        if isinstance(packed, Packed):
            # A function that carries arrays: its pickle is kept in one piece.
            return by_value.dumps(func)
        return packed

    def _evict(self) -> None:
        while len(self._by_bytes) > CAPACITY:
            _, old = self._by_bytes.popitem(last=False)
            for key in [k for k, (_, f) in self._by_identity.copy().items() if f is old]:
                del self._by_identity[key]
            # In this order: the engine, in another thread, sees the one or the other.
            old.forgotten = True
            self.forgotten.append(old.id)


def _send_main_by_value() -> None:
    """In a child that multiprocessing has spawned, the user's script is a module of this name."""
    script = sys.modules.get("__mp_main__")
    if script is not None:
        import cloudpickle

        cloudpickle.register_pickle_by_value(script)


def _is_stateless(func: Any) -> bool:
    if isinstance(func, types.BuiltinFunctionType):
        return func.__self__ is None or isinstance(func.__self__, types.ModuleType)
    return isinstance(func, _BY_IDENTITY)


def name_of(func: Any) -> str:
    """How messages name a function."""
    inner = getattr(func, "func", None)
    if not hasattr(func, "__qualname__") and callable(inner):
        return f"partial of {name_of(inner)}"
    module = getattr(func, "__module__", None) or type(func).__module__
    return f"{module}.{getattr(func, '__qualname__', type(func).__qualname__)}"


def is_by_reference(func: Any) -> bool:
    """True if a worker finds the function by importing its module."""
    module = getattr(func, "__module__", None)
    name = getattr(func, "__qualname__", None)
    if module is None or name is None or module == "__main__":
        return isinstance(func, _OF_C)
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not func:
        return isinstance(func, types.MethodType) and is_by_reference(type(func.__self__))
    return module not in _registered_by_value()


def _registered_by_value() -> set[str]:
    import cloudpickle

    names: set[str] = cloudpickle.list_registry_pickle_by_value()
    return names
