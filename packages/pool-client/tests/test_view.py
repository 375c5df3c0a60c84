"""A pool seen through terms: what its options keep, and that every method goes through them."""

import asyncio
import gc
import math
import os
import pickle
import threading
import time
import weakref
from typing import Any

import pytest
from support import running_pool

from pool_client import Pool, TaskTimeout


def terms_of(view: Any) -> tuple[int, float | None]:
    """Return the retries and the time limit, in seconds, of what is submitted through *view*."""
    return view._terms.retries, view._terms.timeout


@pytest.fixture
def lazy() -> Any:
    """Return a pool with terms of its own, which never starts."""
    return Pool(1, lazy_create=True, retries=5, task_timeout=40)


def test_unset_terms_are_kept(lazy: Any) -> None:
    """What is not named stays as it was; zero retries are a choice, not the lack of one."""
    assert terms_of(lazy.options()) == (5, 40.0)
    assert terms_of(lazy.options(timeout=2)) == (5, 2.0)
    assert terms_of(lazy.options(retries=0)) == (0, 40.0)
    assert terms_of(lazy) == (5, 40.0)


def test_a_pool_cannot_be_sent(lazy: Any) -> None:
    """Who sends one by mistake, most often in a function that refers to it, is told what to do."""
    for view in (lazy, lazy.options(retries=0)):
        with pytest.raises(TypeError, match=r"pool cannot be pickled.*a pool of its own"):
            pickle.dumps(view)


def test_options_of_options(lazy: Any) -> None:
    """A view of a view keeps the terms of the view, not those of the pool."""
    view = lazy.options(retries=0)
    assert terms_of(view.options(timeout=7)) == (0, 7.0)
    assert terms_of(view.options(timeout=7).options(retries=1)) == (1, 7.0)
    assert terms_of(view) == (0, 40.0)
    assert repr(view.options(timeout=7)) == "<options timeout=7.0 retries=0>"


@pytest.mark.parametrize(
    ("terms", "error"),
    [
        ({"timeout": 0}, ValueError),
        ({"timeout": -1}, ValueError),
        ({"timeout": math.nan}, ValueError),
        ({"timeout": "1"}, TypeError),
        ({"retries": -1}, ValueError),
        ({"retries": 1.5}, TypeError),
        ({"retries": True}, TypeError),
    ],
)
def test_terms_are_checked(lazy: Any, terms: dict[str, Any], error: type[Exception]) -> None:
    """Impossible terms are refused at once, by their name."""
    with pytest.raises(error, match=next(iter(terms))):
        lazy.options(**terms)


def test_work_through_a_view() -> None:
    """Every way to give work gives the results that it gives through the pool."""
    with running_pool(2) as pool:
        view = pool.options(timeout=30)
        assert view.run(int, "11", base=2) == 3
        assert view.submit(int, "11", base=3).result(30) == 4
        assert list(view.map(abs, [-1, -2])) == [1, 2]
        assert view.run_on_all(os.getpid) == pool.run_on_all(os.getpid)


def test_asynchronous_work_through_a_view() -> None:
    """So do the asynchronous ways."""

    async def main(pool: Any) -> None:
        view = pool.options(timeout=30)
        assert await view.run_async(int, "11", base=2) == 3
        assert [value async for value in view.map_async(abs, [-1, -2])] == [1, 2]
        assert await view.run_on_all_async(abs, -3) == [3]

    with running_pool(1) as pool:
        asyncio.run(main(pool))


def test_the_terms_reach_the_tasks() -> None:
    """A call, and an item of a map, are ended by the view's limit, not by the pool's."""
    with running_pool(1) as pool:
        view = pool.options(timeout=0.05)
        with pytest.raises(TaskTimeout):
            view.run(time.sleep, 1000)
        with pytest.raises(TaskTimeout):
            list(view.map(time.sleep, [1000]))
        assert pool.stats().timeouts == 2


def test_a_view_keeps_its_pool() -> None:
    """A pool that is only known to a view of a view still works, and ends with it."""
    pool = Pool(1)
    kept = weakref.ref(pool)
    view = pool.options(retries=1).options(timeout=30)
    del pool
    gc.collect()
    assert view.run(abs, -1) == 1
    del view
    gc.collect()
    assert kept() is None


def test_not_callable() -> None:
    """What cannot be called is a TypeError, wherever that is noticed, and a worker survives it."""
    with running_pool(1) as pool:
        for view in (pool, pool.options(retries=0)):
            assert isinstance(view.submit(7).exception(30), TypeError)
            for method in (view.run, view.map, view.run_on_all):
                with pytest.raises(TypeError, match="callable"):
                    method(7, [1])


def test_not_callable_nor_picklable() -> None:
    """The mistake that is named is the call of it, not that it cannot be pickled."""
    lock = threading.Lock()
    with running_pool(1) as pool:
        view = pool.options(retries=0)
        for method in (view.submit, view.run, view.map):
            with pytest.raises(TypeError, match="callable"):
                method(lock, [1])
        assert pool.stats().submitted == 0
