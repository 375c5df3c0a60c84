"""What the tests of pool-client share: bounded waiting, looking at processes, running scripts."""

import contextlib
import errno
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

#: The environment variable that marks every process which a test started, directly or not.
MARK = "POOL_TEST_MARK"
PROC = Path("/proc")

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T], timeout: float = 30.0, what: str = "", interval: float = 0.01
) -> T:
    """Call *condition* until it returns something true, and return that.

    *timeout* and *interval* are in seconds. Raises ``AssertionError``, naming *what* was awaited.
    """
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            name = what or getattr(condition, "__name__", repr(condition))
            raise AssertionError(f"waited {timeout:g} s in vain for: {name}")
        time.sleep(interval)
    return value


# Processes


#: How much of a command line a message shows.
_SHOWN = 200


@dataclass(frozen=True)
class Process:
    """One row of /proc."""

    pid: int
    parent: int
    state: str
    started: str
    command: str

    def __str__(self) -> str:
        command = self.command[:_SHOWN]
        return f"process {self.pid} (parent {self.parent}, state {self.state}): {command}"


def look_at(pid: int) -> Process | None:
    """Return what /proc says about *pid*, or None where there is no such process."""
    row = _row(pid)
    try:
        command = _read(pid, "cmdline")
    except OSError:
        return None
    if row is None:
        return None
    shown = command.replace(b"\0", b" ").decode(errors="replace").strip() or f"[{row.name}]"
    return Process(pid, row.parent, row.state, row.started, shown)


class _Row(NamedTuple):
    name: str
    state: str
    parent: int
    kernel: bool
    started: str


#: The flag of the kernel's own threads.
_PF_KTHREAD = 0x00200000


def _row(pid: int) -> _Row | None:
    try:
        text = _read(pid, "stat").decode(errors="replace")
    except OSError:
        return None
    name, _, rest = text.partition("(")[2].rpartition(")")
    fields = rest.split(maxsplit=20)
    return _Row(name, fields[0], int(fields[1]), bool(int(fields[6]) & _PF_KTHREAD), fields[19])


def _read(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
        return file.read()


def is_alive(pid: int) -> bool:
    """Tell whether *pid* runs (a zombie does not)."""
    process = look_at(pid)
    return process is not None and process.state not in "ZX"


def kill(pid: int) -> None:
    """Send SIGKILL, if the process is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _numbers() -> dict[int, int]:
    """Return the number of each process's folder in /proc, which no later process gets."""
    if not PROC.is_dir():
        return {}
    with os.scandir(PROC) as entries:
        return {int(entry.name): entry.inode() for entry in entries if entry.name.isdigit()}


def _rows(pids: Iterable[int]) -> dict[int, _Row]:
    """Return what there is of these processes."""
    return {pid: row for pid in pids if (row := _row(pid)) is not None}


def _family(pid: int, rows: Mapping[int, _Row]) -> set[int]:
    """Return the children of *pid*, their children, and so on."""
    children: dict[int, list[int]] = {}
    for child, row in rows.items():
        children.setdefault(row.parent, []).append(child)
    found: set[int] = set()
    todo = [pid]
    while todo:
        new = [one for one in children.get(todo.pop(), ()) if one not in found]
        found.update(new)
        todo += new
    return found - {pid}


def _environment(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        if found := _read(pid, "environ"):
            return b"\0" + found
    return b""


def _looked_at(pids: Iterable[int]) -> list[Process]:
    return [process for process in map(look_at, pids) if process is not None]


def descendants(pid: int) -> list[Process]:
    """Return the children of *pid*, their children, and so on."""
    return _looked_at(_family(pid, _rows(_numbers())))


def _wanted(mark: str) -> bytes:
    return f"\0{MARK}={mark}".encode()


def marked_processes(mark: str | None = None) -> list[Process]:
    """Return the processes whose mark begins with *mark* (default: this run's), this one not."""
    wanted = _wanted(mark or os.environ.get(MARK, ""))
    found = [pid for pid in _numbers() if wanted in _environment(pid)]
    return _looked_at(pid for pid in found if pid != os.getpid())


#: Processes that are none of ours and never will be, by pid and number.
_strangers: set[tuple[int, int]] = set()


def our_processes() -> dict[int, Process]:
    """Return every process that descends from this one, orphans included.

    It is asked twice for each of thousands of tests, so that a stranger is looked at only once.
    """
    numbers = _numbers()
    numbers.pop(os.getpid(), None)
    _strangers.intersection_update(numbers.items())
    rows = _rows(pid for pid, number in numbers.items() if (pid, number) not in _strangers)
    ours = _family(os.getpid(), rows)
    wanted = _wanted(os.environ.get(MARK, ""))
    for pid in rows.keys() - ours:
        environment = _environment(pid)
        if wanted in environment:
            ours.add(pid)
        # A process that is about to run a program has none for a moment.
        elif environment or rows[pid].kernel:
            _strangers.add((pid, numbers[pid]))
    return {process.pid: process for process in _looked_at(ours)}


def resident_bytes(pid: int | None = None) -> int:
    """Return the resident memory of *pid* (default: this process) in bytes."""
    pages = (PROC / str(pid or os.getpid()) / "statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


# The leak check


@dataclass(frozen=True)
class Snapshot:
    """What there is at one moment of the things that a pool must not leave behind."""

    processes: frozenset[Process]
    threads: frozenset[threading.Thread]
    descriptors: frozenset[tuple[int, str]]
    files: frozenset[str]

    @classmethod
    def take(cls) -> "Snapshot":
        """Look at this process, its descendants and its temporary directory."""
        return cls(
            frozenset(our_processes().values()),
            frozenset(threading.enumerate()),
            frozenset(open_descriptors()),
            frozenset(temporary_files()),
        )

    def beyond(self, before: "Snapshot") -> list[str]:
        """Return one line for each thing that is here and was not there *before*."""
        known = {(process.pid, process.started) for process in before.processes}
        left = [str(one) for one in self.processes if (one.pid, one.started) not in known]
        for thread in self.threads - before.threads:
            if thread.is_alive() and not thread.name.startswith("pytest_timeout"):
                left.append(f"thread {thread.name!r}")
        for number, target in sorted(self.descriptors - before.descriptors):
            left.append(f"descriptor {number}: {target}")
        left.extend(f"temporary file {name}" for name in sorted(self.files - before.files))
        return left


def open_descriptors() -> set[tuple[int, str]]:
    """Return the descriptors of this process with what they refer to."""
    found = set()
    directory = PROC / "self" / "fd"
    if directory.is_dir():
        for name in os.listdir(directory):
            with contextlib.suppress(OSError):
                found.add((int(name), os.readlink(directory / name)))
    return found


def temporary_files() -> set[str]:
    """Return the entries of the temporary directory, those of pytest left out."""
    names = os.listdir(tempfile.gettempdir())
    return {name for name in names if not name.startswith("pytest-of-")}


def end_leftovers(before: Snapshot) -> None:
    """Kill what a test left running, so that the next test starts clean."""
    known = {(process.pid, process.started) for process in before.processes}
    for process in our_processes().values():
        if (process.pid, process.started) not in known:
            with contextlib.suppress(OSError):
                os.kill(process.pid, signal.SIGKILL)


# Pools


@contextlib.contextmanager
def running_pool(*args: Any, works_after: bool = True, **kwargs: Any) -> Iterator[Any]:
    """Yield ``Pool(*args, **kwargs)``, check at the end that it still works, and shut it down.

    If the block raises, the workers are killed, so that a failed test does not wait for its tasks.
    """
    from pool_client import Pool

    pool = Pool(*args, **kwargs)
    try:
        yield pool
        if works_after:
            assert_works(pool)
    except BaseException:
        pool.kill_workers()
        raise
    finally:
        pool.shutdown(wait=True)


def assert_works(pool: Any, tasks: int = 20) -> None:
    """Check that *pool* still computes, task by task and mapped."""
    futures = [pool.submit(abs, -number) for number in range(tasks)]
    assert [future.result(30) for future in futures] == list(range(tasks))
    assert list(pool.map(abs, range(-tasks, 0), timeout=30)) == list(range(tasks, 0, -1))


def be_patient(pool: Any, seconds: float) -> None:
    """Let *pool* wait so long for a host out of reach; its creation may have taken longer."""
    fleet = pool._core.engine.fleet
    fleet.options = replace(fleet.options, connect_timeout=seconds)


def wait_for_others(pool: Any, *pids: int) -> None:
    """Wait until *pool* is whole again without these workers."""
    # In this order: it is not ready any more when it does not have them any more.
    wait_until(lambda: not set(pids) & set(worker_pids(pool)), what="the old workers to be gone")
    wait_until(pool.is_ready, what="the new workers")


def end_creation_when(patch: Any, condition: Callable[[Any], object]) -> None:
    """Let the time for the creation of pools be over as soon as a condition of the fleet holds."""
    from pool_client.hosts.creation import Creation

    def start(creation: Creation) -> None:
        fleet = creation._fleet

        def look() -> None:
            if creation.done:
                return
            if condition(fleet):
                creation._timed_out()
            else:
                fleet.engine.loop.call_later(0.01, look)

        fleet.engine.loop.call_soon(look)

    patch.setattr(Creation, "start", start)


@contextlib.contextmanager
def unnoticed_interrupt() -> Iterator[None]:
    """Have another thread receive a SIGINT once this one, the main one, waits for a lock.

    The wait goes on, and Python handles the signal after it. That has to be soon.
    """
    main = threading.main_thread().ident
    assert main is not None
    begun, over = threading.Event(), threading.Event()
    late: list[None] = []

    def interrupt() -> None:
        begun.wait()
        wait_until(lambda: sys._current_frames()[main].f_code.co_name == "wait")
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        if not over.wait(60):
            late.append(None)
            signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        begun.set()
        yield
    finally:
        over.set()
        thread.join()
    assert not late, "the signal was seen only when another came"


def worker_pids(pool: Any) -> list[int]:
    """Return the process ids of the workers of *pool*."""
    return [worker.pid for worker in pool.workers()]


def supervisor_pids(pool: Any) -> list[int]:
    """Return the process ids of those who watch the workers of *pool*; an orphan has none."""
    workers = [worker for worker in map(look_at, worker_pids(pool)) if worker is not None]
    parents = [parent for worker in workers if (parent := look_at(worker.parent)) is not None]
    return sorted({parent.pid for parent in parents if "--launch" in parent.command})


# Scripts


def with_tests_on_path() -> str:
    """Return a PYTHONPATH with which a script can import this module and what lies beside it."""
    here = str(Path(__file__).resolve().parent)
    return os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))


@contextlib.contextmanager
def started_script(
    source: str,
    *args: object,
    as_file: Path | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    options: Sequence[str] = (),
    **popen: Any,
) -> Iterator["subprocess.Popen[str]"]:
    """Start Python on *source*, with ``python -c`` or written to the path *as_file*.

    It leads a session of its own; what is left of that process group is killed at the end. The
    folder of this module is on its path.
    """
    source = textwrap.dedent(source)
    command = [sys.executable, "-X", "faulthandler", *options]
    if as_file is None:
        command += ["-c", source]
    else:
        as_file.write_text(source)
        command += [str(as_file)]
    settings: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        "cwd": cwd,
        "env": {**os.environ, "PYTHONPATH": with_tests_on_path(), **(env or {})},
        "start_new_session": True,
    }
    process = subprocess.Popen([*command, *map(str, args)], **{**settings, **popen})
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()
        process.wait()


def run_script(
    source: str, *args: object, timeout: float = 80.0, code: int | None = 0, **kwargs: Any
) -> "subprocess.CompletedProcess[str]":
    """Run Python on *source* to its end and return its output.

    *timeout* is in seconds; after it the process is made to dump its stacks. *code* is the exit
    code that is asserted (None: any). Other arguments are those of `started_script`.
    """
    with started_script(source, *args, **kwargs) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # faulthandler prints the stacks
            try:
                output, errors = process.communicate(timeout=15)
            except subprocess.TimeoutExpired:  # some other process keeps the pipes open
                output, errors = "", "(its output could not be read to the end)"
            raise AssertionError(
                f"the script did not end within {timeout:g} s\n{output}\n{errors}"
            ) from None
    if code is not None and process.returncode != code:
        raise AssertionError(
            f"the script ended with {process.returncode}, not {code}\n{output}\n{errors}"
        )
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


class Terminal:
    """A Python script that runs on a terminal of its own, where Ctrl-C can be pressed.

    Use it as a context manager. At the end, what is left of the script is killed.
    """

    def __init__(self, source: str, path: Path, *args: object) -> None:
        path.write_text(textwrap.dedent(source))
        command = [sys.executable, "-X", "faulthandler", "-u", str(path), *map(str, args)]
        self.output = ""
        self.exitcode: int | None = None
        self.pid, self._screen = pty.fork()
        if self.pid == 0:
            try:
                environment = {**os.environ, "PYTHONPATH": with_tests_on_path()}
                os.execve(sys.executable, command, environment)
            finally:
                os._exit(127)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.exitcode is None:
            for process in [*descendants(self.pid), look_at(self.pid)]:
                if process is not None:
                    with contextlib.suppress(OSError):
                        os.kill(process.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._screen)

    def press_ctrl_c(self) -> None:
        """Send SIGINT to the terminal's foreground processes, as the kernel does for a key."""
        os.write(self._screen, b"\x03")

    def _read(self, timeout: float) -> bool:
        """Take what was printed within *timeout* seconds; return False at the end of the output."""
        if not select.select([self._screen], [], [], timeout)[0]:
            return True
        try:
            data = os.read(self._screen, 65536)
        except OSError as error:
            if error.errno != errno.EIO:  # Linux says so when the last process has closed its end
                raise
            return False
        self.output += data.decode(errors="replace")
        return bool(data)

    def wait_for(self, text: str, timeout: float = 60.0) -> None:
        """Read until *text* was printed."""
        deadline = time.monotonic() + timeout
        while text not in self.output:
            more = self._read(0.1)
            if text not in self.output and (not more or time.monotonic() > deadline):
                raise AssertionError(f"{text!r} was not printed:\n{self.output}")

    def wait(self, timeout: float = 60.0) -> int:
        """Wait for the script to end, reading what it prints, and return its exit code."""
        deadline = time.monotonic() + timeout
        reading = True
        while self.exitcode is None:
            reading = self._read(0.05) if reading else bool(time.sleep(0.05))
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.exitcode = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                raise AssertionError(f"the script did not end:\n{self.output}")
        while reading and select.select([self._screen], [], [], 0)[0]:
            reading = self._read(0)
        return self.exitcode
