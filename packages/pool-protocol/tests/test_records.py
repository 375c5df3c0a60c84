"""Records behave as the frozen dataclasses that they stand for."""

import copy
import dataclasses
import pickle
from typing import Any, ClassVar

import pytest

from pool_protocol.records import record


@record
class Parcel:
    """A record."""

    KIND: ClassVar[int] = 7
    number: int
    name: str
    blob: bytes = dataclasses.field(default=b"", repr=False)


@record
class Letter:
    """Another one, with the same fields."""

    number: int
    name: str
    blob: bytes = b""


@record
class Empty:
    """One without fields."""


@dataclasses.dataclass(frozen=True, slots=True)
class Twin:
    """What a parcel stands for."""

    KIND: ClassVar[int] = 7
    number: int
    name: str
    blob: bytes = dataclasses.field(default=b"", repr=False)


ARGUMENTS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((1, "a"), {}),
    ((1, "a", b"x"), {}),
    ((1,), {"name": "a"}),
    ((), {"blob": b"x", "name": "a", "number": 1}),
    ((), {}),
    ((1,), {}),
    ((1, "a", b"x", 4), {}),
    ((1, "a"), {"number": 1}),
    ((1, "a"), {"other": 1}),
    ((), {"other": 1}),
]


@pytest.mark.parametrize(("args", "kwargs"), ARGUMENTS)
def test_takes_what_a_dataclass_takes(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    try:
        twin = Twin(*args, **kwargs)
    except TypeError:
        with pytest.raises(TypeError, match="Parcel"):
            Parcel(*args, **kwargs)
        return
    made = Parcel(*args, **kwargs)
    assert repr(made) == repr(twin).replace("Twin", "Parcel")
    assert dataclasses.asdict(made) == dataclasses.asdict(twin)
    assert hash(made) == hash(twin)


def test_what_it_is() -> None:
    assert Parcel.__doc__ == "A record."
    assert Parcel.KIND == 7
    assert Parcel.__match_args__ == Twin.__match_args__
    assert Parcel.__slots__ == Twin.__slots__
    assert not hasattr(Parcel(1, "a"), "__dict__")
    assert [f.name for f in dataclasses.fields(Parcel)] == ["number", "name", "blob"]
    assert repr(Empty()) == "Empty()"


def test_equal_where_class_and_fields_are() -> None:
    assert Parcel(1, "a") == Parcel(1, "a", b"")
    assert len({Parcel(1, "a"), Parcel(1, "a", b"")}) == 1
    assert Parcel(1, "a") != Parcel(1, "a", b"x")
    assert Parcel(1, "a") != Letter(1, "a")
    assert Parcel(1, "a") != (1, "a", b"")
    assert Empty() == Empty()


@pytest.mark.parametrize("name", ["number", "other", "KIND"])
def test_frozen(name: str) -> None:
    parcel = Parcel(1, "a")
    with pytest.raises(dataclasses.FrozenInstanceError, match=name):
        setattr(parcel, name, 2)
    with pytest.raises(dataclasses.FrozenInstanceError, match=name):
        delattr(parcel, name)
    assert parcel == Parcel(1, "a")


def test_copies() -> None:
    parcel = Parcel(1, "a", b"x")
    assert dataclasses.replace(parcel, name="b") == Parcel(1, "b", b"x")
    assert copy.copy(parcel) == copy.deepcopy(parcel) == parcel
    assert pickle.loads(pickle.dumps(parcel)) == parcel
