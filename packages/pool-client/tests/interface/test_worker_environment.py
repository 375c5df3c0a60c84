"""What a task finds around it: directory, path, event loop, threads, and no secrets."""

import asyncio
import os
import re
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import interface_tasks as tasks
import pytest
from support import descendants, run_script

from pool_client import Pool

LIMITS = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"]


@pytest.fixture
def pool(shared: Any) -> Any:
    """Yield the pool of this file: these tests leave it as it is."""
    return shared


def test_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task runs in the client's working directory."""
    monkeypatch.chdir(tmp_path)
    with Pool(1) as pool:
        assert Path(pool.run(os.getcwd)).samefile(tmp_path)


def test_path(pool: Any) -> None:
    """A worker sees what the client has on its path."""
    seen = pool.run(eval, "__import__('sys').path")
    assert [entry for entry in sys.path if entry not in seen] == []


def test_module_on_the_path_at_run_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module found through ``sys.path`` as the program set it can be imported by a task."""
    (tmp_path / "found_at_run_time.py").write_text("def answer():\n    return 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    import found_at_run_time

    with Pool(1) as pool:
        assert pool.run(found_at_run_time.answer) == 42


def test_same_interpreter(pool: Any) -> None:
    """A local worker is of the client's own Python."""
    assert pool.run(eval, "__import__('sys').version") == sys.version
    assert pool.run(eval, "__import__('sys').prefix") == sys.prefix


def test_environment_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that the program set are there in a task."""
    monkeypatch.setenv("POOL_INTERFACE_TEST", "blue")
    with Pool(1) as pool:
        assert pool.run(os.environ.get, "POOL_INTERFACE_TEST") == "blue"


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_threads_of_libraries_are_a_fair_share(
    monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """The thread pools of numerical libraries together do not exceed the CPUs."""
    for name in LIMITS:
        monkeypatch.delenv(name, raising=False)
    cpus = len(os.sched_getaffinity(0))
    with Pool(workers) as pool:
        seen = pool.run(tasks.environment)
    for name in LIMITS[:3]:
        assert int(seen[name]) == max(1, cpus // workers)
        assert name not in os.environ


def test_threads_that_the_user_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user set is left alone."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with Pool(2) as pool:
        seen = pool.run(tasks.environment)
    assert seen["OMP_NUM_THREADS"] == "7"
    assert seen["MKL_NUM_THREADS"] != "7"


def test_a_worker_has_one_thread(pool: Any) -> None:
    """A worker is single-threaded, and runs tasks in its main thread."""
    assert pool.run(threading.active_count) == 1
    assert pool.run(eval, "(t := __import__('threading')).current_thread() is t.main_thread()")


def test_signals_are_as_in_a_fresh_process(pool: Any) -> None:
    """SIGTERM, SIGCHLD and SIGPIPE are as Python has them; only SIGINT is ignored."""
    assert pool.run(signal.getsignal, signal.SIGTERM) == signal.SIG_DFL
    assert pool.run(signal.getsignal, signal.SIGCHLD) == signal.SIG_DFL
    assert pool.run(signal.getsignal, signal.SIGINT) == signal.SIG_IGN


def test_child_processes_of_a_task(pool: Any) -> None:
    """A task may run programs, and learns how they ended."""
    import subprocess

    done = pool.run(subprocess.run, [sys.executable, "-c", "raise SystemExit(3)"])
    assert done.returncode == 3
    assert pool.run(os.system, "exit 5") >> 8 == 5


def test_multiprocessing_in_a_task(pool: Any) -> None:
    """A task may use `multiprocessing`: a worker is no daemon."""

    def work() -> int:
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(1) as inner:
            return int(inner.apply(abs, (-5,)))

    assert pool.run(work) == 5


def test_random_numbers_differ() -> None:
    """Workers that were forked from one process do not share their random numbers."""
    with Pool(3) as pool:
        assert len(set(pool.run_on_all(eval, "__import__('random').random()"))) == 3
        assert len(set(pool.run_on_all(os.urandom, 8))) == 3


def test_descriptors_are_few(pool: Any) -> None:
    """A worker inherits no descriptors of the program."""
    with open("/dev/zero") as held:
        os.set_inheritable(held.fileno(), True)
        with Pool(1) as other:
            targets = other.run(
                eval,
                "[__import__('os').readlink(f'/proc/self/fd/{n}')"
                " for n in (0, 1, 2, *range(3, 64))"
                " if __import__('os').path.islink(f'/proc/self/fd/{n}')]",
            )
    assert "/dev/zero" not in targets


def test_state_lasts_from_task_to_task(single: Any) -> None:
    """Tasks of one worker run in one process."""
    single.run(tasks.remember, "colour", "green")
    assert single.run(tasks.recall, "colour") == "green"


@pytest.mark.parametrize(("func", "expected"), [(tasks.asleep, 5), (tasks.run_a_loop, 5)])
def test_event_loops(pool: Any, func: Any, expected: int) -> None:
    """An async task sleeps on the worker's loop; a sync task may run a loop of its own."""
    assert pool.run(func, 0.01, 5) == expected


def test_kinds_of_tasks_alternate(single: Any) -> None:
    """Async tasks, sync tasks and loops of a task's own follow each other in one worker."""
    for number in range(5):
        assert single.run(tasks.asleep, 0.001, number) == number
        assert single.run(tasks.run_a_loop, 0.001, number) == number
        assert single.run(tasks.square, number) == number * number
        assert single.run(tasks.future_like, number) == number


def test_no_current_loop_in_a_sync_task(single: Any) -> None:
    """A sync task runs with no running loop, also after an async one."""

    def running() -> bool:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return False
        return True

    assert single.run(running) is False
    assert single.run(tasks.asleep, 0.001, 1) == 1
    assert single.run(running) is False


def test_background_task_of_an_async_task(single: Any) -> None:
    """What an async task starts on the worker's loop goes on while the worker waits."""

    async def start(path: str) -> None:
        async def later() -> None:
            await asyncio.sleep(0.01)
            tasks.note(path)

        background.add(asyncio.create_task(later()))

    background: set[Any] = set()
    import tempfile

    from support import wait_until

    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "notes")
        single.run(start, path)
        wait_until(lambda: tasks.noted(path))


def test_one_async_task_at_a_time(single: Any, tmp_path: Path) -> None:
    """A worker runs one task at a time, async ones included."""
    path = str(tmp_path / "notes")

    async def work(number: int) -> None:
        tasks.note(path, f"in {number}")
        await asyncio.sleep(0.01)
        tasks.note(path, f"out {number}")

    futures = [single.submit(work, n) for n in range(3)]
    for future in futures:
        future.result(30)
    assert tasks.noted(path) == ["in 0", "out 0", "in 1", "out 1", "in 2", "out 2"]


def test_async_tasks_in_two_workers_at_once(pool: Any, gate: Any) -> None:
    """Two workers run two async tasks at once."""
    from support import wait_until

    futures = [pool.submit(tasks.pass_gate_async, gate.path, n, gate.arrived) for n in range(2)]
    wait_until(lambda: gate.arrivals() == 2)
    gate.open()
    assert [future.result(30) for future in futures] == [0, 1]


TOKEN = re.compile(r"[0-9a-fA-F]{16,}|[A-Za-z0-9+_-]{32,}={0,2}")


def test_no_secrets_in_arguments() -> None:
    """No process of a pool shows anything like a token in its arguments."""
    with Pool(2) as pool:
        assert pool.run(abs, -1) == 1
        family = descendants(os.getpid())
        assert len(family) >= 3
        for process in family:
            command = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode().split("\0")
            shown = [word for word in command if not os.path.exists(word)]
            assert not [word for word in shown if TOKEN.search(word)], command


def test_no_secrets_in_the_environment(pool: Any) -> None:
    """A pool adds nothing to the environment but the limits of threads."""
    assert pool.run(abs, -1) == 1
    environments = [
        dict(
            entry.split("=", 1)
            for entry in Path(f"/proc/{process.pid}/environ").read_text().split("\0")
            if "=" in entry
        )
        for process in descendants(os.getpid())
    ]
    environments.append(pool.run(tasks.environment))
    for seen in environments:
        added = {name for name in seen if seen[name] != os.environ.get(name)}
        # These are of pytest, of readline, and of Python's own start.
        added -= {"PYTEST_CURRENT_TEST", "COLUMNS", "LINES", "LC_CTYPE"}
        assert {name for name in added if not name.endswith("_THREADS")} == set()


def test_environment_of_the_client_is_left_alone() -> None:
    """A pool changes nothing in the client's environment, directory and path."""
    script = """
        import os, sys
        before = dict(os.environ), os.getcwd(), list(sys.path)
        from pool_client import Pool
        with Pool(1) as pool:
            pool.run(abs, -1)
        print(before == (dict(os.environ), os.getcwd(), list(sys.path)))
    """
    assert run_script(script).stdout == "True\n"


def test_signal_handlers_of_the_client_are_left_alone() -> None:
    """A pool installs no signal handlers in the client."""
    script = """
        import signal
        before = {n: signal.getsignal(n) for n in signal.valid_signals()}
        from pool_client import Pool
        with Pool(1) as pool:
            pool.run(abs, -1)
            print(before == {n: signal.getsignal(n) for n in signal.valid_signals()})
    """
    assert run_script(script).stdout == "True\n"
