"""What the fault tests run in workers. It imports little: each of many workers imports it.

Tasks keep their records outside the pool: in a file, to which each appends lines.
"""

import collections
import contextlib
import gc
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

# Records outside the pool


def note(log: str, text: object) -> None:
    """Append one line to the file *log*, in one write."""
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, f"{text}\n".encode())
    finally:
        os.close(handle)


def noted(log: str) -> list[str]:
    """Return the lines of *log*, none where there is no such file."""
    try:
        with open(log) as lines:
            return lines.read().splitlines()
    except FileNotFoundError:
        return []


def runs(log: str) -> collections.Counter[str]:
    """Return how often each line occurs in *log*."""
    return collections.Counter(noted(log))


# Good tasks


def double(number: int) -> int:
    return 2 * number


def double_noted(log: str, number: int) -> int:
    note(log, number)
    return 2 * number


def double_slowly(log: str, number: int, seconds: float) -> int:
    note(log, number)
    time.sleep(seconds)
    return 2 * number


def get_pid(_: object = None) -> int:
    return os.getpid()


def get_parent_pid() -> int:
    """Return the process id of the supervisor of the worker."""
    return os.getppid()


def sleep_for_pid(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def await_file(started: str, gate: str, value: Any = None) -> Any:
    """Note this worker's pid in *started*, wait for the file *gate*, return *value*."""
    note(started, os.getpid())
    while not os.path.exists(gate):
        time.sleep(0.005)
    return value


def await_or_make(path: str | None, make: str | None = None) -> str:
    """Wait until *path* exists, then make the file *make*."""
    while path is not None and not os.path.exists(path):
        time.sleep(0.002)
    if make is not None:
        note(make, "made")
    return "done"


async def sleep_async(seconds: float, value: Any = None) -> Any:
    import asyncio

    await asyncio.sleep(seconds)
    return value


async def sleep_until_cancelled(log: str) -> None:
    import asyncio

    note(log, "started")
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        note(log, "cancelled")
        raise


def zeros(size: int) -> bytes:
    return bytes(size)


def size_of(data: bytes) -> int:
    return len(data)


def same_slowly(value: Any) -> Any:
    time.sleep(0.02)
    return value


def same(value: Any) -> Any:
    return value


# Deaths


def end_by_signal(number: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)
    time.sleep(30)


def end_by_fault() -> None:
    import faulthandler

    faulthandler._sigsegv()  # type: ignore[attr-defined]


def end_by_exit(code: int) -> None:
    sys.stdout.flush()
    os._exit(code)


def end_by_abort() -> None:
    os.abort()


DEATHS: dict[str, tuple[Callable[..., None], tuple[int, ...], int]] = {
    "sigkill": (end_by_signal, (signal.SIGKILL,), -signal.SIGKILL),
    "sigterm": (end_by_signal, (signal.SIGTERM,), -signal.SIGTERM),
    "segfault": (end_by_fault, (), -signal.SIGSEGV),
    "abort": (end_by_abort, (), -signal.SIGABRT),
    "exit 7": (end_by_exit, (7,), 7),
    "exit 0": (end_by_exit, (0,), 0),
}


def die(log: str, how: str) -> None:
    """Note this worker's pid, then end the worker."""
    note(log, os.getpid())
    function, args, _ = DEATHS[how]
    function(*args)


def die_at_first(log: str, times: int, how: str = "sigkill", value: Any = "alive") -> Any:
    """End the worker the first *times* times, then return *value*."""
    note(log, os.getpid())
    if len(noted(log)) <= times:
        function, args, _ = DEATHS[how]
        function(*args)
    return value


def double_or_die(log: str, number: int, bad: int) -> int:
    """Note the item, then return its double; for the *bad* one, end the worker."""
    note(log, number)
    if number == bad:
        end_by_signal()
    return 2 * number


def die_while_answering(log: str, size: int, delay: float, times: int) -> bytes:
    """Return *size* bytes, and the first *times* times be killed *delay* seconds later."""
    note(log, os.getpid())
    if len(noted(log)) <= times:
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return bytes(size)


def kill_one_of(pids: str, log: str, number: int) -> int:
    """Kill the next worker of the file *pids*, unless this is the one, and return a double."""
    note(log, number)
    everyone = [int(pid) for pid in noted(pids)]
    victim = everyone[number % len(everyone)]
    if number % 3 == 0 and victim != os.getpid():
        with contextlib.suppress(OSError):
            # Its number may be somebody else's by now.
            with open(f"/proc/{victim}/stat") as stat:
                parent = int(stat.read().rpartition(")")[2].split()[1])
            if parent == os.getppid():
                os.kill(victim, signal.SIGKILL)
    return 2 * number


# Tasks that do not end


def spin_in_python(log: str) -> None:
    note(log, os.getpid())
    while True:
        pass


def spin_in_c(log: str) -> None:
    """Run for ever inside one C call, which keeps the GIL and looks at no signal."""
    note(log, os.getpid())
    collections.deque(itertools.repeat(None), maxlen=0)


def lock_twice(log: str) -> None:
    note(log, os.getpid())
    lock = threading.Lock()
    with lock, lock:
        pass


def stop_oneself(log: str) -> None:
    note(log, os.getpid())
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(600)


async def never_finish(log: str) -> None:
    import asyncio

    note(log, os.getpid())
    await asyncio.sleep(600)


def ignore_everything(log: str) -> None:
    """Run for ever and ignore the signals that can be ignored."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    note(log, os.getpid())
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(600)


ENDLESS = {
    "python loop": spin_in_python,
    "C loop": spin_in_c,
    "deadlock": lock_twice,
    "stopped": stop_oneself,
    "async": never_finish,
    "ignores signals": ignore_everything,
}


def double_or_hang(log: str, number: int, bad: int) -> int:
    note(log, number)
    if number == bad:
        time.sleep(600)
    return 2 * number


# Tasks that leave or damage something


def exhaust_memory(headroom: int) -> None:
    """Ask for more memory than this process may have: an ordinary MemoryError."""
    import resource

    old = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + headroom, old[1]))
    try:
        bytearray(4 * headroom)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, old)


def close_standard_streams() -> int:
    for descriptor in (0, 1, 2):
        with contextlib.suppress(OSError):
            os.close(descriptor)
    return os.getpid()


def print_much(size: int) -> int:
    line = "x" * 99 + "\n"
    for _ in range(size // len(line)):
        with contextlib.suppress(OSError, ValueError):
            os.write(1, line.encode())
    return os.getpid()


def read_standard_input() -> bytes:
    return os.read(0, 100)


def leave_child(new_session: bool = False) -> int:
    """Start a process that nobody waits for, and return its pid."""
    import subprocess

    nothing = subprocess.DEVNULL
    return subprocess.Popen(
        ["sleep", "1000"], stdout=nothing, stderr=nothing, start_new_session=new_session
    ).pid


def leave_grandchild() -> int:
    """Start a daemon in the old way: its parent ends at once, so it is an orphan."""
    import subprocess

    code = (
        "import subprocess; nothing = subprocess.DEVNULL; "
        "print(subprocess.Popen(['sleep', '1000'], stdout=nothing, stderr=nothing,"
        " start_new_session=True).pid)"
    )
    return int(subprocess.check_output([sys.executable, "-S", "-c", code]))


def leave_thread() -> int:
    threading.Thread(target=time.sleep, args=(1000,)).start()
    return os.getpid()


def leave_child_and_spin(log: str) -> None:
    note(log, leave_child())
    spin_in_c(log)


def leave_child_and_die(log: str) -> None:
    note(log, leave_child())
    end_by_signal()


def exit_politely(code: object) -> None:
    sys.exit(code)  # type: ignore[arg-type]


async def exit_politely_async(code: int) -> None:
    import asyncio

    await asyncio.sleep(0)
    sys.exit(code)


# Objects that cannot be pickled, or misbehave when they are


class Boom(Exception):
    """An ordinary exception."""


def overwrite_page() -> None:
    """Write where this process has no business, and die of that."""
    from pool_worker.page import AREA, END, Page

    [page] = [found for found in gc.get_objects() if isinstance(found, Page)]
    page.map[AREA : AREA + 500] = b"\xff" * 500
    page.words[END] = AREA + 500
    end_by_signal()


class Mute(Exception):
    """Does not say what it is, in whatever way it is asked."""

    def __str__(self) -> str:
        raise ValueError("no text today")

    __repr__ = __str__


def raise_boom(text: str = "") -> None:
    raise Boom(text)


def misbehave(how: str) -> str:
    """Crash, exit, raise an error, or one that does not say what it is."""
    if how == "crash":
        end_by_signal()
    elif how == "exit":
        sys.exit(5)
    elif how == "error":
        raise Boom("misbehaved")
    elif how == "mute":
        raise Mute
    return how


class AtPickling:
    """Misbehaves in the process that pickles it."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> tuple[Any, ...]:
        misbehave(self.how)
        return (str, ("never",))


class AtUnpickling:
    """Misbehaves in the process that unpickles it."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> tuple[Any, ...]:
        return (misbehave, (self.how,))


def make_at_pickling(how: str) -> AtPickling:
    return AtPickling(how)


def make_at_unpickling(how: str) -> AtUnpickling:
    return AtUnpickling(how)


def make_lock() -> Any:
    return threading.Lock()


def make_generator() -> Iterator[int]:
    yield 1


def make_frame() -> Any:
    return sys._getframe()


def nest(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


class Attributed(Exception):
    """Survives pickling, with its attribute."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.detail = {"why": text}


class TwoArguments(Exception):
    """Cannot be rebuilt from its args, which are one text."""

    def __init__(self, left: str, right: str) -> None:
        super().__init__(f"{left} and {right}")


class BadReduce(Exception):
    """Fails while it is pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise ValueError("no reduction today")


class BadText(Exception):
    """Fails when it is printed."""

    def __str__(self) -> str:
        raise ValueError("no text today")


class HoldsLock(Exception):
    """Carries what cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class FailsToRebuild(Exception):
    """Fails while it is unpickled, in whatever process."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (misbehave, ("error",))


class FailsElsewhere(Exception):
    """Survives in the process that raises it, and misbehaves while it is unpickled in another."""

    def __init__(self, how: str, home: int) -> None:
        super().__init__(how)
        self.how = how
        self.home = home

    def __reduce__(self) -> tuple[Any, ...]:
        return (fail_elsewhere, (self.how, self.home))


def fail_elsewhere(how: str, home: int) -> FailsElsewhere:
    if os.getpid() != home:
        misbehave(how)
    return FailsElsewhere(how, home)


def raise_for_others(how: str) -> None:
    raise FailsElsewhere(how, os.getpid())


def raise_this(kind: str) -> None:
    """Raise one of the troublesome exceptions."""
    import asyncio

    raise {
        "attributed": lambda: Attributed("deep"),
        "two arguments": lambda: TwoArguments("this", "that"),
        "bad reduce": lambda: BadReduce("reduced"),
        "bad text": lambda: BadText("unprintable"),
        "lock": lambda: HoldsLock("locked"),
        "fails to rebuild": lambda: FailsToRebuild("rebuilt"),
        "local class": lambda: type("Local", (Exception,), {})("unfindable"),
        "KeyboardInterrupt": lambda: KeyboardInterrupt("pressed"),
        "GeneratorExit": lambda: GeneratorExit("closed"),
        "StopIteration": lambda: StopIteration("stopped"),
        "CancelledError": lambda: asyncio.CancelledError("not by the user"),
    }[kind]()


# Initializers


def fail_to_start(how: str) -> None:
    """An initializer that does not succeed."""
    if how == "raises":
        raise Boom("boom in the initializer")
    if how == "exits":
        os._exit(3)
    if how == "sys.exit":
        sys.exit(4)
    if how == "is killed":
        end_by_signal()
    if how == "hangs":
        time.sleep(600)


def fail_if_exists(path: str, log: str) -> None:
    """An initializer that fails as long as the file *path* is there."""
    note(log, os.getpid())
    if os.path.exists(path):
        raise Boom("boom in a replacement")


def fail_if_exists_once(path: str, log: str) -> None:
    """An initializer that fails if the file *path* is there, and removes it."""
    note(log, os.getpid())
    if os.path.exists(path):
        os.unlink(path)
        raise Boom("boom in a replacement")


def nested_pool(numbers: list[int]) -> list[int]:
    """Use a pool inside a task."""
    from pool_client import Pool

    with Pool(2) as pool:
        return list(pool.map(double, numbers))
