"""What `map` and `map_async` take: iterables of every kind, and arguments checked at the call."""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import interface_tasks as tasks
import pytest

from pool_client import Pool


async def acount(stop: int | None = None) -> AsyncIterator[int]:
    """Count from 0, asynchronously, for ever or to *stop*."""
    for number in itertools.count() if stop is None else range(stop):
        await asyncio.sleep(0)
        yield number


class Countdown:
    """An async iterable that is not a generator, and has no ``aclose``."""

    def __init__(self, start: int) -> None:
        self.left = start

    def __aiter__(self) -> "Countdown":
        return self

    async def __anext__(self) -> int:
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return self.left


class OnlyGetitem:
    """An iterable of the old kind."""

    def __getitem__(self, index: int) -> int:
        if index > 3:
            raise IndexError
        return index


SYNC = {
    "list": lambda: [0, 1, 2, 3],
    "tuple": lambda: (0, 1, 2, 3),
    "range": lambda: range(4),
    "generator": lambda: (n for n in range(4)),
    "iterator": lambda: iter([0, 1, 2, 3]),
    "dictionary": lambda: dict.fromkeys(range(4)),
    "getitem": OnlyGetitem,
}
ASYNC = {"async generator": lambda: acount(4), "async iterable": lambda: Countdown(4)}


def mapped(pool: Any, form: str, *args: Any, **kwargs: Any) -> list[Any]:
    """Return all results of `map` or of `map_async`."""
    if form == "map":
        return list(pool.map(*args, timeout=30, **kwargs))

    async def collect() -> list[Any]:
        return [result async for result in pool.map_async(*args, timeout=30, **kwargs)]

    return asyncio.run(collect())


@pytest.fixture(params=["map", "map_async"])
def form(request: pytest.FixtureRequest) -> str:
    """Yield the name of either method."""
    return str(request.param)


@pytest.fixture
def pool(shared: Any) -> Any:
    """Yield the pool of this file: these tests leave it as it is."""
    return shared


@pytest.mark.parametrize("kind", [*SYNC, *ASYNC])
def test_one_iterable(pool: Any, form: str, kind: str) -> None:
    """Every kind of iterable does."""
    source = (SYNC | ASYNC)[kind]()
    expected = [9, 4, 1, 0] if kind == "async iterable" else [0, 1, 4, 9]
    assert mapped(pool, form, tasks.square, source) == expected


def test_an_empty_input(pool: Any, form: str) -> None:
    """Nothing in, nothing out."""
    assert mapped(pool, form, abs, []) == []
    assert mapped(pool, form, abs, iter(())) == []
    assert mapped(pool, form, abs, acount(0)) == []


def test_zipped_to_the_shortest(pool: Any, form: str) -> None:
    """Several iterables end with the shortest."""
    assert mapped(pool, form, tasks.add, [1, 2, 3], [10, 20]) == [11, 22]
    assert mapped(pool, form, tasks.add, itertools.count(), range(3)) == [0, 2, 4]


def test_mixed(pool: Any, form: str) -> None:
    """Sync and async inputs are zipped with each other, in any order, to the shortest."""
    assert mapped(pool, form, tasks.add, acount(), [10, 20, 30]) == [10, 21, 32]
    assert mapped(pool, form, tasks.add, [10, 20, 30], acount()) == [10, 21, 32]
    assert mapped(pool, form, tasks.add, itertools.count(), acount(3)) == [0, 2, 4]
    assert mapped(pool, form, tasks.add, acount(), Countdown(3)) == [2, 2, 2]


def test_star(pool: Any, form: str) -> None:
    """With ``star`` each item is a tuple of arguments."""
    pairs = [(1, 10), (2, 20), (3,)]
    assert mapped(pool, form, tasks.add, pairs, star=True) == [11, 22, 3]


def test_star_with_any_sequence(pool: Any, form: str) -> None:
    """An item may be any iterable of arguments, and the input unbounded or async."""

    async def pairs() -> AsyncIterator[list[int]]:
        for n in range(3):
            yield [n, n]

    assert mapped(pool, form, tasks.add, pairs(), star=True) == [0, 2, 4]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("chunksize", [None, 1, 7])
def test_unbounded_sync(pool: Any, ordered: bool, chunksize: int | None) -> None:
    """An endless input gives results for as long as they are taken."""
    results = pool.map(tasks.square, itertools.count(), ordered=ordered, chunksize=chunksize)
    taken = list(itertools.islice(results, 200))
    results.close()
    assert len(set(taken)) == 200
    if ordered:
        assert taken == [n * n for n in range(200)]


@pytest.mark.parametrize("chunksize", [None, 1, 7])
def test_unbounded_async(pool: Any, chunksize: int | None) -> None:
    """An endless async input of `map` is advanced where the caller has no loop."""
    results = pool.map(tasks.square, acount(), chunksize=chunksize, timeout=30)
    assert list(itertools.islice(results, 200)) == [n * n for n in range(200)]
    results.close()


def test_unbounded_in_map_async(pool: Any) -> None:
    """`map_async` takes endless inputs of both kinds, mixed."""

    async def main() -> list[int]:
        taken = []
        results = pool.map_async(tasks.add, acount(), itertools.count(), timeout=30)
        async for result in results:
            taken.append(result)
            if len(taken) == 200:
                break
        await results.aclose()
        return taken

    assert asyncio.run(main()) == [2 * n for n in range(200)]


def test_sync_inputs_stay_in_the_callers_thread(pool: Any) -> None:
    """A sync input of `map` is advanced by the thread that maps."""
    seen: set[int] = set()

    def source() -> Iterator[int]:
        for number in range(300):
            seen.add(threading.get_ident())
            yield number

    assert len(list(pool.map(abs, source(), chunksize=1, buffersize=20))) == 300
    assert seen == {threading.get_ident()}


@pytest.mark.parametrize("on_loop", [False, True])
def test_inputs_of_map_async_stay_on_the_callers_loop(on_loop: bool) -> None:
    """An input of `map_async` is advanced on the loop that maps, wherever the engine lives."""
    seen: set[tuple[int, Any]] = set()

    async def asource() -> AsyncIterator[int]:
        async for number in acount(100):
            seen.add((threading.get_ident(), asyncio.get_running_loop()))
            yield number

    def source() -> Iterator[int]:
        for number in range(100):
            seen.add((threading.get_ident(), asyncio.get_running_loop()))
            yield number

    async def main() -> None:
        pool = Pool(2)
        async with pool if on_loop else await pool:
            assert [n async for n in pool.map_async(tasks.add, asource(), source())] == [
                2 * n for n in range(100)
            ]
        assert seen == {(threading.get_ident(), asyncio.get_running_loop())}

    asyncio.run(main())


def test_works_with_map_from_a_thread(pool: Any) -> None:
    """`map` with an async input works from a thread that has no loop."""
    results: list[int] = []
    thread = threading.Thread(
        target=lambda: results.extend(pool.map(tasks.square, acount(50), timeout=30))
    )
    thread.start()
    thread.join(40)
    assert results == [n * n for n in range(50)]


@pytest.mark.parametrize(
    ("args", "kwargs", "error"),
    [
        ((abs, [1]), {"chunksize": 0}, ValueError),
        ((abs, [1]), {"chunksize": -5}, ValueError),
        ((abs, [1]), {"buffersize": 0}, ValueError),
        ((abs, [1]), {"buffersize": -1}, ValueError),
        ((abs, 5), {}, TypeError),
        ((abs, [1], None), {}, TypeError),
        ((None, [1]), {}, TypeError),
        ((abs, [1]), {"chunks": 5}, TypeError),
    ],
)
def test_arguments_are_checked_at_the_call(
    pool: Any, args: tuple[Any, ...], kwargs: dict[str, Any], error: type[Exception]
) -> None:
    """Wrong arguments raise when `map` is called, not when its iterator is advanced."""
    with pytest.raises(error):
        pool.map(*args, **kwargs)


@pytest.mark.parametrize("kwargs", [{"chunksize": 0}, {"buffersize": 0}])
def test_map_async_refuses_wrong_arguments(pool: Any, kwargs: dict[str, int]) -> None:
    """`map_async` refuses the same, at its first result at the latest."""

    async def main() -> None:
        with pytest.raises(ValueError):
            async for _ in pool.map_async(abs, [1], **kwargs):
                pass

    asyncio.run(main())


def test_an_unpicklable_item_is_an_error_in_its_place(pool: Any) -> None:
    """An item that cannot be pickled fails alone, and names what it is."""
    results = pool.map(tasks.add, [1, 2, threading.Lock(), 4], chunksize=1)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(Exception, match=r"(?i)lock"):
        next(results)
    assert pool.run(abs, -1) == 1
