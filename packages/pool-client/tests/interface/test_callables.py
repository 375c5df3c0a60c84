"""Every kind of callable can be a task."""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import interface_tasks as tasks
import pytest


def closure(base: int) -> Callable[[int], int]:
    """Return a function that closes over *base*."""

    def add_base(number: int) -> int:
        return base + number

    return add_base


CALLABLES: dict[str, Any] = {
    "builtin": (abs, (-3,), 3),
    "builtin of a module": (math.gcd, (12, 18), 6),
    "builtin method": ([1, 2, 3].index, (3,), 2),
    "string method": ("-".join, (["a", "b"],), "a-b"),
    "operator": (operator.mul, (6, 7), 42),
    "itemgetter": (operator.itemgetter(1), ([5, 6],), 6),
    "class": (complex, (1, 2), 1 + 2j),
    "function of a module": (tasks.add, (1, 2), 3),
    "lambda": (lambda number: number + 1, (1,), 2),
    "closure": (closure(10), (5,), 15),
    "bound method": (tasks.Account(100).plus, (5,), 105),
    "class method": (tasks.Account.name, (), "Account"),
    "static method": (tasks.Account.double, (4,), 8),
    "callable object": (tasks.Account(100), (5,), 95),
    "partial": (functools.partial(tasks.add, 1), (2,), 3),
    "partial of a lambda": (functools.partial(lambda a, b: a - b, 1), (2,), -1),
    "async function": (tasks.aadd, (1, 2), 3),
    "partial of an async function": (functools.partial(tasks.aadd, 1), (2,), 3),
    "function that returns an awaitable": (tasks.future_like, (8,), 8),
}


@pytest.fixture(params=CALLABLES, ids=lambda name: name.replace(" ", "-"))
def case(request: pytest.FixtureRequest) -> Any:
    """Yield a callable, its arguments, and what it returns."""
    return CALLABLES[request.param]


@pytest.fixture
def pool(shared: Any) -> Any:
    """Yield the pool of this file: these tests leave it as it is."""
    return shared


def test_run_and_submit(pool: Any, case: tuple[Callable[..., Any], tuple[Any, ...], Any]) -> None:
    """Each kind of callable runs as a task, twice, alone and mapped."""
    func, args, expected = case
    assert pool.run(func, *args) == expected
    assert pool.submit(func, *args).result(30) == expected
    if args:
        assert list(pool.map(func, *[[arg] * 3 for arg in args], timeout=30)) == [expected] * 3


def test_keyword_arguments(pool: Any) -> None:
    """Keyword arguments arrive as such, whatever they are called."""
    expected = ((1,), {"fn": 2, "func": 3, "timeout": 4})
    assert pool.run(tasks.keywords, 1, fn=2, func=3, timeout=4) == expected
    assert pool.submit(tasks.keywords, 1, fn=2, func=3, timeout=4).result(30) == expected


def test_async_lambda_in_a_closure(pool: Any) -> None:
    """An async function may be defined inside another function."""
    base = 5

    async def inner(number: int) -> int:
        return base + number

    assert pool.run(inner, 1) == 6


def test_many_functions(pool: Any) -> None:
    """No two functions are ever taken for each other."""
    futures = [pool.submit(closure(base), 1) for base in range(300)]
    assert [future.result(30) for future in futures] == list(range(1, 301))


def test_short_lived_functions(pool: Any) -> None:
    """A function made anew at an old one's address is a function of its own."""
    assert [pool.run(eval(f"lambda: {n}")) for n in range(100)] == list(range(100))


def test_a_bound_method_follows_its_object(pool: Any) -> None:
    """Two objects' methods are two functions."""
    first, second = tasks.Account(1), tasks.Account(2)
    assert [pool.run(account.plus, 10) for account in (first, second, first)] == [11, 12, 11]


def test_not_callable(pool: Any) -> None:
    """What cannot be called fails, and says so."""
    with pytest.raises(TypeError):
        pool.run(5)


def test_results_of_every_kind(pool: Any) -> None:
    """Results come back equal to what was returned."""
    values: list[Any] = [
        None,
        False,
        0,
        "",
        (),
        [],
        {"a": [1]},
        {1, 2},
        b"x" * 100_000,
        "é" * 70_000,
    ]
    for value in values:
        assert pool.run(tasks.echo, value) == value


def test_none_results(pool: Any) -> None:
    """A function that returns nothing gives ``None``."""
    assert pool.run([].clear) is None
    assert list(pool.map(lambda n: None, range(3))) == [None] * 3


def test_an_exception_as_a_result(pool: Any) -> None:
    """An exception that is returned, not raised, is a result."""
    result = pool.run(ValueError, "just a value")
    assert isinstance(result, ValueError)
    assert result.args == ("just a value",)


def test_a_class_as_a_result(pool: Any) -> None:
    """A class can be a result."""
    assert pool.run(type, 5) is int


@pytest.mark.parametrize("size", [1_000, 100_000, 3_000_000])
def test_bytes_there_and_back(pool: Any, size: int) -> None:
    """Data of any size comes back unharmed."""
    data = bytes(range(256)) * (size // 256)
    assert pool.run(tasks.add, data, b"!") == data + b"!"
    array = bytearray(data)
    assert pool.run(tasks.add, array, b"!") == array + b"!"


def test_numpy_array(pool: Any) -> None:
    """A large array goes there and back and can be written to."""
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(300_000, dtype="f8")
    result = pool.run(tasks.add, array, 1)
    assert (result == array + 1).all()
    result[0] = 5
