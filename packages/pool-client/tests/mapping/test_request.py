"""The arguments of a map: checked before anything is read."""

import itertools
from collections.abc import AsyncIterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from pool_client.mapping.request import check, is_async


async def acount() -> AsyncIterator[int]:
    for number in itertools.count():
        yield number


class Indexed:
    def __getitem__(self, place: int) -> int:
        return [1, 2][place]


class Index:
    def __index__(self) -> int:
        return 7


class BadLength:
    def __init__(self, error: type[Exception]) -> None:
        self.error = error

    def __len__(self) -> int:
        raise self.error

    def __iter__(self) -> Any:
        return iter(())


def test_the_defaults() -> None:
    request = check(abs, ([1, 2],))
    assert (request.timeout, request.chunksize, request.buffersize) == (None, None, None)
    assert (request.ordered, request.star, request.length) == (True, False, 2)
    assert not request.asynchronous
    assert not request.mixed
    assert list(request.sync_rows()) == [1, 2]


def test_several_inputs_are_zipped_and_starred() -> None:
    request = check(pow, ([1, 2, 3], (4, 5)))
    assert request.star
    assert request.length == 2
    assert list(request.sync_rows()) == [(1, 4), (2, 5)]


def test_one_input_can_be_starred() -> None:
    request = check(pow, ([(1, 2)],), star=True, ordered=False)
    assert request.star
    assert not request.ordered
    assert list(request.sync_rows()) == [(1, 2)]


def test_kinds_of_input() -> None:
    alone = check(abs, (acount(),))
    assert alone.asynchronous
    assert not alone.mixed
    assert alone.length is None
    mixed = check(abs, ([1], acount(), [2]))
    assert mixed.asynchronous
    assert mixed.mixed
    assert mixed.length is None
    assert list(mixed.sync_rows()) == [(1, 2)]
    assert is_async(acount())
    assert not is_async([])


def test_an_iterable_of_the_old_kind() -> None:
    request = check(abs, (Indexed(),))
    assert list(request.sync_rows()) == [1, 2]


@pytest.mark.parametrize("error", [TypeError, ValueError, OverflowError])
def test_a_length_that_cannot_be_had(error: type[Exception]) -> None:
    assert check(abs, (BadLength(error),)).length is None
    assert check(abs, ([1], itertools.count())).length is None


@pytest.mark.parametrize("timeout", [0, -1, 2.5, True, Fraction(1, 2), float("inf")])
def test_timeouts(timeout: Any) -> None:
    assert check(abs, ([],), timeout=timeout).timeout == float(timeout)


def test_sizes_are_integers_of_any_kind() -> None:
    request = check(abs, ([],), chunksize=Index(), buffersize=Index())  # type: ignore[arg-type]
    assert (request.chunksize, request.buffersize) == (7, 7)


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "text"),
    [
        ((3, ([],)), {}, TypeError, "func must be callable, not int"),
        ((abs, ()), {}, TypeError, "at least one iterable"),
        ((abs, ([], 3)), {}, TypeError, "iterable 2 .* int"),
        ((abs, (None,)), {}, TypeError, "iterable 1 .* NoneType"),
        ((abs, (list,)), {}, TypeError, "iterable 1 .* type"),
        ((abs, ([],)), {"chunksize": 0}, ValueError, "chunksize must be at least 1, not 0"),
        ((abs, ([],)), {"chunksize": 1.0}, TypeError, "chunksize must be an integer"),
        ((abs, ([],)), {"buffersize": -1}, ValueError, "buffersize must be at least 1, not -1"),
        ((abs, ([],)), {"buffersize": "1"}, TypeError, "buffersize must be an integer"),
        ((abs, ([],)), {"timeout": "1"}, TypeError, "timeout must be a number"),
        ((abs, ([],)), {"timeout": Decimal(1)}, TypeError, "timeout must be a number"),
        ((abs, ([],)), {"timeout": float("nan")}, ValueError, "not nan"),
    ],
)
def test_wrong_arguments(args: Any, kwargs: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        check(*args, **kwargs)
