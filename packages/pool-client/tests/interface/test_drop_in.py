"""In the place of `ProcessPoolExecutor`: what its documentation teaches, with `Pool`."""

import asyncio
import concurrent.futures
import math
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION
from pathlib import Path
from typing import Any

import interface_tasks as tasks
import pytest
from support import run_script

from pool_client import Pool

NUMBERS = [1_000_000_007, 1_000_000_011, 999_999_937, 1_000_000_009, 999_983, 25]
ARE_PRIME = [True, False, True, True, True, False]


def is_prime(number: int) -> bool:
    """Tell whether a number is prime, by trying to divide it."""
    if number < 2 or number % 2 == 0:
        return number == 2
    return all(number % odd for odd in range(3, math.isqrt(number) + 1, 2))


@pytest.fixture
def pool(shared: Any) -> Any:
    """Yield the pool of this file: these tests leave it as it is."""
    return shared


def test_primes_with_map() -> None:
    """The documentation's first example: a map over numbers, zipped with them."""
    with Pool(max_workers=2) as executor:
        found = dict(zip(NUMBERS, executor.map(is_prime, NUMBERS), strict=True))
    assert list(found.values()) == ARE_PRIME


def test_primes_as_a_script(tmp_path: Path) -> None:
    """The example as a file, with a main function and its guard, prints what it should."""
    script = """
        import math
        from pool_client import Pool

        NUMBERS = [7, 1_000_000_007, 1_000_000_008]

        def is_prime(number):
            return number > 1 and all(number % d for d in range(2, math.isqrt(number) + 1))

        def main():
            with Pool() as executor:
                for number, prime in zip(NUMBERS, executor.map(is_prime, NUMBERS)):
                    print('%d is prime: %s' % (number, prime))

        if __name__ == '__main__':
            main()
    """
    output = run_script(script, as_file=tmp_path / "primes.py").stdout
    assert [line.split(": ")[1] for line in output.splitlines()] == ["True", "True", "False"]


def test_dictionary_of_futures() -> None:
    """Futures are keys of a dictionary, taken as they complete, one of them failing."""
    with Pool(max_workers=2) as executor:
        numbers: Any = {executor.submit(tasks.fail_on, n, 3): n for n in range(8)}
        failed, values = [], []
        for future in concurrent.futures.as_completed(numbers, timeout=30):
            try:
                values.append(future.result())
            except tasks.Oops:
                failed.append(numbers[future])
    assert failed == [3]
    assert sorted(values) == [0, 1, 2, 4, 5, 6, 7]


def test_submit_gives_a_future() -> None:
    """`submit` returns a real `concurrent.futures.Future`."""
    with Pool(max_workers=1) as executor:
        future = executor.submit(pow, 323, 1235)
        assert isinstance(future, concurrent.futures.Future)
        assert future.result() == 323**1235


def test_wait_for_all(pool: Any) -> None:
    """`wait` with its default returns when everything is done."""
    futures = {pool.submit(abs, -n) for n in range(20)}
    done, not_done = concurrent.futures.wait(futures, timeout=30)
    assert (done, not_done) == (futures, set())


def test_wait_all_completed_counts_failures(pool: Any) -> None:
    """``ALL_COMPLETED`` waits for the good ones behind a failure."""
    futures = [pool.submit(tasks.fail, 1), pool.submit(abs, -1), pool.submit(abs, -2)]
    done, _ = concurrent.futures.wait(futures, timeout=30, return_when=ALL_COMPLETED)
    assert done == set(futures)


def test_wait_for_the_first(pool: Any, gate: Any) -> None:
    """``FIRST_COMPLETED`` returns while others still run."""
    held = pool.submit(tasks.pass_gate, gate.path, "held")
    quick = pool.submit(abs, -1)
    done, not_done = concurrent.futures.wait([held, quick], timeout=30, return_when=FIRST_COMPLETED)
    assert (done, not_done) == ({quick}, {held})
    gate.open()
    assert held.result(30) == "held"


def test_wait_for_the_first_exception(pool: Any, gate: Any) -> None:
    """``FIRST_EXCEPTION`` returns at an error while others still run."""
    held = pool.submit(tasks.pass_gate, gate.path)
    bad = pool.submit(tasks.fail, 1)
    done, not_done = concurrent.futures.wait([held, bad], timeout=30, return_when=FIRST_EXCEPTION)
    assert (done, not_done) == ({bad}, {held})


def test_first_exception_without_one(pool: Any) -> None:
    """``FIRST_EXCEPTION`` waits for all where nothing fails."""
    futures = {pool.submit(abs, -n) for n in range(5)}
    done, _ = concurrent.futures.wait(futures, timeout=30, return_when=FIRST_EXCEPTION)
    assert done == futures


def test_wait_times_out(pool: Any, gate: Any) -> None:
    """`wait` returns after its timeout with what is not done."""
    held = pool.submit(tasks.pass_gate, gate.path)
    assert concurrent.futures.wait([held], timeout=0.05) == (set(), {held})


def test_wait_for_done_futures(pool: Any) -> None:
    """`wait` and `as_completed` take futures that are done already."""
    futures = [pool.submit(abs, -n) for n in range(3)]
    assert [future.result(30) for future in futures] == [0, 1, 2]
    assert concurrent.futures.wait(futures, timeout=0).done == set(futures)
    assert set(concurrent.futures.as_completed(futures, timeout=5)) == set(futures)


def test_as_completed_in_order_of_completion(pool: Any, gate: Any) -> None:
    """`as_completed` yields what is done first, first."""
    held = pool.submit(tasks.pass_gate, gate.path, "held")
    quick = pool.submit(abs, -1)
    completed = concurrent.futures.as_completed([held, quick], timeout=30)
    assert next(completed) is quick
    gate.open()
    assert next(completed) is held


def test_as_completed_times_out(pool: Any, gate: Any) -> None:
    """`as_completed` raises after its timeout."""
    held = pool.submit(tasks.pass_gate, gate.path)
    with pytest.raises(TimeoutError):
        list(concurrent.futures.as_completed([held], timeout=0.05))


def test_futures_beside_those_of_other_executors(pool: Any) -> None:
    """`wait` takes futures of ours and of a `ThreadPoolExecutor` together."""
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        futures = {threads.submit(abs, -1), pool.submit(abs, -2)}
        done, _ = concurrent.futures.wait(futures, timeout=30)
        assert {future.result() for future in done} == {1, 2}


def test_map_with_several_iterables(pool: Any) -> None:
    """`map` zips its iterables, takes ``chunksize`` and ``timeout``, and returns an iterator."""
    results = pool.map(pow, [2, 3, 10], [5, 2, 3], timeout=30, chunksize=2)
    assert iter(results) is results
    assert list(results) == [32, 9, 1000]


def test_map_times_out_as_there(pool: Any, gate: Any) -> None:
    """`map` raises what `concurrent.futures` calls ``TimeoutError``."""
    with pytest.raises(concurrent.futures.TimeoutError):
        list(pool.map(tasks.pass_gate, [gate.path], timeout=0.05))
    gate.open()


def test_run_in_executor() -> None:
    """`loop.run_in_executor` works, with a pool that is a context manager as documented."""

    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        with Pool(2) as executor:
            jobs = [loop.run_in_executor(executor, tasks.square, n) for n in range(5)]
            return await asyncio.wait_for(asyncio.gather(*jobs), 30)

    assert asyncio.run(main()) == [0, 1, 4, 9, 16]


def test_run_in_executor_with_the_engine_on_the_loop() -> None:
    """`loop.run_in_executor` works with ``async with Pool()`` as well."""

    async def main() -> int:
        async with Pool(1) as executor:
            job = asyncio.get_running_loop().run_in_executor(executor, tasks.square, 5)
            return await asyncio.wait_for(job, 30)

    assert asyncio.run(main()) == 25


def test_run_in_executor_raises(pool: Any) -> None:
    """An exception comes through `run_in_executor` with its type."""

    async def main() -> None:
        job = asyncio.get_running_loop().run_in_executor(pool, tasks.fail, 5)
        with pytest.raises(tasks.Oops):
            await asyncio.wait_for(job, 30)

    asyncio.run(main())


def test_wrap_future(pool: Any) -> None:
    """`asyncio.wrap_future` awaits a future of `submit`."""

    async def main() -> list[int]:
        futures = [asyncio.wrap_future(pool.submit(tasks.square, n)) for n in range(4)]
        return await asyncio.wait_for(asyncio.gather(*futures), 30)

    assert asyncio.run(main()) == [0, 1, 4, 9]


def test_wrap_future_with_the_engine_on_the_loop() -> None:
    """`asyncio.wrap_future` works where the engine lives on the same loop."""

    async def main() -> int:
        async with Pool(1) as pool:
            future = asyncio.wrap_future(pool.submit(tasks.square, 3))
            return await asyncio.wait_for(future, 30)

    assert asyncio.run(main()) == 9


def test_cancelling_a_wrapped_future(single: Any, gate: Any) -> None:
    """Cancelling what `run_in_executor` returned cancels a task that was not sent."""

    async def main() -> bool:
        loop = asyncio.get_running_loop()
        held = loop.run_in_executor(single, tasks.pass_gate, gate.path, 1)
        behind = single.submit(tasks.note, gate.arrived, "ran")
        wrapped = asyncio.wrap_future(behind)
        wrapped.cancel()
        await asyncio.sleep(0)
        gate.open()
        assert await asyncio.wait_for(held, 30) == 1
        return bool(behind.cancelled())

    assert asyncio.run(main()) is True
    single.run(abs, -1)
    assert gate.arrivals() == 0


def test_initializer_and_initargs() -> None:
    """``initializer`` and ``initargs`` work as there."""
    with Pool(max_workers=1, initializer=tasks.remember, initargs=("colour", "blue")) as executor:
        assert executor.submit(tasks.recall, "colour").result(30) == "blue"


def test_shutdown_signature() -> None:
    """``shutdown(wait=False, cancel_futures=True)`` is accepted."""
    executor = Pool(max_workers=1)
    future = executor.submit(abs, -1)
    executor.shutdown(wait=False, cancel_futures=True)
    executor.shutdown()
    assert future.done()


def test_broken_pool_is_caught_under_its_standard_name() -> None:
    """The errors of lost workers are `BrokenProcessPool`."""
    from concurrent.futures.process import BrokenProcessPool

    from pool_client import PoolBroken, WorkerLost

    assert issubclass(WorkerLost, BrokenProcessPool)
    assert issubclass(PoolBroken, BrokenProcessPool)
    with Pool(max_workers=1, retries=0) as executor, pytest.raises(BrokenProcessPool):
        executor.submit(tasks.die).result(30)
