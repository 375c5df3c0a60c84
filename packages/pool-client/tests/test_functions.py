"""Functions: pickled once, known by a number."""

import contextlib
import functools
import itertools
import math
import operator
import pickle
import threading
import weakref

import cloudpickle
import numpy
import pytest
import scheduler_model
from packing_model import Unpicklable

from pool_client import functions
from pool_client.engine import PYTHON
from pool_client.functions import FunctionTable, is_by_reference, name_of
from pool_protocol import FrameTooLarge, PickleType, messages
from pool_protocol.codec import encode_control


class Adder:
    def __init__(self, number):
        self.number = number

    def add(self, other):
        return self.number + other

    def __call__(self, other):
        return self.number + other

    @classmethod
    def make(cls):
        return cls(0)


def of_module(x):
    return x


@pytest.fixture
def table():
    return FunctionTable(PickleType.cloudpickle)


def test_a_function_is_pickled_once(table, monkeypatch):
    record = table.get(of_module)
    monkeypatch.setattr(table, "_pickle", None)
    assert table.get(of_module) is record
    assert record.id == 1
    assert record.name == f"{__name__}.of_module"
    assert pickle.loads(record.blob) is of_module
    assert not record.by_value
    assert len(table) == 1


@pytest.mark.parametrize(
    "function", [of_module, len, math.sqrt, Adder, str.upper, operator.itemgetter(1)]
)
def test_the_same_function_is_the_same_record(table, function):
    assert table.get(function) is table.get(function)


def test_functions_differ(table):
    made = [table.get(f) for f in (of_module, len, math.sqrt, Adder, lambda x: x, lambda x: x + 1)]
    assert [record.id for record in made] == [1, 2, 3, 4, 5, 6]


def test_closures_are_told_apart_and_kept_as_they_were_at_first(table):
    def make(number):
        def closure():
            return number

        def change(value):
            nonlocal number
            number = value

        return closure, change

    (one, change), (two, _) = make(1), make(2)
    first, second = table.get(one), table.get(two)
    assert first is not second
    assert first.by_value
    change(5)
    assert table.get(one) is first
    assert cloudpickle.loads(first.blob)() == 1


def test_what_carries_state_is_looked_at_each_time(table):
    adder = Adder(1)
    for bound in (lambda: adder, lambda: adder.add, lambda: functools.partial(of_module, adder)):
        adder.number = 1
        before = table.get(bound())
        assert table.get(bound()) is before
        adder.number = 2
        assert table.get(bound()) is not before


def test_a_function_whose_place_in_memory_is_taken_by_another_is_not_mistaken(table):
    seen = set()
    for number in range(50):
        function = eval(f"lambda: {number}")
        record = table.get(function)
        assert cloudpickle.loads(record.blob)() == number
        seen.add(record.id)
        del function
    assert len(seen) == 50


def test_a_function_that_carries_arrays_is_kept_in_one_piece(table):
    array = numpy.arange(100_000)
    record = table.get(functools.partial(numpy.sum, array))
    assert isinstance(record.blob, bytes)
    assert cloudpickle.loads(record.blob)() == array.sum()


@pytest.mark.parametrize("kind", PickleType)
def test_what_cannot_be_pickled_is_named(kind):
    table = FunctionTable(kind)
    with pytest.raises(pickle.PicklingError, match=rf"partial of .*of_module.*with {kind.name}"):
        table.get(functools.partial(of_module, Unpicklable()))
    assert len(table) == 0


def test_pickle_cannot_take_a_generator_and_says_so():
    table = FunctionTable(PickleType.pickle)
    with pytest.raises(pickle.PicklingError, match="generator"):
        table.get(functools.partial(of_module, (x for x in "ab")))


def test_a_function_over_the_limit_is_refused():
    table = FunctionTable(PickleType.cloudpickle, max_message=5000)
    table.get(of_module)
    with pytest.raises(FrameTooLarge):
        table.get(functools.partial(of_module, "x" * 5000))


def test_the_longest_unused_is_forgotten_and_comes_back_under_a_new_number(table, monkeypatch):
    monkeypatch.setattr(functions, "CAPACITY", 3)
    partials = [functools.partial(of_module, number) for number in range(3)]
    first = table.get(of_module)
    one, _two = table.get(partials[0]), table.get(partials[1])
    assert table.get(partials[0]) is one
    table.get(partials[2])
    assert table.forgotten == [first.id]
    assert first.forgotten
    assert len(table) == 3
    table.get(lambda: 1)
    assert table.forgotten == [first.id, 3], "not the one that was used again"
    assert table.get(of_module).id > first.id


def test_what_is_forgotten_may_have_a_finalizer_that_submits(table, monkeypatch):
    monkeypatch.setattr("pool_client.functions.CAPACITY", 2)
    records = []
    numbers = itertools.count()

    def submit():
        records.append(table.get(functools.partial(abs, next(numbers))))

    for number in range(6):
        function = eval(f"lambda: {number}")
        weakref.finalize(function, submit)
        records.append(table.get(function))
        del function
    assert len(table) == 2
    assert len({record.id for record in records}) == len(records) > 6


def test_threads_get_the_same_records(table):
    made = [functools.partial(of_module, number) for number in range(50)]
    results = []
    barrier = threading.Barrier(4)

    def run():
        barrier.wait(30)
        results.append([table.get(function).id for function in made])

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [results[0]] * 4
    assert len(set(results[0])) == len(table) == 50


def test_names():
    assert name_of(of_module) == f"{__name__}.of_module"
    assert name_of(len) == "builtins.len"
    assert name_of(Adder(1).add) == f"{__name__}.Adder.add"
    assert name_of(Adder(1)) == f"{__name__}.Adder"
    assert name_of(functools.partial(functools.partial(len))) == "partial of builtins.len"
    assert name_of([].append) == "builtins.list.append"
    assert name_of(operator.itemgetter(1)) == "operator.itemgetter"


def test_a_long_name_is_cut_off(table):
    def function():
        return 1

    function.__qualname__ = "x" * 5000
    assert len(table.get(function).name) <= 100


@pytest.mark.parametrize("letter", ["x", "\N{SNOWMAN}", "\N{GRINNING FACE}"])
def test_what_passes_the_limit_with_the_longest_name_can_be_sent(letter):
    """What is refused when it is sent would be refused where nobody can be told."""
    data = bytes(5000)

    def function():
        return data

    function.__qualname__ = letter * 200
    for limit in itertools.count(5000):
        with contextlib.suppress(FrameTooLarge):
            known = FunctionTable(PickleType.cloudpickle, limit).get(function)
            break
    fields = (known.id, known.name, known.by_value, PYTHON, known.blob)
    assert encode_control(messages.Function(*fields), limit)


def test_what_a_worker_can_import():
    for function in (
        of_module,
        len,
        math.sqrt,
        Adder,
        Adder.make,
        Adder(1).add,
        [].append,
        str.upper,
    ):
        assert is_by_reference(function), function
    for function in (lambda: 1, functools.partial(len), operator.itemgetter(1), Adder(1)):
        assert not is_by_reference(function), function


def test_what_belongs_to_main_travels_by_value(monkeypatch):
    monkeypatch.setattr(of_module, "__module__", "__main__")
    assert not is_by_reference(of_module)


def test_a_module_registered_with_cloudpickle_travels_by_value():
    assert is_by_reference(scheduler_model.function)
    cloudpickle.register_pickle_by_value(scheduler_model)
    try:
        assert not is_by_reference(scheduler_model.function)
    finally:
        cloudpickle.unregister_pickle_by_value(scheduler_model)
