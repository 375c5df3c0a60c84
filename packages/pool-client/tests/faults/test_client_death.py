"""The client dies without a word: every process it started ends, and its files are swept."""

import os
import signal
from pathlib import Path

import pytest
from support import MARK, is_alive, marked_processes, run_script, started_script, wait_until

from faults import tasks

WORK = {
    "idle": "",
    "sleep": "futures = [pool.submit(tasks.await_file, log, '/nowhere') for _ in range(3)]",
    "python loop": "futures = [pool.submit(tasks.spin_in_python, log) for _ in range(3)]",
    "C loop": "futures = [pool.submit(tasks.spin_in_c, log) for _ in range(3)]",
    "async": "futures = [pool.submit(tasks.never_finish, log) for _ in range(3)]",
    "stopped": "futures = [pool.submit(tasks.stop_oneself, log) for _ in range(3)]",
    "ignores signals": "futures = [pool.submit(tasks.ignore_everything, log) for _ in range(3)]",
    "children": "futures = [pool.submit(tasks.leave_child_and_spin, log) for _ in range(3)]",
    "large result": "futures = [pool.submit(tasks.zeros, 400_000_000) for _ in range(3)]\n"
    "tasks.note(log, 1); tasks.note(log, 2)",
}

SCRIPT = """
import os, sys, time
from pool_client import Pool
from faults import tasks
log = sys.argv[1]
pool = Pool(2)
assert pool.run(abs, -1) == 1
{work}
{fork}
print("ready", flush=True)
time.sleep(600)
"""

FORK = """
pid = os.fork()
if pid == 0:
    time.sleep(600)
tasks.note(log + ".fork", pid)
"""


def temporary(directory: Path) -> dict[str, str]:
    """Return the settings that make *directory* the temporary one: a killed client leaves files."""
    return {"TMPDIR": str(directory), "XDG_RUNTIME_DIR": str(directory)}


@pytest.mark.parametrize(
    ("work", "forked"),
    [*((work, False) for work in WORK), *((work, True) for work in ("idle", "sleep", "C loop"))],
)
def test_client_is_killed(log, short_directory, work, forked):
    """Everything the pool started ends with the client, a forked child of the user's or not."""
    mark = f"{os.environ[MARK]}-{work}-{forked}"
    source = SCRIPT.format(work=WORK[work], fork=FORK if forked else "")
    with started_script(source, log, env={MARK: mark, **temporary(short_directory)}) as client:
        assert client.stdout.readline() == "ready\n"
        if work != "idle":
            wait_until(lambda: len(tasks.noted(log)) >= 2, what="two tasks to run")
        everyone = [process.pid for process in marked_processes(mark)]
        assert len(everyone) >= 4, "the client, the supervisor and two workers"
        spared = [int(line) for line in tasks.noted(log + ".fork")]
        assert len(spared) == forked
        try:
            client.send_signal(signal.SIGKILL)
            client.wait()
            wait_until(
                lambda: (
                    {one.pid for one in marked_processes(mark) if one.state != "Z"} <= set(spared)
                ),
                what="every process to end",
            )
            assert all(map(is_alive, spared))
        finally:
            for pid in spared:
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not marked_processes(mark), what="the rest to be reaped")


@pytest.mark.parametrize("code", ["os._exit(3)", "os.abort()", "os.kill(os.getpid(), 15)"])
def test_client_ends_without_exit_handlers(log, short_directory, code):
    """The same when the client leaves by os._exit, abort or SIGTERM."""
    mark = f"{os.environ[MARK]}-{code}"
    source = SCRIPT.format(work=WORK["C loop"], fork="").replace(
        "time.sleep(600)", f"sys.stdin.readline()\n{code}"
    )
    env = {MARK: mark, **temporary(short_directory)}
    with started_script(source, log, env=env, stdin=-1) as client:
        assert client.stdout.readline() == "ready\n"
        wait_until(lambda: len(tasks.noted(log)) >= 2, what="two tasks to run")
        client.stdin.write("\n")
        client.stdin.flush()
        assert client.wait(20) != 0
        wait_until(
            lambda: not [one for one in marked_processes(mark) if one.state != "Z"],
            what="every process to end",
        )


def files_below(directory: Path) -> list[str]:
    """Return every file and directory below *directory*."""
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_files_are_swept_by_the_next_pool(short_directory, log):
    """What a killed client left in the temporary directory is removed by the next pool."""
    settings = temporary(short_directory)
    for _ in range(2):
        with started_script(SCRIPT.format(work="", fork=""), log, env=settings) as client:
            assert client.stdout.readline() == "ready\n"
            everyone = files_below(short_directory)
            client.send_signal(signal.SIGKILL)
            client.wait()
    assert everyone, "the pool keeps its socket here"
    (short_directory / "not-ours").mkdir()
    run_script(
        "from pool_client import Pool\nwith Pool(1) as p: print(p.run(abs, -1))", env=settings
    )
    assert files_below(short_directory) == ["not-ours"]


def test_sweeping_spares_the_living(short_directory, log):
    """The files of a client that still runs are not swept: two pools in one directory."""
    settings = temporary(short_directory)
    source = SCRIPT.format(work="", fork="").replace(
        "time.sleep(600)",
        "sys.stdin.readline()\n"
        "os.kill(pool.workers()[0].pid, 9)\n"
        "print(pool.run(abs, -2), pool.run_on_all(abs, -2), flush=True)\npool.shutdown()",
    )
    with started_script(source, log, env=settings, stdin=-1) as client:
        assert client.stdout.readline() == "ready\n"
        run_script("from pool_client import Pool\nwith Pool(1) as p: p.run(abs, -1)", env=settings)
        client.stdin.write("\n")
        client.stdin.flush()
        assert client.stdout.readline().startswith("2 [2")
        assert client.wait(20) == 0
    assert files_below(short_directory) == []
