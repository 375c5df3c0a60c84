"""pool_worker.runner: one task, unpacked, called, packed; without I/O."""

import asyncio
import functools
import pickle
import time
import types
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest
from driver import RemoteError, unpack

from pool_protocol import Packed, PickleType, by_value, serializer
from pool_protocol.messages import RESULT, TASK, Function, Result, Task, TaskFlag
from pool_protocol.serializers import pack_separate
from pool_worker.functions import PYTHON, FunctionTable
from pool_worker.page import ITEM, LIMIT_NS, START_NS
from pool_worker.runner import Outcome, Pending, Runner, is_awaitable, is_large

SEPARATE, CHUNK, STAR, KWARGS, TIMED = (
    TaskFlag.SEPARATE,
    TaskFlag.CHUNK,
    TaskFlag.STAR,
    TaskFlag.KWARGS,
    TaskFlag.TIMED,
)


class Bench:
    """A runner with one function."""

    def __init__(self, data: PickleType = PickleType.pickle) -> None:
        self.words = [0] * 8
        self.data = data
        self.table = FunctionTable(serializer(PickleType.cloudpickle).loads)
        self.runner = Runner(data, self.table, self.words)

    def task(self, function: Callable[..., Any], payload: bytes, flags: int = 0) -> Task:
        self.table.add(Function(1, function.__name__, True, PYTHON, by_value.dumps(function)))
        self.table.ready[1] = function
        return Task(TASK, flags, 1, 9, payload, ())

    def start(self, *arguments: Any) -> Outcome | Pending:
        return self.runner.start(self.task(*arguments))

    def value(self, outcome: Outcome | Pending) -> Any:
        assert isinstance(outcome, Outcome)
        payload, buffers = outcome.payload, ()
        if isinstance(payload, Packed):
            payload, buffers = b"".join(payload.stream), payload.buffers
        return unpack(Result(RESULT, outcome.flags, 0, 9, payload, buffers), self.data)

    def run(self, *arguments: Any) -> Any:
        return self.value(self.start(*arguments))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def add(one: int, two: int = 10) -> int:
    return one + two


def refuse(value: Any) -> Any:
    raise KeyError(value)


class Unpicklable:
    def __reduce__(self) -> Any:
        raise TypeError("not me")


class Poison:
    """Fails to be unpickled."""

    def __reduce__(self) -> Any:
        return refuse, ("poison",)


# -- single tasks


@pytest.mark.parametrize("data", [PickleType.pickle, PickleType.cloudpickle, PickleType.dill])
def test_a_call(data: PickleType) -> None:
    if data is PickleType.dill:
        pytest.importorskip("dill")
    bench = Bench(data)
    assert bench.run(add, pickle.dumps((1, 2))) == 3
    assert bench.run(add, pickle.dumps(((1,), {"two": 5})), KWARGS) == 6


def test_an_error(bench: Bench) -> None:
    with pytest.raises(RemoteError) as caught:
        bench.run(refuse, pickle.dumps((4,)))
    assert isinstance(caught.value.original(), KeyError)
    assert "in refuse" in caught.value.traceback
    assert "pool_worker" not in caught.value.traceback


def test_arguments_that_cannot_be_unpickled(bench: Bench) -> None:
    with pytest.raises(RemoteError, match="poison"):
        bench.run(add, pickle.dumps((Poison(),)))
    with pytest.raises(RemoteError, match="UnpicklingError"):
        bench.run(add, b"garbage")


def test_a_function_that_cannot_be_unpickled(bench: Bench) -> None:
    bench.table.add(Function(2, "bad", False, PYTHON, b"garbage"))
    outcome = bench.runner.start(Task(TASK, 0, 2, 9, pickle.dumps(()), ()))
    with pytest.raises(RemoteError, match="UnpicklingError"):
        bench.value(outcome)


def test_a_result_that_cannot_be_pickled_is_named(bench: Bench) -> None:
    def give(what: str) -> Any:
        return Unpicklable() if what == "object" else (n for n in ())

    with pytest.raises(RemoteError, match=r"give.*Unpicklable.*not me") as caught:
        bench.run(give, pickle.dumps(("object",)))
    assert isinstance(caught.value.original(), pickle.PicklingError)
    with pytest.raises(RemoteError, match=r"give, a generator"):
        bench.run(give, pickle.dumps(("generator",)))


def test_a_result_that_does_not_say_why_it_cannot_be_pickled(bench: Bench) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    class Refuses:
        def __reduce__(self) -> Any:
            raise Mute

    with pytest.raises(
        RemoteError, match=r"a .*Refuses, cannot be pickled: .*ValueError"
    ) as caught:
        bench.run(Refuses, pickle.dumps(()))
    assert isinstance(caught.value.original(), pickle.PicklingError)


def test_a_deep_result(bench: Bench) -> None:
    def deep() -> list[Any]:
        value: list[Any] = []
        for _ in range(100_000):
            value = [value]
        return value

    with pytest.raises(RemoteError, match="RecursionError"):
        bench.run(deep, pickle.dumps(()))


def test_large_results_are_not_copied(bench: Bench) -> None:
    big = bytes(1_000_000)
    outcome = bench.start(lambda: big, pickle.dumps(()))
    assert isinstance(outcome, Outcome) and isinstance(outcome.payload, Packed)
    assert any(piece is big for piece in outcome.payload.stream)
    array = bytearray(1_000_000)
    outcome = bench.start(lambda: pickle.PickleBuffer(array), pickle.dumps(()))
    assert isinstance(outcome, Outcome) and isinstance(outcome.payload, Packed)
    assert len(outcome.payload.buffers) == 1


def test_a_timed_task(bench: Bench) -> None:
    seen = []

    def look() -> None:
        seen.extend(bench.words)

    before = time.monotonic_ns()
    payload = (5_000).to_bytes(8, "little") + pickle.dumps(())
    bench.run(look, payload, TIMED)
    assert seen[LIMIT_NS] == 5_000
    assert before <= seen[START_NS] <= time.monotonic_ns()
    bench.runner.done()
    assert bench.words[LIMIT_NS] == 0


# -- chunks


def separate(items: list[Any]) -> bytes:
    return pack_separate([cloudpickle.dumps(item) for item in items])


def timed(payload: bytes) -> bytes:
    return (10**9).to_bytes(8, "little") + payload


@pytest.mark.parametrize(
    ("flags", "pack"),
    [
        (CHUNK, pickle.dumps),
        (CHUNK | SEPARATE, separate),
        (CHUNK | TIMED, lambda items: timed(pickle.dumps(items))),
        (CHUNK | TIMED | SEPARATE, lambda items: timed(separate(items))),
    ],
)
def test_chunks(bench: Bench, flags: int, pack: Callable[[Any], bytes]) -> None:
    seen = []

    def double(value: int) -> int:
        seen.append(bench.words[ITEM])
        return 2 * value

    assert bench.run(double, pack([3, 4, 5]), flags) == [6, 8, 10]
    assert seen == [0, 1, 2]
    assert bench.run(add, pack([(1, 2), (3,)]), flags | STAR) == [3, 13]
    assert bench.run(double, pack([]), flags) == []
    bench.runner.done()
    assert bench.words[ITEM] == 0

    values = bench.run(lambda n: 1 / n, pack([1, 0, 2, 0]), flags)
    assert values[0] == 1 and values[2] == 0.5
    assert [type(value) for value in values].count(RemoteError) == 2
    assert isinstance(values[1].original(), ZeroDivisionError)
    values = bench.run(add, pack([(1, 2), "x", (3,)]), flags | STAR)
    assert values[::2] == [3, 13] and values[1].type == "TypeError"


def test_an_item_that_cannot_be_unpickled(bench: Bench) -> None:
    values = bench.run(repr, separate([1, Poison(), 3]), CHUNK | SEPARATE)
    assert values[::2] == ["1", "3"]
    assert values[1].type == "KeyError"


@pytest.mark.parametrize("payload", [b"garbage", b""])
def test_a_chunk_that_cannot_be_read_fails_as_a_whole(bench: Bench, payload: bytes) -> None:
    for flags in (CHUNK, CHUNK | SEPARATE):
        with pytest.raises(RemoteError):
            bench.run(add, payload, flags)


def test_a_value_that_cannot_be_pickled_fails_alone(bench: Bench) -> None:
    def give(number: int) -> Any:
        return Unpicklable() if number == 1 else number

    values = bench.run(give, pickle.dumps([0, 1, 2]), CHUNK)
    assert values[::2] == [0, 2]
    assert values[1].type == "_pickle.PicklingError"
    assert "give" in values[1].text and "Unpicklable" in values[1].text
    (value,) = bench.run(give, pickle.dumps([1]), CHUNK)
    assert value.type == "_pickle.PicklingError"


def test_the_item_being_packed_is_known(bench: Bench) -> None:
    seen = []

    class Watched:
        def __reduce__(self) -> Any:
            seen.append(bench.words[ITEM])
            return int, ()

    Watched.__module__ = "elsewhere"
    assert bench.run(lambda _: Watched(), pickle.dumps([1, 2, 3]), CHUNK) == [0, 0, 0]
    assert seen == [0, 1, 2]


def test_large_values_in_chunks(bench: Bench) -> None:
    array = bytearray(1_000_000)
    outcome = bench.start(lambda _: pickle.PickleBuffer(array), pickle.dumps([1]), CHUNK)
    assert isinstance(outcome, Outcome) and isinstance(outcome.payload, Packed)
    assert len(outcome.payload.buffers) == 1
    values = bench.run(lambda _: pickle.PickleBuffer(array), pickle.dumps([1, 2]), CHUNK)
    assert values == [array, array]


def test_large_values_beside_what_pickle_cannot_send(bench: Bench) -> None:
    """In one piece, too, what is sent by value is what is sent so elsewhere."""

    class Table:
        """A class with a lock in it, before Python 3.12."""

        def __init__(self, cells: bytearray) -> None:
            self.cells = pickle.PickleBuffer(cells)

        @functools.cached_property
        def size(self) -> int:
            return len(bytes(self.cells))

    array = bytearray(1_000_000)
    cached = functools.lru_cache(lambda x: -x)
    tables = bench.run(lambda _: Table(array), pickle.dumps([1, 2]), CHUNK)
    assert [table.size for table in tables] == [1_000_000] * 2
    pairs = bench.run(lambda _: (pickle.PickleBuffer(array), cached), pickle.dumps([1, 2]), CHUNK)
    assert [pair[1](5) for pair in pairs] == [-5, -5]


# -- awaitables


class Custom:
    def __await__(self) -> Any:
        yield from ()
        return 1


def test_what_is_awaitable() -> None:
    async def coroutine() -> None: ...

    @types.coroutine
    def old() -> Any:
        yield

    running = coroutine()
    assert is_awaitable(running) and is_awaitable(Custom()) and is_awaitable(old())
    running.close()
    for value in (1, "x", [], {}, (n for n in ()), object(), Custom, coroutine):
        assert not is_awaitable(value)


def test_pending_and_settled(bench: Bench) -> None:
    pending = bench.start(lambda: Custom(), pickle.dumps(()))
    assert isinstance(pending, Pending) and not pending.chunk
    pending.values[0] = 5
    assert bench.value(bench.runner.settle(pending)) == 5
    pending.failed[0] = pickle.dumps((None, "T", "text", ""))
    with pytest.raises(RemoteError, match="text"):
        bench.value(bench.runner.settle(pending))
    pending.failed.clear()
    pending.values[0] = Unpicklable()
    with pytest.raises(RemoteError, match="not me"):
        bench.value(bench.runner.settle(pending))


def test_a_chunk_is_pending_if_any_value_is(bench: Bench) -> None:
    def give(number: int) -> Any:
        return Custom() if number == 2 else number

    pending = bench.start(give, pickle.dumps([0, 1, 2]), CHUNK)
    assert isinstance(pending, Pending) and pending.chunk
    pending.values[2] = 2
    assert bench.value(bench.runner.settle(pending)) == [0, 1, 2]


def test_exits_and_cancellation_are_errors(bench: Bench) -> None:
    for error in (SystemExit(2), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()):

        def fail(error: BaseException = error) -> None:
            raise error

        with pytest.raises(RemoteError) as caught:
            bench.run(fail, pickle.dumps(()))
        assert type(caught.value.original()) is type(error)


def test_is_large() -> None:
    big = bytes(1 << 20)
    for value in (big, bytearray(big), [big], (1, big)):
        assert is_large(value)
    for value in (b"", 5, [1], {"x": big}, "text"):
        assert not is_large(value)


# -- what a chunk's result is made of


@pytest.mark.parametrize("data", [PickleType.pickle, PickleType.cloudpickle])
@pytest.mark.parametrize("flags", [CHUNK, CHUNK | SEPARATE])
def test_the_bodies_of_a_chunks_result(data: PickleType, flags: int) -> None:
    """Whichever way they were packed."""
    bench = Bench(data)

    def give(item: int) -> object:
        return {1: 1 / item} if flags & SEPARATE else item

    payload = separate([0, 1, 2]) if flags & SEPARATE else pickle.dumps([0, 1, 2])
    outcome = bench.start(give, payload, flags)
    assert isinstance(outcome, Outcome)
    found = bench.runner.bodies(*outcome)
    assert found is not None
    bodies, failed = found
    assert set(failed) == ({0} if flags & SEPARATE else set())
    values = [bench.runner.loads(body) for i, body in enumerate(bodies) if i not in failed]
    assert values == ([{1: 1.0}, {1: 0.5}] if flags & SEPARATE else [0, 1, 2])


def test_what_has_no_bodies() -> None:
    """A single call, one item, an error of the whole, and a value that is in several pieces."""
    bench = Bench()
    big = bytes(1 << 20)
    outcomes = [
        bench.start(abs, pickle.dumps((-1,))),
        bench.start(abs, pickle.dumps([-1]), CHUNK),
        bench.start(repr, separate([1]), CHUNK | SEPARATE),
        bench.start(lambda _: {}[1], pickle.dumps([1]), CHUNK),
        bench.start(abs, b"nonsense", CHUNK),
        bench.start(lambda _: big, pickle.dumps([1]), CHUNK),
    ]
    for outcome in outcomes:
        assert isinstance(outcome, Outcome)
        assert bench.runner.bodies(*outcome) is None
    assert isinstance(outcomes[-1].payload, Packed)
