"""pool_worker.failures: errors that the client can always read."""

import asyncio
import pickle
from typing import Any

import pytest

from pool_worker.failures import CANCELLED, exit_status, pack_error, type_name


def packed(error: BaseException) -> tuple[bytes | None, str, str, str]:
    fields: tuple[bytes | None, str, str, str] = pickle.loads(pack_error(error))
    return fields


def raised(function: Any, *arguments: Any) -> BaseException:
    try:
        function(*arguments)
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


class TwoArguments(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class BadReduce(Exception):
    def __reduce__(self) -> Any:
        raise SystemExit("from __reduce__")


class BadText(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


class Changes(Exception):
    def __reduce__(self) -> Any:
        return ValueError, ("something else",)


class Holds(Exception):
    """Holds what pickle refuses."""


def test_an_ordinary_error() -> None:
    def divide() -> float:
        return 1 / 0

    blob, name, text, trace = packed(raised(divide))
    assert blob is not None
    assert isinstance(pickle.loads(blob), ZeroDivisionError)
    assert (name, text) == ("ZeroDivisionError", "division by zero")
    assert trace.startswith("Traceback") and "in divide" in trace
    assert trace.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TwoArguments(1, 2), "1 and 2"),
        (BadReduce("x"), "x"),
        (Changes("y"), "y"),
        (Holds(n for n in ()), None),
    ],
)
def test_an_error_that_does_not_survive_is_described(error: Exception, text: str | None) -> None:
    blob, name, seen, trace = packed(error)
    assert blob is None
    assert name == f"{__name__}.{type(error).__name__}"
    assert text is None or seen == text
    assert type(error).__name__ in trace


def test_str_that_raises() -> None:
    blob, name, text, trace = packed(BadText())
    assert blob is not None
    assert name.endswith("BadText")
    assert text == "<str() of it raised KeyboardInterrupt>"
    assert "BadText" in trace


def test_a_local_class_travels_by_value() -> None:
    class Local(Exception):
        pass

    blob, name, _, _ = packed(Local("hello"))
    assert blob is not None
    assert str(pickle.loads(blob)) == "hello"
    assert name.endswith("Local")


def test_the_given_serializer_is_tried_first() -> None:
    seen = []

    def dumps(value: object) -> bytes:
        seen.append(value)
        return pickle.dumps(value)

    error = ValueError("x")
    pack_error(error, dumps)
    assert seen == [error]


def test_exits_are_errors_too() -> None:
    blob, name, text, _ = packed(SystemExit(3))
    assert blob is not None
    assert pickle.loads(blob).code == 3
    assert (name, text) == ("SystemExit", "3")


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (SystemExit(), 0, ""),
        (SystemExit(None), 0, ""),
        (SystemExit(0), 0, ""),
        (SystemExit(3), 3, ""),
        (SystemExit(-1), 255, ""),
        (SystemExit("enough"), 1, "enough\n"),
        (ValueError("a value"), 1, "ValueError: a value\n"),
    ],
)
def test_with_what_a_program_would_end(error: BaseException, status: int, said: str) -> None:
    code, text = exit_status(pack_error(error))
    assert (code, text) == (status, said)


def test_causes_are_told() -> None:
    def fail() -> None:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error

    trace = packed(raised(fail))[3]
    assert "KeyError: 'inner'" in trace and "direct cause" in trace and "outer" in trace


def test_a_circle_of_causes_ends() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert "one" in packed(one)[3]


def test_type_names() -> None:
    assert type_name(int) == "int"
    assert type_name(TwoArguments) == f"{__name__}.TwoArguments"

    class Meta(type):
        @property
        def __module__(cls) -> str:
            raise RuntimeError

    assert type_name(Meta("X", (), {})) == "an unnameable class"


def test_cancelled() -> None:
    blob, name, _, _ = pickle.loads(CANCELLED)
    assert type(pickle.loads(blob)) is asyncio.CancelledError
    assert name == "asyncio.exceptions.CancelledError"
