"""``func_pickle`` and ``data_pickle``, and how functions are cached."""

from typing import Any

import interface_tasks as tasks
import pytest
from support import run_script

from pool_client import PickleType, Pool, functions

KINDS = list(PickleType)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> PickleType:
    """Yield each pickler that is installed."""
    pytest.importorskip(request.param.name)
    return PickleType(request.param)


def test_functions_of_modules(kind: PickleType) -> None:
    """Every pickler sends functions of modules."""
    with Pool(1, func_pickle=kind) as pool:
        assert pool.run(tasks.add, 1, 2) == 3
        assert pool.run(abs, -1) == 1
        assert list(pool.map(tasks.square, range(20))) == [n * n for n in range(20)]
        assert pool.run(tasks.aadd, 1, 2) == 3


@pytest.mark.parametrize("kind", [PickleType.cloudpickle, PickleType.dill])
def test_closures(kind: PickleType) -> None:
    """cloudpickle and dill send lambdas and closures."""
    pytest.importorskip(kind.name)
    base = 10
    with Pool(1, func_pickle=kind) as pool:
        assert pool.run(lambda number: base + number, 5) == 15


@pytest.mark.parametrize("kind", [PickleType.cloudpickle, PickleType.dill])
def test_functions_of_main_with_globals(kind: PickleType) -> None:
    """cloudpickle and dill send functions of `__main__` that use its globals."""
    pytest.importorskip(kind.name)
    script = f"""
        from pool_client import PickleType, Pool
        FACTOR = 3
        def times(number):
            return FACTOR * number
        def outer(number):
            return times(number) + 1
        with Pool(1, func_pickle=PickleType.{kind.name}) as pool:
            print(pool.run(outer, 2), list(pool.map(outer, range(3))))
    """
    assert run_script(script).stdout == "7 [1, 4, 7]\n"


def test_a_lambda_with_plain_pickle() -> None:
    """With ``func_pickle=pickle`` cloudpickle takes over for what pickle refuses."""
    with Pool(1, func_pickle=PickleType.pickle) as pool:
        assert pool.run(lambda: 1) == 1
        assert pool.run(abs, -1) == 1


def test_data(kind: PickleType) -> None:
    """Every pickler sends data there and back, small and large, alone and mapped."""
    with Pool(2, data_pickle=kind) as pool:
        for value in (1, "text", [1, {2: (3,)}], b"x" * 500_000, tasks.Account(3).balance):
            assert pool.run(tasks.apply, eval, repr(value)) == value
        assert list(pool.map(tasks.add, ["a"] * 50, map(str, range(50)))) == [
            f"a{n}" for n in range(50)
        ]


@pytest.mark.parametrize("kind", [PickleType.cloudpickle, PickleType.dill])
def test_functions_as_data(kind: PickleType) -> None:
    """With cloudpickle or dill for data, lambdas are arguments and results."""
    pytest.importorskip(kind.name)
    with Pool(1, data_pickle=kind) as pool:
        assert pool.run(tasks.apply, lambda number: number + 1, 2) == 3
        made = pool.run(lambda base: lambda number: base + number, 10)
        assert made(5) == 15


def test_functions_as_data_by_default(pool: Any) -> None:
    """By default pickle comes first, and cloudpickle takes over for what pickle refuses."""
    assert pool.run(tasks.apply, lambda number: number + 1, 2) == 3
    assert pool.run(lambda base: lambda number: base + number, 10)(5) == 15


def test_a_function_by_reference_is_the_modules(single: Any) -> None:
    """A module's function is looked up in the worker, not copied."""
    single.run(tasks.remember, "colour", "blue")
    assert single.run(tasks.recall, "colour") == "blue"


def test_a_function_by_value_is_pickled_once(single: Any) -> None:
    """Later changes to what a closure closes over are not seen, as documented."""
    numbers = [1]

    def total() -> int:
        return sum(numbers)

    assert single.run(total) == 1
    numbers.append(10)
    assert single.run(total) == 1


def test_many_closures_do_not_pile_up(single: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker forgets functions that are used no more, and none is taken for another."""
    monkeypatch.setattr(functions, "CAPACITY", 400)
    count = 2000
    alive = "__import__('gc').collect() * 0 + len(__import__('gc').get_objects())"
    before = single.run(eval, alive)
    futures = [single.submit(lambda n=number: n) for number in range(count)]
    assert [future.result(30) for future in futures] == list(range(count))
    after = single.run(eval, alive)
    # Three objects for each function that is kept, and a fifth of them may be.
    assert (after - before) / count < 1


def test_data_picklers_differ_from_function_picklers() -> None:
    """The two choices are independent of each other."""
    pytest.importorskip("dill")
    with Pool(1, func_pickle=PickleType.dill, data_pickle=PickleType.cloudpickle) as pool:
        base = 5
        assert pool.run(lambda f: f(base), lambda number: number * 2) == 10
