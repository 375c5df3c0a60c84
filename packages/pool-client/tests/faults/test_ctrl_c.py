"""Ctrl-C on a real terminal: once it stops politely, twice it kills, and workers ignore it."""

import os
import signal
from pathlib import Path

import pytest
from support import Terminal, is_alive, wait_until

from faults import tasks

PRELUDE = """
import asyncio, itertools, os, sys, time
from pool_client import Pool
from faults import tasks
log, pids = sys.argv[1:3]

def remember(pool):
    for worker in pool.workers():
        tasks.note(pids, worker.pid)
"""

BLOCKS = {
    "map": """
with Pool(2) as pool:
    remember(pool)
    list(pool.map(tasks.double_slowly, itertools.repeat(log), range(200), itertools.repeat({t}),
                  chunksize=1))
""",
    "submit": """
with Pool(2) as pool:
    remember(pool)
    futures = [pool.submit(tasks.double_slowly, log, n, {t}) for n in range(200)]
    for future in futures:
        future.result()
""",
    "run": """
with Pool(2) as pool:
    remember(pool)
    futures = [pool.submit(tasks.double_slowly, log, n, {t}) for n in range(199)]
    pool.run(tasks.double_slowly, log, 199, {t})
""",
    "left open": """
pool = Pool(2)
remember(pool)
futures = [pool.submit(tasks.double_slowly, log, n, {t}) for n in range(200)]
results = pool.map(tasks.double_slowly, [log] * 200, range(200), [{t}] * 200, chunksize=1)
for future in futures:
    future.result()
""",
    "asyncio": """
async def main():
    async with Pool(2) as pool:
        remember(pool)
        await asyncio.gather(*[pool.run_async(tasks.double_slowly, log, n, {t})
                               for n in range(200)])
asyncio.run(main())
""",
    "map_async": """
async def main():
    async with Pool(2) as pool:
        remember(pool)
        async for _ in pool.map_async(tasks.double_slowly, itertools.repeat(log), range(200),
                                      itertools.repeat({t}), chunksize=1):
            pass
asyncio.run(main())
""",
}


def interrupted(pid):
    """Tell whether a SIGINT waits to be delivered to a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    waiting = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
    return bool(waiting & 1 << signal.SIGINT - 1)


@pytest.mark.parametrize("how", BLOCKS)
def test_once(tmp_path, log, how):
    """One Ctrl-C ends the program with KeyboardInterrupt: running tasks finish, no other starts."""
    pids = str(tmp_path / "pids")
    source = PRELUDE + BLOCKS[how].replace("{t}", "0.3")
    with Terminal(source, tmp_path / "script.py", log, pids) as terminal:
        wait_until(lambda: len(tasks.noted(log)) >= 2, timeout=30, what="two tasks to run")
        terminal.press_ctrl_c()
        code = terminal.wait()
        assert code != 0
        assert "KeyboardInterrupt" in terminal.output
        assert len(tasks.noted(log)) < 50, "what was not sent is cancelled"
        workers = [int(line) for line in tasks.noted(pids)]
        wait_until(lambda: not any(map(is_alive, workers)), what="the workers to end")


@pytest.mark.parametrize("how", BLOCKS)
def test_twice(tmp_path, log, how):
    """A second Ctrl-C kills the workers, whose tasks would take ten minutes."""
    pids = str(tmp_path / "pids")
    source = PRELUDE + BLOCKS[how].replace("{t}", "600")
    with Terminal(source, tmp_path / "script.py", log, pids) as terminal:
        wait_until(lambda: len(tasks.noted(log)) >= 2, timeout=30, what="two tasks to run")
        terminal.press_ctrl_c()
        # Two that come together are one.
        terminal.wait_for("^C")
        wait_until(lambda: not interrupted(terminal.pid), what="the first one to be seen")
        with pytest.raises(AssertionError, match="did not end"):
            terminal.wait(1.0)
        workers = [int(line) for line in tasks.noted(pids)]
        assert all(map(is_alive, workers)), "the first one lets running tasks finish"
        terminal.press_ctrl_c()
        assert terminal.wait() != 0
        wait_until(lambda: not any(map(is_alive, workers)), what="the workers to end")
        assert len(tasks.noted(log)) < 10


def test_workers_ignore_it(tmp_path, log, gate):
    """A program that catches KeyboardInterrupt goes on with the same workers and running tasks."""
    source = (
        PRELUDE
        + """
pool = Pool(2)
remember(pool)
future = pool.submit(tasks.await_file, log, sys.argv[3], 42)
try:
    print("waiting", flush=True)
    future.result()
except KeyboardInterrupt:
    print("interrupted", flush=True)
print("result", future.result())
print("same", sorted(w.pid for w in pool.workers()) == sorted(map(int, tasks.noted(pids))))
print("then", pool.run(abs, -7))
pool.shutdown()
print("end")
"""
    )
    pids = str(tmp_path / "pids")
    with Terminal(source, tmp_path / "script.py", log, pids, gate) as terminal:
        terminal.wait_for("waiting")
        wait_until(lambda: tasks.noted(log), timeout=30, what="the task to run")
        terminal.press_ctrl_c()
        terminal.wait_for("interrupted")
        gate.touch()
        assert terminal.wait() == 0
        assert "result 42" in terminal.output
        assert "same True" in terminal.output
        assert "then 7" in terminal.output
        assert "end" in terminal.output
        assert len(tasks.noted(log)) == 1


def test_while_the_pool_is_created(tmp_path, log):
    """Ctrl-C while the pool starts ends the program and what was started: a slow initializer."""
    source = (
        PRELUDE
        + """
def slow_start():
    tasks.note(pids, os.getpid())
    time.sleep(600)

with Pool(2, initializer=slow_start) as pool:
    pool.run(abs, -1)
"""
    )
    pids = str(tmp_path / "pids")
    with Terminal(source, tmp_path / "script.py", log, pids) as terminal:
        wait_until(lambda: len(tasks.noted(pids)) == 2, timeout=30, what="two workers to start")
        terminal.press_ctrl_c()
        assert terminal.wait() != 0
        assert "KeyboardInterrupt" in terminal.output
        workers = [int(line) for line in tasks.noted(pids)]
        wait_until(lambda: not any(map(is_alive, workers)), what="the workers to end")


def test_terminal_is_closed(tmp_path, log, short_directory, monkeypatch):
    """Workers end when the terminal hangs up under the program: SIGHUP and a closed terminal."""
    pids = str(tmp_path / "pids")
    source = PRELUDE + BLOCKS["submit"].replace("{t}", "600")
    monkeypatch.setenv("TMPDIR", str(short_directory))  # its files stay: nothing ran at its end
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_directory))
    terminal = Terminal(source, tmp_path / "script.py", log, pids)
    try:
        wait_until(lambda: len(tasks.noted(log)) >= 2, timeout=30, what="two tasks to run")
        workers = [int(line) for line in tasks.noted(pids)]
    finally:
        terminal.__exit__()
    wait_until(lambda: not any(map(is_alive, workers)), what="the workers to end")
    assert os.getpid() not in workers
