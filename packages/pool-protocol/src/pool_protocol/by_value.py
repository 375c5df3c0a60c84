"""What cloudpickle leaves to be found by its name, or refuses, though it sends the rest by value.

cloudpickle sends functions and classes of ``__main__``, and local ones, by value, but

- a function with a cache (`functools.cache`, `functools.lru_cache`) by its name, which the other
  side's ``__main__`` does not have,
- a class with a `functools.cached_property` not at all before Python 3.12, for the lock in it.

Both are made anew on the other side, caches empty.
"""

import functools
import io
import sys
from collections import ChainMap
from collections.abc import Callable
from typing import Any

_CACHED: Any = type(functools.lru_cache(abs))
_MAINS = ("__main__", "__mp_main__")


def dumps(
    value: object, protocol: int = 5, buffer_callback: Callable[[Any], Any] | None = None
) -> bytes:
    """As ``cloudpickle.dumps``.

    Args:
        value: What is pickled.
        protocol: The version of pickle's format.
        buffer_callback: As for ``pickle.dumps``.

    Returns:
        The pickle.

    Raises:
        Whatever the value's own methods raise, and PicklingError or TypeError for what cannot be
        pickled; ImportError without cloudpickle.
    """
    file = io.BytesIO()
    pickler()(file, protocol, buffer_callback=buffer_callback).dump(value)
    return file.getvalue()


def pickler() -> Any:
    """The class of cloudpickle's pickler, with our two additions. Raises ImportError."""
    import cloudpickle

    return _extended(cloudpickle.Pickler)


@functools.lru_cache(1)
def _extended(base: Any) -> Any:
    ours = {_CACHED: _reduce_cached, functools.cached_property: _reduce_property}
    table = ChainMap(ours, *base.dispatch_table.maps)
    return type("Pickler", (base,), {"dispatch_table": table})


def _reduce_cached(function: Any) -> Any:
    if _is_importable(function):
        return function.__reduce__()
    return _cached, (function.__wrapped__, function.cache_parameters())


def _cached(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _is_importable(function: Any) -> bool:
    """Does the other side find it where its name says?"""
    import cloudpickle

    module = function.__module__
    sent = (*_MAINS, *cloudpickle.list_registry_pickle_by_value())
    if any(f"{module}.".startswith(f"{name}.") for name in sent):
        return False
    found: Any = sys.modules.get(module)
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is function


def _reduce_property(attribute: "functools.cached_property[Any]") -> Any:
    return _property, (attribute.func, attribute.attrname)


def _property(function: Callable[..., Any], name: str | None) -> Any:
    made: functools.cached_property[Any] = functools.cached_property(function)
    made.attrname = name
    return made
