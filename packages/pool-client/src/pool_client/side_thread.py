"""A thread for what might take long: it is there only while there is something to do.

A blocked terminal and a slow disk must not stop the engine's loop.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

#: Seconds that the thread stays when there is nothing more to do.
LINGER = 1.0


class SideThread:
    """Does one thing after another, in the order in which they were asked for.

    The interpreter's exit waits for what is still to be done.
    """

    def __init__(self, name: str, linger: float = LINGER) -> None:
        self._name = name
        self._linger = linger
        self._jobs: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<SideThread {self._name}: {len(self._jobs)} jobs>"

    def submit(self, function: Callable[..., Any], *args: Any) -> "Future[Any]":
        """Call a function in the thread. From any thread; never waits.

        Where no thread can be had any more, the function is called here and now.
        """
        future: Future[Any] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function(*args))
            except BaseException as error:
                future.set_exception(error)

        with self._changed:
            self._jobs.append(job)
            if self._thread is None:
                self._start()
            else:
                self._changed.notify()
        return future

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._work, name=self._name, daemon=False)
        try:
            self._thread.start()
        except RuntimeError:
            self._thread = None
            while self._jobs:
                self._jobs.popleft()()

    def close(self) -> None:
        """Let the thread end as soon as everything is done. What is asked later is done too."""
        with self._changed:
            self._linger = 0.0
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._jobs:
                    self._changed.wait(self._linger)
                if not self._jobs:
                    self._thread = None
                    return
                job = self._jobs.popleft()
            job()
            del job
