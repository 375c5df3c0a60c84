"""Caches of functions and of properties, which cloudpickle alone does not send by value."""

import functools
import json
import math
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pool_protocol import by_value

cloudpickle = pytest.importorskip("cloudpickle")

SCRIPT = """
import functools, sys
from pool_protocol.by_value import dumps

@functools.cache
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

@functools.lru_cache(maxsize=7, typed=True)
def double(n):
    return 2 * n

class Circle:
    @functools.cached_property
    def name(self):
        return Circle.__name__

    @functools.lru_cache
    def twice(self):
        return 2 * self.name

def of_all():
    return [fib(10), fib.cache_info().currsize, double(3), Circle().name, Circle().twice()]

fib(3)
sys.stdout.buffer.write(dumps((fib, double, Circle, Circle.twice, Circle(), of_all)))
"""
READER = """
import json, pickle, sys
fib, double, circle, twice, one, of_all = pickle.load(sys.stdin.buffer)
empty = fib.cache_info().currsize
found = [fib(20), fib.cache_info().currsize, double.cache_parameters(), double(4)]
found += [circle().name, twice(one), one.__dict__, of_all(), fib.__name__, double.__wrapped__(5)]
print(json.dumps([empty, *found]))
"""


@functools.cache
def importable(value: int) -> int:
    """A cached function that the other side finds by its name."""
    return value + 1


def across(value: Any, **options: Any) -> Any:
    return pickle.loads(by_value.dumps(value, **options))


def test_what_a_script_caches_reaches_another_program(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    packed = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, check=True).stdout
    said = subprocess.run(
        [sys.executable, "-c", READER], input=packed, stdout=subprocess.PIPE, check=True
    ).stdout
    assert json.loads(said) == [
        *(0, 6765, 21, {"maxsize": 7, "typed": True}, 8),
        *("Circle", "CircleCircle", {"name": "Circle"}, [55, 21, 6, "Circle", "CircleCircle"]),
        *("fib", 10),
    ]


def test_a_local_function_with_a_cache() -> None:
    add = 5

    @functools.cache
    def local(value: int) -> int:
        return value + add

    local(1)
    arrived = across(local)
    assert arrived is not local
    assert (arrived(2), arrived.cache_info().currsize, arrived.__name__) == (7, 1, "local")


def test_a_cache_around_a_function_of_a_module() -> None:
    assert across(functools.cache(math.sqrt))(9) == 3


def test_one_that_can_be_imported_goes_by_its_name() -> None:
    assert across(importable) is importable


def test_one_of_a_package_that_is_sent_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(value: int) -> int:
        return value + 1

    package, module = ModuleType("sent_package"), ModuleType("sent_package.inside")
    work.__module__, work.__qualname__ = module.__name__, "work"
    cached: Callable[[int], int] = functools.cache(work)
    module.__dict__["work"] = cached
    for one in (package, module):
        monkeypatch.setitem(sys.modules, one.__name__, one)
    assert across(cached) is cached
    cloudpickle.register_pickle_by_value(package)
    try:
        arrived = across(cached)
    finally:
        cloudpickle.unregister_pickle_by_value(package)
    assert arrived is not cached
    assert arrived(1) == 2


def test_a_cached_property() -> None:
    class Local:
        @functools.cached_property
        def number(self) -> int:
            """What it is."""
            return 7

    arrived = across(vars(Local)["number"])
    assert arrived is not vars(Local)["number"]
    assert (arrived.attrname, arrived.__doc__, arrived.func(None)) == ("number", "What it is.", 7)
    one = across(Local)()
    assert (one.number, vars(one)) == (7, {"number": 7})


def test_buffers_and_protocols_are_passed_on() -> None:
    found: list[pickle.PickleBuffer] = []
    data = by_value.dumps(pickle.PickleBuffer(b"abc"), 5, found.append)
    assert bytes(pickle.loads(data, buffers=found)) == b"abc"
    assert by_value.dumps(1, 2)[1] == 2


def test_what_cloudpickle_does_otherwise_is_left_to_it() -> None:
    number = 3
    assert across([lambda: number + 1, importable])[0]() == 4
    assert functools.cached_property not in cloudpickle.Pickler.dispatch_table


def test_without_cloudpickle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(ImportError):
        by_value.dumps(1)
