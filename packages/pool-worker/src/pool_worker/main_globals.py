"""One ``__main__`` for all functions that come from the client's.

cloudpickle gives each function that it sends by value globals of its own, so what an initializer
of ``__main__`` sets with ``global`` would not be seen by the tasks' functions. Here all of them
share one dictionary, as they do in the client.

A function brings the globals that it uses. They are taken over, except where the client has sent
the same value before: then what the worker has made of it since (a cache that was filled) stays.
"""

import io
import pickle
from collections.abc import Sequence
from types import CodeType
from typing import Any

from pool_protocol import Buffer, by_value

#: What the client's script is called; the second, in a child that multiprocessing has spawned.
_MAIN = ("__main__", "__mp_main__")
_MODULE = "cloudpickle.cloudpickle"


class MainGlobals:
    """The globals of the client's ``__main__``, as far as functions have brought them."""

    def __init__(self) -> None:
        self.shared: dict[str, Any] = {}
        self._sent: dict[str, bytes | None] = {}

    def unpack(self, payload: Buffer, buffers: Sequence[Buffer] = ()) -> Any:
        """As a serializer's ``unpack``, for what cloudpickle has packed."""
        return _Unpickler(self, payload, buffers).load()

    def make_function(
        self, code: CodeType, base: dict[str, Any], name: str, defaults: Any, closure: Any
    ) -> Any:
        """In the place of cloudpickle's maker of functions."""
        if base.get("__name__") not in _MAIN:
            return _cloudpickle()._make_function(code, base, name, defaults, closure)
        for key, value in base.items():
            self.shared.setdefault(key, value)
        return _cloudpickle()._make_function(code, self.shared, name, defaults, closure)

    def set_state(self, function: Any, state: Any) -> None:
        """In the place of cloudpickle's setter of a function's state."""
        attributes, slots = state
        if function.__globals__ is self.shared:
            slots["__globals__"] = {
                name: value
                for name, value in slots["__globals__"].items()
                if self._takes(name, value)
            }
        _cloudpickle()._function_setstate(function, (attributes, slots))

    def _takes(self, name: str, value: Any) -> bool:
        """Is a global that a function brings to be taken over?"""
        try:
            sent: bytes | None = by_value.dumps(value)
        except Exception:  # it came by a way of its own, and cannot be compared
            sent = None
        known = name in self.shared
        same = name not in self._sent or (sent is not None and self._sent[name] == sent)
        self._sent[name] = sent
        return not (known and same)


class _Unpickler(pickle.Unpickler):
    """Finds our two functions in the place of cloudpickle's."""

    def __init__(self, mains: MainGlobals, payload: Buffer, buffers: Sequence[Buffer]) -> None:
        super().__init__(io.BytesIO(payload), buffers=buffers)
        self._mains = mains

    def find_class(self, module: str, name: str) -> Any:
        if module == _MODULE:
            if name == "_make_function":
                return self._mains.make_function
            if name == "_function_setstate":
                return self._mains.set_state
        return super().find_class(module, name)


def _cloudpickle() -> Any:
    # Imported when first needed: a worker whose functions come by reference does without it.
    import cloudpickle.cloudpickle

    return cloudpickle.cloudpickle


#: This worker's.
MAIN = MainGlobals()
