"""The functions that the interface tests run in workers.

They are in a module of their own, so that a worker that imports them does not import pytest.
Tasks wait for files, never for a length of time: a test decides what happens before what.
"""

import asyncio
import os
import time
from collections.abc import Iterable
from typing import Any

#: Seconds after which a task that nobody releases gives up.
LIMIT = 30.0
#: What an initializer leaves in its worker.
settings: dict[str, Any] = {}


class Oops(Exception):
    """An exception of the user's own."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Account:
    """Something with methods and state."""

    def __init__(self, balance: int) -> None:
        self.balance = balance

    def plus(self, amount: int) -> int:
        """Return the balance after a deposit."""
        return self.balance + amount

    def __call__(self, amount: int) -> int:
        return self.balance - amount

    @classmethod
    def name(cls) -> str:
        """Return the name of the class."""
        return cls.__name__

    @staticmethod
    def double(amount: int) -> int:
        """Return twice the amount."""
        return 2 * amount


def add(first: Any, second: Any = 0) -> Any:
    """Return the sum of both."""
    return first + second


def echo(value: Any) -> Any:
    """Return what came."""
    return value


def square(number: int) -> int:
    """Return the number times itself."""
    return number * number


def keywords(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return what the function was called with."""
    return args, kwargs


def apply(func: Any, *args: Any) -> Any:
    """Call *func*, which came as an argument."""
    return func(*args)


def pid(_: Any = None) -> int:
    """Return the process id of the worker."""
    return os.getpid()


def fail(number: int) -> int:
    """Raise an exception that carries the number."""
    raise Oops(number)


def fail_on(number: int, bad: int = 3) -> int:
    """Return the number, or raise where it is the bad one."""
    if number == bad:
        raise Oops(number)
    return number


def die(_: Any = None) -> None:
    """End the worker as a crash does."""
    os._exit(11)


def note(path: str, text: object = "") -> None:
    """Append a line to a file, in one write."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


def note_and_die(path: str) -> None:
    """Append a line to a file and crash."""
    note(path, os.getpid())
    os._exit(11)


def noted(path: Any) -> list[str]:
    """Return the lines that `note` wrote."""
    try:
        with open(path) as file:
            return file.read().split("\n")[:-1]
    except FileNotFoundError:
        return []


def pass_gate(gate: str, value: Any = None, arrived: str | None = None) -> Any:
    """Wait until the file *gate* exists, then return *value*; make the file *arrived* first."""
    if arrived is not None:
        note(arrived, os.getpid())
    deadline = time.monotonic() + LIMIT
    while not os.path.exists(gate):
        if time.monotonic() > deadline:
            raise RuntimeError(f"nobody opened the gate {gate}")
        time.sleep(0.002)
    return value


async def pass_gate_async(gate: str, value: Any = None, arrived: str | None = None) -> Any:
    """Do as `pass_gate`, on the worker's event loop."""
    if arrived is not None:
        note(arrived, os.getpid())
    deadline = time.monotonic() + LIMIT
    while not os.path.exists(gate):
        if time.monotonic() > deadline:
            raise RuntimeError(f"nobody opened the gate {gate}")
        await asyncio.sleep(0.002)
    return value


def meet(directory: str, count: int, name: object = None) -> int:
    """Wait until *count* callers have come to the directory, and return this one's process id."""
    note(os.path.join(directory, f"here-{os.getpid() if name is None else name}"))
    deadline = time.monotonic() + LIMIT
    while sum(entry.startswith("here-") for entry in os.listdir(directory)) < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"fewer than {count} met in {directory}")
        time.sleep(0.002)
    return os.getpid()


def pass_if(number: int, held: Iterable[int], gate: str) -> int:
    """Return the number; those in *held* wait for the gate."""
    return pass_gate(gate, number) if number in held else number


def remember(key: str, value: Any) -> None:
    """Be an initializer: leave a value in the worker, and count how often that was done."""
    settings[key] = value
    settings["times"] = settings.get("times", 0) + 1


def recall(key: str) -> Any:
    """Return what the initializer left."""
    return settings.get(key)


def broken_initializer() -> None:
    """Fail, as an initializer."""
    raise Oops(77)


async def aadd(first: Any, second: Any = 0) -> Any:
    """Return the sum, asynchronously."""
    await asyncio.sleep(0)
    return first + second


async def asleep(seconds: float, value: Any) -> Any:
    """Return the value after a sleep on the worker's event loop."""
    await asyncio.sleep(seconds)
    return value


async def afail(number: int) -> None:
    """Raise after a sleep on the worker's event loop."""
    await asyncio.sleep(0.001)
    raise Oops(number)


async def note_cancelled(started: str, path: str) -> None:
    """Sleep until cancelled, and note that it happened."""
    note(started)
    try:
        await asyncio.sleep(LIMIT)
    except asyncio.CancelledError:
        note(path, "cancelled")
        raise


async def loop_module() -> str:
    """Return the module of the class of the worker's event loop."""
    return type(asyncio.get_running_loop()).__module__


def run_a_loop(seconds: float, value: Any) -> Any:
    """Run an event loop of its own, as a synchronous task may."""
    return asyncio.run(asleep(seconds, value))


def future_like(value: Any) -> Any:
    """Return an awaitable without being a coroutine function."""
    return asleep(0.001, value)


def environment() -> dict[str, str]:
    """Return the environment that the worker sees."""
    return dict(os.environ)


def pool_in_task(count: int) -> list[int]:
    """Use a pool inside a task."""
    from pool_client import Pool

    with Pool(1) as inner:
        return list(inner.map(abs, range(-count, 0)))
