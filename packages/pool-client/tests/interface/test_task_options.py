"""`Pool.options`, ``retries`` and ``task_timeout``."""

import asyncio
from typing import Any

import interface_tasks as tasks
import pytest

from pool_client import Pool, TaskTimeout, WorkerLost

METHODS = ["submit", "run", "run_async", "map", "map_async", "run_on_all", "run_on_all_async"]


def test_a_view_has_the_methods_of_the_pool(pool: Any) -> None:
    """The view has the seven methods, and they work."""
    view = pool.options(timeout=30, retries=1)
    assert all(callable(getattr(view, name)) for name in METHODS)
    assert view.submit(tasks.add, 1, second=2).result(30) == 3
    assert view.run(tasks.add, 1, 2) == 3
    assert list(view.map(tasks.square, range(10), chunksize=3)) == [n * n for n in range(10)]
    assert len(view.run_on_all(tasks.pid)) == 2

    async def main() -> None:
        assert await view.run_async(tasks.add, 1, 2) == 3
        assert [n async for n in view.map_async(abs, [-1])] == [1]
        assert len(await view.run_on_all_async(tasks.pid)) == 2

    asyncio.run(main())


def test_options_are_given_by_name(pool: Any) -> None:
    """The options are keywords, and unknown ones are refused."""
    with pytest.raises(TypeError):
        pool.options(5)
    with pytest.raises(TypeError):
        pool.options(tmeout=5)


def test_options_without_any(pool: Any) -> None:
    """A view without options behaves as the pool."""
    assert pool.options().run(abs, -1) == 1


@pytest.mark.parametrize("options", [{"retries": -1}, {"timeout": -1}])
def test_impossible_options(pool: Any, options: dict[str, int]) -> None:
    """Negative options are refused at once."""
    with pytest.raises(ValueError):
        pool.options(**options)


def test_timeout_of_a_task(pool: Any, gate: Any) -> None:
    """A task past its time is ended with `TaskTimeout`; the pool goes on."""
    view = pool.options(timeout=0.2)
    with pytest.raises(TaskTimeout):
        view.run(tasks.pass_gate, gate.path)
    assert pool.run(abs, -1) == 1
    assert issubclass(TaskTimeout, TimeoutError)


def test_timeout_of_an_async_task(pool: Any) -> None:
    """The same for a task on the worker's loop."""
    with pytest.raises(TaskTimeout):
        pool.options(timeout=0.2).run(tasks.asleep, 60, 1)
    assert pool.run(abs, -1) == 1


def test_timeout_is_not_retried(gate: Any) -> None:
    """A task that took too long is not tried again."""
    with Pool(1, retries=3) as pool:
        assert pool.run(tasks.pid)  # the worker has imported the task then
        # It has to arrive within its time, which may take a while on a busy machine.
        for timeout in (0.5, 20.0):
            with pytest.raises(TaskTimeout):
                pool.options(timeout=timeout).run(tasks.pass_gate, gate.path, 1, gate.arrived)
            assert pool.run(abs, -1) == 1
            if gate.arrivals():
                break
    assert gate.arrivals() == 1


def test_timeout_counts_running_not_waiting(single: Any) -> None:
    """Time spent in the queue does not count."""
    # A worker that stands still for a while on a busy machine has time enough for each.
    view = single.options(timeout=5.0)
    futures = [view.submit(tasks.asleep, 0.2, n) for n in range(27)]
    assert [future.result(30) for future in futures] == list(range(27))


def test_timeout_of_the_pool(gate: Any) -> None:
    """``task_timeout`` is the default of all tasks, and a view may set another."""
    with Pool(2, task_timeout=0.3) as pool:
        patient = pool.options(timeout=30).submit(tasks.pass_gate, gate.path, "late")
        with pytest.raises(TaskTimeout):
            pool.run(tasks.asleep, 60, 1)
        gate.open()
        assert patient.result(30) == "late"


def test_timeout_in_a_map(pool: Any, gate: Any) -> None:
    """In a map the one item past its time fails in its place."""
    items = [(n, [2], gate.path) for n in range(5)]
    pool.run_on_all(tasks.pid)  # the workers have imported the task then
    results = pool.options(timeout=1.0).map(tasks.pass_if, items, star=True, chunksize=5)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(TaskTimeout):
        next(results)


def test_timeout_on_all(pool: Any, gate: Any) -> None:
    """`run_on_all` of a view has the view's timeout."""
    with pytest.raises(TaskTimeout):
        pool.options(timeout=0.2).run_on_all(tasks.pass_gate, gate.path)
    assert len(set(pool.run_on_all(tasks.pid))) == 2


@pytest.mark.parametrize("retries", [0, 2])
def test_retries_of_a_view(tmp_path: Any, retries: int) -> None:
    """A task that kills its worker is tried once and then so many times again."""
    path = str(tmp_path / "notes")
    with Pool(1) as pool:
        with pytest.raises(WorkerLost) as caught:
            pool.options(retries=retries).run(tasks.note_and_die, path)
        assert pool.run(abs, -1) == 1
    assert len(set(tasks.noted(path))) == len(tasks.noted(path)) == retries + 1
    assert "11" in str(caught.value)
    assert tasks.noted(path)[-1] in str(caught.value)


def test_retries_by_default(tmp_path: Any) -> None:
    """By default a task is tried four times."""
    path = str(tmp_path / "notes")
    with Pool(1) as pool, pytest.raises(WorkerLost):
        pool.run(tasks.note_and_die, path)
    assert len(tasks.noted(path)) == 4


def test_none_is_the_default() -> None:
    """As in `Pool.options`, and as for ``connect_timeout``: it is not 0."""
    pool = Pool(1, retries=None, connect_timeout=None, lazy_create=True)
    assert pool._terms == Pool(1, lazy_create=True)._terms
    assert pool._core.options == Pool(1, lazy_create=True)._core.options


def test_retries_of_the_pool(tmp_path: Any) -> None:
    """``retries=`` of the pool is what a view may change."""
    path = str(tmp_path / "notes")
    with Pool(1, retries=1) as pool, pytest.raises(WorkerLost):
        pool.run(tasks.note_and_die, path)
    assert len(tasks.noted(path)) == 2


def test_exceptions_are_not_retried(tmp_path: Any) -> None:
    """A task that raises is not tried again."""
    path = str(tmp_path / "notes")

    def work() -> None:
        tasks.note(path)
        raise tasks.Oops(1)

    with Pool(1, retries=3) as pool, pytest.raises(tasks.Oops):
        pool.run(work)
    assert len(tasks.noted(path)) == 1


def test_a_task_that_survives_its_retry(tmp_path: Any) -> None:
    """A task whose first worker dies gets its result from the next."""
    path = str(tmp_path / "notes")

    def work() -> str:
        tasks.note(path)
        if len(tasks.noted(path)) < 3:
            tasks.die()
        return "made it"

    with Pool(1) as pool:
        assert pool.run(work) == "made it"
