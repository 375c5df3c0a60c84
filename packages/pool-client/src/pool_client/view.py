"""The methods by which work is given to a pool; ``Pool`` and ``options(…)`` share them."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from pool_client.calls import SubmittedCall
from pool_client.core import Core
from pool_client.futures import AsyncTaskFuture, TaskFuture
from pool_client.mapper import start_map, start_map_async
from pool_client.options import count, seconds
from pool_client.scheduling.tasks import Terms


class View:
    """A pool seen through the terms of its tasks: time limit and retries."""

    _core: Core
    _terms: Terms

    def __reduce__(self) -> Any:
        raise TypeError(
            "a pool cannot be pickled, nor can a function that refers to one; "
            "a task that needs a pool makes a pool of its own"
        )

    # -- one call

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> TaskFuture:
        """Queue ``fn(*args, **kwargs)``; a ``concurrent.futures.Future``.

        What cannot be pickled fails that future. Raises RuntimeError after shutdown.
        """
        return self._core.submit(fn, args, kwargs, self._terms)

    def run(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run ``func(*args, **kwargs)`` on a worker; returns its result or raises its error.

        Raises RuntimeError in the thread of the loop that carries this pool, which would stop.
        """
        self._core.must_not_block("run")
        future = self._core.submit(func, args, kwargs, self._terms)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def run_async(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncTaskFuture:
        """Run ``func(*args, **kwargs)`` on a worker; await what is returned.

        The work starts at once. The future can stand wherever a coroutine can.
        """
        return self._core.submit_async(func, args, kwargs, self._terms)

    # -- many calls

    def map(
        self,
        func: Callable[..., Any],
        /,
        *iterables: Any,
        timeout: float | None = None,
        chunksize: int | None = None,
        ordered: bool = True,
        star: bool = False,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Call ``func`` with the items of the iterables; an iterator of the results.

        Iterables may be plain or asynchronous, and unbounded; several are zipped to the shortest.
        Work starts now; inputs are read at most ``buffersize`` items ahead of the results that
        were taken (None: automatic).

        Args:
            func: what is called, in a worker.
            *iterables: its arguments; with one iterable, each item is the only argument.
            timeout: seconds from now for all results; then TimeoutError.
            chunksize: calls in one message; None adapts to the time they take.
            ordered: results in the order of the inputs, or as they come.
            star: each item is a tuple of arguments.
            buffersize: how many items are read ahead.

        Returns:
            The iterator. It raises an item's exception in its place and goes on after it; an error
            of the inputs, and TimeoutError, are its end. Closing or dropping it cancels what no
            worker has; but one that was never advanced is run whole where every input has a length.

        Raises:
            TypeError, ValueError: a bad argument.
            RuntimeError: after shutdown; or in the thread of the loop that carries this pool, which
                would stop.
        """
        self._core.must_not_block("map")
        options = {
            "timeout": timeout,
            "chunksize": chunksize,
            "ordered": ordered,
            "star": star,
            "buffersize": buffersize,
        }
        return start_map(self, self._core, self._terms, func, iterables, options)

    def map_async(
        self,
        func: Callable[..., Any],
        /,
        *iterables: Any,
        timeout: float | None = None,
        chunksize: int | None = None,
        ordered: bool = True,
        star: bool = False,
        buffersize: int | None = None,
    ) -> AsyncIterator[Any]:
        """As `map`, as an asynchronous generator; also on the loop that carries this pool."""
        options = {
            "timeout": timeout,
            "chunksize": chunksize,
            "ordered": ordered,
            "star": star,
            "buffersize": buffersize,
        }
        return start_map_async(self, self._core, self._terms, func, iterables, options)

    # -- every worker

    def run_on_all(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> list[Any]:
        """Run ``func`` once on every worker, after all that was submitted before.

        Returns the results in worker order, or raises the first error. Raises RuntimeError as
        `run` does.
        """
        self._core.must_not_block("run_on_all")
        call = SubmittedCall()
        self._core.broadcast(call, func, args, kwargs, self._terms)
        results: list[Any] = call.result()
        return results

    async def run_on_all_async(
        self, func: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> list[Any]:
        """As `run_on_all`, awaited."""
        call = self._core.async_call()
        self._core.broadcast(call, func, args, kwargs, self._terms)
        results: list[Any] = await call
        return results

    # -- terms

    def options(self, *, timeout: float | None = None, retries: int | None = None) -> "View":
        """This pool with other terms for its tasks.

        Args:
            timeout: seconds that one call may run; then its worker is killed and replaced, and
                the call gets `TaskTimeout`.
            retries: how often a call that had started is tried again when its worker is lost; 0:
                it runs at most once.

        What is None, or left out, is as in this one. Raises TypeError or ValueError.
        """
        limit = seconds("timeout", timeout)
        again = count("retries", retries, 0)
        terms = self._terms
        return _Options(
            self,
            Terms(
                retries=terms.retries if again is None else again,
                timeout=terms.timeout if limit is None else limit,
            ),
        )


class _Options(View):
    """A light view of a pool."""

    def __init__(self, view: View, terms: Terms) -> None:
        self._core = view._core
        self._terms = terms
        # A pool ends with its last reference, and this is one.
        self._view = view

    def __repr__(self) -> str:
        return f"<options timeout={self._terms.timeout} retries={self._terms.retries}>"
