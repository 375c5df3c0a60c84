"""A user's program that does what a test tells it: a line of JSON in, a line of JSON out.

It runs where the client of the pool is to run. Its own lines begin with a mark, so that what tasks
print can stand between them. A request names one of the methods of `Agent`; the answer carries
the request's number; a task that was submitted reports by itself when it is done.
"""

import dataclasses
import json
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import work

from pool_client import Pool

MARK = "\x1e"


class Agent:
    """Holds a pool, and the tasks that a test submitted."""

    pool: Pool

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._load: Load | None = None

    def tell(self, **fields: object) -> None:
        """Write a line."""
        line = json.dumps(fields, default=plain)
        with self._lock:
            # In one write, as the pool prints too, from a thread of its own.
            sys.stdout.write(f"\n{MARK}{line}\n")
            sys.stdout.flush()

    def create(self, **options: Any) -> str:
        """Make the pool."""
        self.pool = Pool(**options)
        return repr(self.pool)

    def submit(self, task: int, function: str, arguments: list[Any], options: Any) -> None:
        """Submit a function of `work`, or what an expression of Python gives."""
        call = getattr(work, function, None) or eval(function, {"os": os})
        pool = self.pool.options(**options) if options else self.pool
        future = pool.submit(call, *arguments)
        future.add_done_callback(lambda done: self.tell(task=task, **outcome(done)))

    def map(self, count: int, function: str, arguments: list[Any], gate: str = "") -> Any:
        """Map a function over numbers; counts of who did how many, and of wrong results.

        With a gate, half of the numbers wait until there is a file of that name.
        """
        inputs = ((number, *arguments) for number in gated(count, gate))
        by_worker: Counter[str] = Counter()
        wrong = -count
        results = self.pool.map(getattr(work, function), inputs, star=True)
        for number, (index, node, pid, *_) in enumerate(results):
            by_worker[f"{node} {pid}"] += 1
            wrong += 1 + (index != number)
        return {"by_worker": by_worker, "wrong": wrong}

    def load(self, width: int, log: str, seconds: float) -> None:
        """Keep so many tasks under way until `stop_load`."""
        self._load = Load(self.pool, width, log, seconds)

    def progress(self) -> Any:
        """Say how the load is going."""
        assert self._load is not None
        return self._load.summary()

    def stop_load(self) -> Any:
        """Submit nothing more, wait for what is under way, and sum up."""
        assert self._load is not None
        self._load.stop()
        return self._load.summary()

    def call(self, name: str, arguments: list[Any], **options: Any) -> Any:
        """Call a method of the pool."""
        return getattr(self.pool, name)(*arguments, **options)

    def on_all(self, function: str) -> Any:
        """Run a function of `work` on every worker."""
        return self.pool.run_on_all(getattr(work, function))

    def describe(self) -> str:
        """Give the pool's repr."""
        return repr(self.pool)


def gated(count: int, gate: str) -> Iterator[int]:
    """Count; half of the way wait for a file, if one is named."""
    for number in range(count):
        while gate and number == count // 2 and not Path(gate).exists():
            time.sleep(0.02)
        yield number


class Load:
    """A steady stream of tasks, of which each notes on its host that it ran."""

    def __init__(self, pool: Pool, width: int, log: str, seconds: float) -> None:
        self._pool = pool
        self._arguments = (log, seconds)
        self._state = threading.Condition()
        self._stopped = False
        self._next = 0
        self._pending = 0
        self._wrong = 0
        self._errors: Counter[str] = Counter()
        self._by_node: Counter[str] = Counter()
        for _ in range(width):
            self._submit()

    def _submit(self) -> None:
        with self._state:
            index, self._next = self._next, self._next + 1
            self._pending += 1
        future = self._pool.submit(work.unit, index, *self._arguments)
        future.add_done_callback(lambda done: self._done(index, done))

    def _done(self, index: int, future: "Future[Any]") -> None:
        with self._state:
            self._pending -= 1
            if error := future.exception():
                self._errors[f"{type(error).__name__}: {error}"] += 1
            else:
                answer, node, _ = future.result()
                self._by_node[node] += 1
                self._wrong += answer != index
            self._state.notify_all()
            stopped = self._stopped or bool(error)
        if not stopped:
            self._submit()

    def stop(self) -> None:
        """Wait for what is under way."""
        with self._state:
            self._stopped = True
            self._state.wait_for(lambda: not self._pending, timeout=120)

    def summary(self) -> dict[str, Any]:
        """Count what was submitted, what came back, and from where."""
        with self._state:
            return {
                "submitted": self._next,
                "pending": self._pending,
                "wrong": self._wrong,
                "errors": self._errors,
                "by_node": self._by_node,
            }


def plain(value: object) -> object:
    """Make JSON of what it does not know."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return repr(value)


def failure(error: BaseException) -> dict[str, Any]:
    """Describe an error."""
    names = [kind.__name__ for kind in type(error).__mro__]
    return {"error": names, "text": str(error)}


def outcome(future: "Future[Any]") -> dict[str, Any]:
    """Describe how a future ended."""
    if error := future.exception():
        return failure(error)
    return {"value": future.result()}


def main() -> None:
    """Serve requests until there are no more."""
    logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
    agent = Agent()
    agent.tell(pid=os.getpid())
    for line in sys.stdin:
        request = json.loads(line)
        number, name = request.pop("number"), request.pop("do")
        try:
            answer: dict[str, Any] = {"value": getattr(agent, name)(**request)}
        except Exception as error:
            answer = failure(error)
        agent.tell(number=number, **answer)
    if hasattr(agent, "pool"):
        agent.pool.shutdown(cancel_futures=True)
    agent.tell(over=True)


if __name__ == "__main__":
    main()
