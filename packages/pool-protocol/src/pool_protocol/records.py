"""Frozen dataclasses without code of their own.

A dataclass writes and compiles its methods when it is defined: half a millisecond for each class,
in every process that starts. Those of a record are shared, and only the fields are its own.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar, dataclass_transform

T = TypeVar("T")

_set = object.__setattr__


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def record(cls: type[T]) -> type[T]:
    """Make a class what ``dataclass(frozen=True, slots=True)`` would, at less cost.

    ``dataclasses.fields`` and ``replace`` know it. Its fields have no default factories, and it
    inherits no fields.

    Args:
        cls: The class, with annotated fields.

    Returns:
        A class in its place.
    """
    made: type[Any] = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    methods = {"__init__": _initializer(dataclasses.fields(made)), **_METHODS}
    for name, method in methods.items():
        setattr(made, name, method)
    return made


def _initializer(fields: tuple["dataclasses.Field[Any]", ...]) -> Callable[..., None]:
    names = tuple([field.name for field in fields])
    wanted = set(names)
    defaults = {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        values = {**defaults, **dict(zip(names, args, strict=False)), **kwargs}
        given = names[: len(args)]
        if len(given) < len(args) or values.keys() != wanted or not kwargs.keys().isdisjoint(given):
            raise TypeError(f"{type(self).__name__} takes {', '.join(names) or 'nothing'}")
        for name, value in values.items():
            _set(self, name, value)

    return init


def _values(self: Any) -> tuple[Any, ...]:
    return tuple([getattr(self, name) for name in self.__match_args__])


def _repr(self: Any) -> str:
    shown = (field.name for field in dataclasses.fields(self) if field.repr)
    fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
    return f"{type(self).__qualname__}({fields})"


def _eq(self: Any, other: object) -> object:
    if type(other) is not type(self):
        return NotImplemented
    return _values(self) == _values(other)


def _hash(self: Any) -> int:
    return hash(_values(self))


def _refuse_to_set(self: Any, name: str, value: object) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: Any, name: str) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _reduce(self: Any) -> tuple[Any, ...]:
    return type(self), _values(self)


_METHODS = {
    "__repr__": _repr,
    "__eq__": _eq,
    "__hash__": _hash,
    "__setattr__": _refuse_to_set,
    "__delattr__": _refuse_to_delete,
    # Objects with slots and without this would be copied field by field.
    "__reduce__": _reduce,
}
