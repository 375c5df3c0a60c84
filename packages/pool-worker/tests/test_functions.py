"""pool_worker.functions: unpickled at first use; failures are kept."""

import pickle
from typing import Any

import pytest

from pool_protocol import PickleType, VersionMismatch, serializer
from pool_protocol.messages import Function
from pool_worker.functions import PYTHON, FunctionTable

loads: list[int] = []


class Blob:
    """Counts how often it is unpickled."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        return load, (self.number,)


def load(number: int) -> Any:
    loads.append(number)
    if number < 0:
        raise OSError(f"cannot load {number}")
    return lambda: number


@pytest.fixture
def table() -> FunctionTable:
    loads.clear()
    return FunctionTable(serializer(PickleType.pickle).loads)


def message(id: int, number: int, **fields: Any) -> Function:
    values: dict[str, Any] = {"name": f"f{id}", "by_value": False, "python": PYTHON}
    return Function(id=id, **values | fields, blob=pickle.dumps(Blob(number)))


def test_it_is_unpickled_once_and_late(table: FunctionTable) -> None:
    table.add(message(1, 10))
    assert not loads
    function = table.resolve(1)
    assert function() == 10
    assert table.resolve(1) is function and table.ready == {1: function}
    assert loads == [10]
    assert table.name(1) == "f1"


def test_a_failure_is_raised_each_time(table: FunctionTable) -> None:
    table.add(message(1, -1))
    table.add(message(2, 20))
    for _ in range(3):
        with pytest.raises(OSError, match="cannot load -1"):
            table.resolve(1)
        assert table.resolve(2)() == 20
    assert loads == [-1, 20]


def test_another_function_of_the_same_id(table: FunctionTable) -> None:
    table.add(message(1, -1))
    with pytest.raises(OSError, match="cannot load"):
        table.resolve(1)
    table.add(message(1, 11))
    assert table.resolve(1)() == 11
    table.add(message(1, 12))
    assert table.resolve(1)() == 12


def test_forget(table: FunctionTable) -> None:
    table.add(message(1, 10))
    table.resolve(1)
    table.forget(1)
    table.forget(99)
    assert not table.ready
    with pytest.raises(LookupError, match="never told of function 1"):
        table.resolve(1)
    assert table.name(1) == "function 1"


def test_by_value_from_another_python(table: FunctionTable) -> None:
    table.add(message(1, 10, by_value=True, python="2.7.18"))
    for _ in range(2):
        with pytest.raises(VersionMismatch, match=r"f1 .* Python 2\.7\.18.* Python " + PYTHON):
            table.resolve(1)
    assert not loads
    table.add(message(2, 20, by_value=False, python="2.7.18"))
    assert table.resolve(2)() == 20
    other_micro = ".".join([*PYTHON.split(".")[:2], "99"])
    table.add(message(3, 30, by_value=True, python=other_micro))
    assert table.resolve(3)() == 30
