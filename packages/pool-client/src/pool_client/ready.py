"""``pool.ready``: an event that every thread and every loop can wait for."""

import asyncio
import threading


class Ready:
    """Set while all workers are connected and initialised. Not bound to a loop."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[bool]]] = []
        #: Why it will never be set any more.
        self._error: BaseException | None = None

    def __repr__(self) -> str:
        return f"<Ready {'set' if self.is_set() else 'unset'}>"

    def is_set(self) -> bool:
        """True while all workers are there."""
        return self._event.is_set()

    async def wait(self) -> bool:
        """Wait until all workers are there; True. Raises the reason why they will never be."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._event.is_set():
                return True
            if self._error is not None:
                raise self._error
            waiter: asyncio.Future[bool] = loop.create_future()
            self._waiters.append((loop, waiter))
        try:
            return await waiter
        finally:
            if waiter.cancelled():
                with self._lock:
                    self._waiters = [pair for pair in self._waiters if pair[1] is not waiter]

    def set(self) -> None:
        """All workers are there."""
        with self._lock:
            self._event.set()
        self._wake_all(None)

    def clear(self) -> None:
        """Not all workers are there any more."""
        self._event.clear()

    def give_up(self, error: BaseException) -> None:
        """They will never be: the pool has failed, or was shut down. The first reason counts."""
        with self._lock:
            self._event.clear()
            self._error = self._error or error
        self._wake_all(self._error)

    def _wake_all(self, error: BaseException | None) -> None:
        with self._lock:
            waiters, self._waiters = self._waiters, []
        for loop, waiter in waiters:
            try:
                loop.call_soon_threadsafe(_wake, waiter, error)
            except RuntimeError:
                continue  # that loop is closed, and its waiter with it


def _wake(waiter: "asyncio.Future[bool]", error: BaseException | None) -> None:
    if waiter.done():
        return
    if error is None:
        waiter.set_result(True)
    else:
        waiter.set_exception(error)
