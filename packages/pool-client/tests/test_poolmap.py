"""The eventkit operator: emits go in as they come, results and errors come out."""

import asyncio
import bz2
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import run_script

ev = pytest.importorskip("eventkit")

from pool_client import Pool, RemoteException  # noqa: E402  (needs eventkit)
from pool_client.poolmap import PoolMap  # noqa: E402

DATA = [bytes([number]) * 1000 * number for number in range(1, 30)]


def make_tasks() -> tuple[Callable[[int], int], Callable[[str, int], int]]:
    """Return two functions that are pickled by value, so that workers do not import this module."""

    def double(number: int) -> int:
        """Return twice the number, or raise for 3."""
        if number == 3:
            raise KeyError(number)
        return 2 * number

    def hold(path: str, number: int) -> int:
        """Return the number; 0 waits until the file exists."""
        import os
        import time

        deadline = time.monotonic() + 60
        while number == 0 and not os.path.exists(path):
            if time.monotonic() > deadline:
                raise RuntimeError("nobody made the file")
            time.sleep(0.005)
        return number

    return double, hold


double, hold = make_tasks()


@pytest.fixture
def pool() -> Iterator[Any]:
    """Yield a pool of two workers with its engine in a thread."""
    with Pool(2) as one:
        yield one


def collect(event: Any) -> tuple[list[Any], list[BaseException]]:
    """Return two lists that fill with what the event emits and with its errors."""
    results: list[Any] = []
    errors: list[BaseException] = []
    event.connect(
        lambda *args: results.append(args[0] if len(args) == 1 else args),
        lambda source, error: errors.append(error),
        keep_ref=True,
    )
    return results, errors


async def until(condition: Any) -> None:
    """Wait until the condition holds, leaving the loop to others."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


def test_documented_pipe(pool: Any) -> None:
    """A pipe through the pool gives what a plain one gives."""

    async def main() -> Any:
        return await ev.Sequence(DATA).poolmap(pool, bz2.compress).map(len).mean().last()

    sizes = [len(bz2.compress(data)) for data in DATA]
    assert asyncio.run(asyncio.wait_for(main(), 60)) == pytest.approx(sum(sizes) / len(sizes))


def test_engine_on_the_same_loop() -> None:
    """The same with the engine on the loop of the pipe."""

    async def main() -> Any:
        async with Pool(2) as pool:
            return await ev.Sequence(DATA).poolmap(pool, bz2.compress).map(len).list()

    assert asyncio.run(asyncio.wait_for(main(), 60)) == [len(bz2.compress(data)) for data in DATA]


def test_synchronous_program() -> None:
    """`Event.run` in a script without a loop of its own works."""
    script = """
        import bz2
        import eventkit as ev
        import pool_client.poolmap
        from pool_client import Pool
        with Pool(2) as pool:
            print(ev.Sequence([b"a" * n for n in range(5)]).poolmap(pool, bz2.compress)
                  .map(bz2.decompress).map(len).run())
    """
    assert run_script(script).stdout == "[0, 1, 2, 3, 4]\n"


def test_importing_the_pool_does_not_import_eventkit() -> None:
    """Only the module itself needs eventkit, and gives events the method."""
    script = """
        import sys
        import pool_client
        print("eventkit" in sys.modules)
        import eventkit
        print(hasattr(eventkit.Event, "poolmap"))
        import pool_client.poolmap
        print(hasattr(eventkit.Event, "poolmap"))
    """
    assert run_script(script).stdout.split() == ["False", "False", "True"]


@pytest.mark.parametrize("chunksize", [None, 1, 3, 1000])
@pytest.mark.parametrize("ordered", [True, False])
def test_many(pool: Any, chunksize: int | None, ordered: bool) -> None:
    """Every emit gives one result, in order where that was asked for."""

    async def main() -> Any:
        source = ev.Sequence(range(500))
        return await source.poolmap(pool, abs, chunksize=chunksize, ordered=ordered).list()

    results = asyncio.run(asyncio.wait_for(main(), 60))
    assert (results if ordered else sorted(results)) == list(range(500))


def test_emits_of_several_values(pool: Any) -> None:
    """What an event emits are the function's arguments."""

    async def main() -> Any:
        return await ev.Sequence([(2, 3), (3, 2)]).star().poolmap(pool, pow).list()

    assert asyncio.run(asyncio.wait_for(main(), 60)) == [8, 9]


def test_emit_of_nothing(pool: Any) -> None:
    """An empty emit calls the function without arguments."""

    async def main() -> list[Any]:
        source = ev.Event()
        results, _ = collect(source.poolmap(pool, list))
        source.emit()
        await until(lambda: results)
        source.set_done()
        return results

    assert asyncio.run(main()) == [[]]


def test_pausing_source_withholds_nothing(pool: Any) -> None:
    """Results come out while the source says nothing, whatever the chunksize."""

    async def main(chunksize: int | None) -> None:
        source = ev.Event()
        results, _ = collect(source.poolmap(pool, double, chunksize=chunksize))
        for number in (1, 2):
            source.emit(number)
        await until(lambda: results == [2, 4])
        source.emit(5)
        await until(lambda: results == [2, 4, 10])
        source.set_done()

    for chunksize in (None, 1, 100):
        asyncio.run(main(chunksize))


def test_source_that_ends_late(pool: Any) -> None:
    """The pipe ends when its source does, not before."""

    async def main() -> None:
        source = ev.Event()
        pipe = source.poolmap(pool, double)
        results, _ = collect(pipe)
        source.emit(1)
        await until(lambda: results == [2])
        assert not pipe.done()
        source.set_done()
        await until(pipe.done)
        assert results == [2]

    asyncio.run(main())


def test_source_that_ends_early(pool: Any) -> None:
    """What was emitted before the end comes out before the pipe is done."""

    async def main() -> None:
        source = ev.Event()
        pipe = source.poolmap(pool, double)
        results, _ = collect(pipe)
        at_the_end: list[int] = []
        pipe.done_event.connect(lambda _: at_the_end.extend(results), keep_ref=True)
        for number in (4, 5, 6):
            source.emit(number)
        source.set_done()
        assert not pipe.done()
        await until(pipe.done)
        assert at_the_end == [8, 10, 12]

    asyncio.run(main())


def test_source_that_emits_nothing(pool: Any) -> None:
    """A source that ends without an emit ends the pipe."""

    async def main() -> None:
        source = ev.Event()
        pipe = source.poolmap(pool, double)
        source.set_done()
        await until(pipe.done)

    asyncio.run(main())


def test_source_that_has_ended(pool: Any) -> None:
    """A source that is done when it is connected gives a pipe that is done."""

    async def main() -> None:
        source = ev.Event()
        source.set_done()
        assert source.poolmap(pool, double).done()

    asyncio.run(main())


@pytest.mark.parametrize("chunksize", [None, 1, 10])
def test_errors_come_out_in_their_place(pool: Any, chunksize: int | None) -> None:
    """An error goes to the error event, between its neighbours' results, and the pipe goes on."""

    async def main() -> None:
        source = ev.Event()
        pipe = source.poolmap(pool, double, chunksize=chunksize)
        results, errors = collect(pipe)
        before: list[int] = []
        pipe.error_event.connect(lambda *_: before.extend(results), keep_ref=True)
        for number in (1, 2, 3, 4, 5, 3):
            source.emit(number)
        source.set_done()
        await until(pipe.done)
        assert results == [2, 4, 8, 10]
        assert before[:2] == [2, 4]
        assert [type(error) for error in errors] == [KeyError, KeyError]
        assert isinstance(errors[0].__cause__, RemoteException)

    asyncio.run(main())


def test_error_event_names_the_pipe(pool: Any) -> None:
    """The error event emits the operator and the exception, as eventkit's own do."""

    async def main() -> None:
        source = ev.Event()
        pipe = source.poolmap(pool, double)
        seen: list[Any] = []
        pipe.error_event.connect(lambda *args: seen.append(args), keep_ref=True)
        source.emit(3)
        await until(lambda: seen)
        assert seen[0][0] is pipe
        assert isinstance(seen[0][1], KeyError)
        source.set_done()
        await until(pipe.done)

    asyncio.run(main())


def test_awaiting_a_pipe_raises_its_error(pool: Any) -> None:
    """Whoever awaits the pipe gets the exception."""

    async def main() -> None:
        with pytest.raises(KeyError):
            await ev.Sequence([3]).poolmap(pool, double).list()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_errors_of_the_source_pass(pool: Any) -> None:
    """An error of the source goes through."""

    async def main() -> None:
        source = ev.Event()
        pipe = source.poolmap(pool, double)
        _, errors = collect(pipe)
        error = ValueError("the source's")
        source.error_event.emit(source, error)
        assert errors == [error]
        source.set_done()
        await until(pipe.done)

    asyncio.run(main())


def test_argument_that_cannot_be_pickled(pool: Any) -> None:
    """An emit that cannot be sent is an error of its own."""
    import threading

    async def main() -> None:
        source = ev.Event()
        pipe = source.poolmap(pool, type)
        results, errors = collect(pipe)
        for value in (1, threading.Lock(), 2):
            source.emit(value)
        source.set_done()
        await until(pipe.done)
        assert results == [int, int]
        assert "lock" in str(errors[0]).lower()

    asyncio.run(main())


def test_slow_first_in_order(pool: Any, tmp_path: Path) -> None:
    """In order, what is done early waits for what was emitted before it."""

    async def main() -> None:
        path = tmp_path / "gate"
        source = ev.Event()
        pipe = source.poolmap(pool, hold, chunksize=1)
        results, _ = collect(pipe)
        for number in range(5):
            source.emit(str(path), number)
        assert await asyncio.wait_for(pool.run_async(abs, -1), 30) == 1
        assert results == []
        path.touch()
        source.set_done()
        await until(pipe.done)
        assert results == [0, 1, 2, 3, 4]

    asyncio.run(main())


def test_as_completed(pool: Any, tmp_path: Path) -> None:
    """With ``ordered=False`` a slow first emit holds nothing back."""

    async def main() -> None:
        path = tmp_path / "gate"
        source = ev.Event()
        results, _ = collect(source.poolmap(pool, hold, chunksize=1, ordered=False))
        for number in range(5):
            source.emit(str(path), number)
        await until(lambda: len(results) == 4)
        assert 0 not in results
        path.touch()
        source.set_done()
        await until(lambda: len(results) == 5)

    asyncio.run(main())


def test_timeout(pool: Any, tmp_path: Path) -> None:
    """Past its timeout the pipe emits `TimeoutError` and ends; the pool stays usable."""

    async def main() -> None:
        path = tmp_path / "gate"
        source = ev.Event()
        pipe = source.poolmap(pool, hold, timeout=0.2)
        _, errors = collect(pipe)
        source.emit(str(path), 0)
        await until(pipe.done)
        assert [type(error) for error in errors] == [TimeoutError]
        source.emit(str(path), 1)
        path.touch()
        assert await asyncio.wait_for(pool.run_async(abs, -1), 30) == 1

    asyncio.run(main())


def test_as_a_stage_of_a_pipe(pool: Any) -> None:
    """The operator can be made without a source, and given one later."""

    async def main() -> Any:
        return await ev.Sequence([-1, -2]).pipe(PoolMap(pool, abs)).list()

    assert asyncio.run(asyncio.wait_for(main(), 60)) == [1, 2]


def test_two_stages(pool: Any) -> None:
    """One pipe may go through the pool twice."""

    async def main() -> Any:
        first = ev.Sequence(range(-50, 0)).poolmap(pool, abs)
        return await first.poolmap(pool, str).list()

    expected = [str(number) for number in range(50, 0, -1)]
    assert asyncio.run(asyncio.wait_for(main(), 60)) == expected


def test_asynchronous_function(pool: Any) -> None:
    """An async function is a task like any other."""

    async def main() -> Any:
        source = ev.Sequence([(0, "a"), (0, "b")]).star()
        return await source.poolmap(pool, asyncio.sleep).list()

    assert asyncio.run(asyncio.wait_for(main(), 60)) == ["a", "b"]


@pytest.mark.parametrize(
    ("kwargs", "error"), [({"chunksize": 0}, ValueError), ({"timeout": "soon"}, TypeError)]
)
def test_arguments_are_checked(pool: Any, kwargs: dict[str, Any], error: type[Exception]) -> None:
    """Wrong arguments raise where the operator is made."""
    with pytest.raises(error):
        PoolMap(pool, abs, **kwargs)


def test_function_is_checked(pool: Any) -> None:
    """What cannot be called is refused."""
    not_a_function: Any = 5
    with pytest.raises(TypeError):
        PoolMap(pool, not_a_function)


def test_source_that_never_yields(pool: Any) -> None:
    """A source that emits much at once is sent as it is; nothing is lost."""

    async def main() -> None:
        source = ev.Event()
        pipe = source.poolmap(pool, abs)
        results, _ = collect(pipe)
        for number in range(20_000):
            source.emit(-number)
        source.set_done()
        await until(pipe.done)
        assert results == list(range(20_000))

    asyncio.run(main())


def test_listener_that_emits_again(pool: Any) -> None:
    """A result may be what the source emits next."""

    async def main() -> None:
        source = ev.Event()
        pipe = source.poolmap(pool, double)
        results, _ = collect(pipe)
        pipe.connect(lambda value: value < 1000 and source.emit(value), keep_ref=True)
        source.emit(1)
        await until(lambda: 1024 in results)
        source.set_done()
        await until(pipe.done)
        assert results == [2**power for power in range(1, 11)]

    asyncio.run(main())


def test_views_of_the_pool(pool: Any) -> None:
    """A view with options is a pool as well."""

    async def main() -> Any:
        return await ev.Sequence([-1, -2]).poolmap(pool.options(retries=0), abs).list()

    assert asyncio.run(asyncio.wait_for(main(), 60)) == [1, 2]


def test_pool_that_was_shut_down() -> None:
    """A pool that is shut down is an error of the pipe, which ends."""
    pool = Pool(1)
    pool.shutdown()

    async def main() -> None:
        source = ev.Event()
        errors: list[BaseException] = []
        try:
            pipe = source.poolmap(pool, abs)
            _, errors = collect(pipe)
            source.emit(1)
            source.set_done()
            await until(pipe.done)
        except RuntimeError as error:
            errors.append(error)
        assert [type(error) for error in errors] == [RuntimeError]

    asyncio.run(main())


def test_dropped_pipe_leaves_the_pool_alone(pool: Any) -> None:
    """A pipe whose loop ends in the middle harms nothing."""

    async def main() -> None:
        source = ev.Event()
        pipe = source.poolmap(pool, abs)
        for number in range(100):
            source.emit(number)
        del pipe

    asyncio.run(main())
    assert pool.run(abs, -1) == 1


def test_reading_that_is_cancelled_before_it_begins(pool: Any) -> None:
    """The pipe ends, with an error."""

    async def main() -> list[BaseException]:
        source = ev.Event()
        pipe = source.poolmap(pool, abs)
        _, errors = collect(pipe)
        before = asyncio.all_tasks()
        await asyncio.sleep(0)
        for task in asyncio.all_tasks() - before:
            task.cancel()
        await until(pipe.done)
        return errors

    errors = asyncio.run(main())
    assert [type(error) for error in errors] == [RuntimeError]
