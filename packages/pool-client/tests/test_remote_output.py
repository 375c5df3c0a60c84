"""What tasks print, from the worker's descriptor to the client's stream.

Each test runs a script whose pool has workers on ``fake://`` hosts, or local workers while
``sys.stdout`` is not descriptor 1.
"""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cells
import pytest
from support import run_script

HEAD = """\
import asyncio, io, os, sys, threading, time
import fake_remote
from pool_client import Pool
fake_remote.register()
"""


def run(main: str, **options: object) -> tuple[str, str]:
    """What a script printed to its output and its error."""
    result = run_script(HEAD + textwrap.dedent(main), **options)  # type: ignore[arg-type]
    return str(result.stdout), str(result.stderr)


def test_both_streams() -> None:
    """Lines from Python, from C and from a child process, each with host and worker in front."""
    main = """
        def talk():
            print("one")
            print("two", file=sys.stderr)
            os.write(1, "größe\\n".encode() + b"\\xff\\n")
            os.system("echo from a child")
            print("no end", end="", flush=True)

        with Pool(0, hosts="fake://me@node1/1") as pool:
            pool.run(talk)
    """
    output, errors = run(main)
    assert output.splitlines() == [
        "[me@node1 1] one",
        "[me@node1 1] größe",
        "[me@node1 1] \\xff",
        "[me@node1 1] from a child",
        "[me@node1 1] no end",
    ]
    assert errors == "[me@node1 1] two\n"


def test_order_and_completeness_before_the_end() -> None:
    """Everything printed before the results is there when shutdown returns, each worker's in order.

    The flow of 300,000 lines is far beyond what a supervisor may have unacknowledged.
    """
    main = """
        def talk(start):
            for number in range(start, start + 500):
                print(os.getpid(), number)
                if number % 100 == 0:
                    time.sleep(0)
            sys.stdout.flush()
            time.sleep(0.002)  # a flood would be dropped, and is meant to be
            return 500

        seen = io.StringIO()
        sys.stdout = seen
        with Pool(0, hosts="fake://node1/2 fake://node2/2") as pool:
            assert sum(pool.map(talk, range(0, 300_000, 500), chunksize=1)) == 300_000
        lines = seen.getvalue().splitlines()
        sys.stdout = sys.__stdout__
        last = {}
        total = 0
        for line in lines:
            if "dropped" in line:
                total += int(line.split()[3])
                continue
            host, worker, pid, number = line.split()
            total += 1
            assert last.get((pid, int(number) // 500), -1) < int(number)
            last[pid, int(number) // 500] = int(number)
        print(total, len(last) <= 600)
    """
    assert run(main) == ("300000 True\n", "")


def test_flood_is_dropped_with_a_count() -> None:
    """A task is never held up: what is too much is dropped, and nothing is dropped in silence."""
    main = """
        def flood(lines):
            sys.stdout.write("".join(f"{number:07}\\n" for number in range(lines)))
            sys.stdout.flush()
            os.write(1, b"the last\\n")

        done = threading.Event()

        class Slow(io.StringIO):
            def write(self, text):
                done.wait(60)
                return super().write(text)

        slow = Slow()
        sys.stdout = slow
        with Pool(0, hosts="fake://node1/1") as pool:
            pool.run(flood, 500_000)
            done.set()
        sys.stdout = sys.__stdout__
        shown = dropped = 0
        for line in slow.getvalue().splitlines():
            if "dropped" in line:
                dropped += int(line.split()[3])
                shown += int(line.split()[3])
            else:
                assert line.split()[2] in (f"{shown:07}", "the"), (line, shown)
                shown += 1
        print(shown, dropped > 100_000, shown - dropped > 1000)
    """
    assert run(main) == ("500001 True True\n", "")


def test_stuck_stream_stops_neither_tasks_nor_the_end() -> None:
    """A stream that takes nothing: tasks that print go on, results come, shutdown returns."""
    main = """
        import pool_client.output
        pool_client.output.PATIENCE = 0.2
        gate = threading.Event()

        class Stuck(io.StringIO):
            def write(self, text):
                gate.wait(30)
                return super().write(text)

        def talk(number):
            print("x" * 1000)
            return number

        sys.stdout = Stuck()
        with Pool(0, hosts="fake://node1/2") as pool:
            assert list(pool.map(talk, range(2000))) == list(range(2000))
        sys.__stdout__.write("done\\n")
        gate.set()
    """
    assert run(main)[0] == "done\n"


@pytest.mark.parametrize("stream", ["None", "closed", "Broken()"])
def test_stream_that_is_no_good(stream: str) -> None:
    """Nothing can be printed; everything else works."""
    main = f"""
        closed = io.StringIO()
        closed.close()
        class Broken:
            def write(self, text):
                raise ZeroDivisionError
        sys.stdout = sys.stderr = {stream}
        with Pool(1, hosts="fake://node1/1") as pool:
            pool.run_on_all(print, "x" * 100_000)
            assert pool.run(abs, -1) == 1
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        print("done")
    """
    output, _ = run(main)
    assert output.endswith("done\n")


@pytest.mark.parametrize("loop", ["thread", "here"])
def test_local_workers_under_another_stream(loop: str) -> None:
    """When ``sys.stdout`` is something else, what local workers print goes there, as it is."""
    main = f"""
        def talk():
            print("from a worker")
            print("an error", file=sys.stderr)

        async def here():
            async with Pool(1) as pool:
                await pool.run_async(talk)

        def thread():
            with Pool(1) as pool:
                pool.run(talk)

        seen, errors = io.StringIO(), io.StringIO()
        sys.stdout, sys.stderr = seen, errors
        {"asyncio.run(here())" if loop == "here" else "thread()"}
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        print([seen.getvalue(), errors.getvalue()])
    """
    assert run(main) == ("['from a worker\\n', 'an error\\n']\n", "")


def test_local_workers_keep_the_descriptors() -> None:
    """In a plain script they write to the client's descriptors themselves: no thread, no copy."""
    main = """
        with Pool(1) as pool:
            pool.run(print, "from a worker", flush=True)
            print("pool_client.output" in sys.modules, flush=True)
    """
    assert run(main) == ("from a worker\nFalse\n", "")


def test_last_words() -> None:
    """What a worker printed before it was killed is seen."""
    main = """
        from pool_client import WorkerLost
        def die():
            print("last words", flush=True)
            os.kill(os.getpid(), 9)
        with Pool(0, hosts="fake://node1/1", retries=0) as pool:
            try:
                pool.run(die)
            except WorkerLost:
                pass
    """
    assert run(main)[0] == "[node1 1] last words\n"


# A notebook


@pytest.fixture(scope="module")
def kernel() -> Iterator[Any]:
    """Yield the client of a real Jupyter kernel that can start fake hosts."""
    pytest.importorskip("ipykernel")
    manager_module = pytest.importorskip("jupyter_client.manager")
    manager, client = manager_module.start_new_kernel(startup_timeout=60)
    try:
        client.execute_interactive(
            f"import sys; sys.path.append({str(Path(__file__).parent)!r})\n{HEAD}", timeout=60
        )
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def printed_by(kernel: Any, cell: str, wanted: str, timeout: float = 60) -> str:
    """Run a cell; what appears under it, until everything wanted is there."""
    texts = cells.run_cell(kernel, cell, timeout)
    return next(text for ended, text in texts if ended and re.search(wanted, text))


@pytest.mark.parametrize("hosts", ["None", "['fake://node1/1']"])
def test_cells(kernel: Any, hosts: str) -> None:
    """Output appears under the cell that runs, not under the one that made the pool."""
    workers = 1 if hosts == "None" else 0
    cell = f"""
        def talk(word):
            print("says", word)
        pool = Pool({workers}, hosts={hosts})
        pool.run(talk, "first")
    """
    assert "says first" in printed_by(kernel, cell, "says first")
    for word in ("second", "third"):
        assert f"says {word}" in printed_by(kernel, f"pool.run(talk, {word!r})", f"says {word}")
    text = printed_by(kernel, "await pool.run_async(talk, 'awaited')", "says awaited")
    assert "third" not in text
    assert printed_by(kernel, "pool.shutdown()", "") == ""
    cell = f"""
        async with Pool({workers}, hosts={hosts}) as other:
            await other.run_async(talk, "from the loop")
    """
    assert "says from the loop" in printed_by(kernel, cell, "says from the loop")


def test_what_is_printed_may_be_more_than_a_message_of_the_users() -> None:
    """``max_message`` is for his data; the lines are cut and bounded in any case."""
    main = """
        def talk():
            print("".join(f"{number:099}\\n" for number in range(500)), end="")
            return len(os.environ["PATH"])

        with Pool(0, hosts="fake://node1/1", max_message=5000) as pool:
            assert pool.run(talk) > 0
            assert pool.stats().hosts_lost == 0, "after the end"
    """
    output, errors = run(main)
    assert output.splitlines() == [f"[node1 1] {number:099}" for number in range(500)]
    assert not errors
