"""The ``pool-worker`` process: settings in, last words out, and its end in every case."""

import asyncio
import gc
import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from running import command_line, descriptors, is_alive, wait_until

from pool_spawner.process import COMMAND, TAIL, WorkerProcess, describe_exit


def program(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def run(body: Coroutine[Any, Any, Any]) -> Any:
    """Run it under a deadline; afterwards no descriptor is left."""
    before = descriptors()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = asyncio.run(asyncio.wait_for(body, 60))
        gc.collect()
    assert descriptors() == before
    return result


def test_it_is_this_interpreters_pool_worker() -> None:
    assert COMMAND[0] == sys.executable
    assert COMMAND[-3:] == ("-m", "pool_worker", "--launch")


def test_it_gets_its_settings_as_one_line_and_its_last_words_are_kept() -> None:
    async def body() -> tuple[int, bytes]:
        text = "import sys; sys.stderr.write(sys.stdin.readline()); sys.exit(3)"
        process = WorkerProcess({"token": "x", "n": 1}, program(text))
        return await process.exited, process.tail

    code, tail = run(body())
    assert code == 3
    assert json.loads(tail) == {"token": "x", "n": 1}


def test_the_settings_are_not_on_its_command_line_or_in_its_environment() -> None:
    async def body() -> bytes:
        process = WorkerProcess({"token": "5ec2e7"}, program("input(); input()"))
        seen = command_line(process.pid) + Path(f"/proc/{process.pid}/environ").read_bytes()
        await process.end()
        return seen + repr(process).encode()

    assert b"5ec2e7" not in run(body())


def test_the_end_of_its_standard_input_is_its_lifeline() -> None:
    async def body() -> int:
        process = WorkerProcess({}, program("import sys; sys.stdin.read(); sys.exit(7)"))
        return await process.end(patience=1000)

    assert run(body()) == 7


def test_one_that_does_not_end_is_killed() -> None:
    async def body() -> int:
        process = WorkerProcess({}, program("import time; time.sleep(1000)"))
        return await process.end(patience=0.2)

    assert run(body()) == -signal.SIGKILL


def test_a_host_that_stood_still_leaves_it_its_time() -> None:
    """Both are stopped for longer than all our patience, as when a machine is suspended."""
    ahead: list[float] = []

    async def body() -> int:
        loop = asyncio.get_running_loop()
        clock = loop.time
        loop.time = lambda: clock() + sum(ahead)  # type: ignore[method-assign]
        process = WorkerProcess({}, program("import sys; sys.stdin.read(); sys.exit(7)"))
        os.kill(process.pid, signal.SIGSTOP)
        end = asyncio.create_task(process.end(patience=1000.0))
        await asyncio.sleep(0)
        ahead.append(1000.0)
        loop.call_soon(os.kill, process.pid, signal.SIGCONT)
        return await end

    assert asyncio.run(body()) == 7  # not by ``run``, whose deadline would pass as well


def test_of_many_words_the_last_are_kept() -> None:
    async def body() -> bytes:
        text = "import sys; sys.stderr.write('x' * 1_000_000 + 'the end')"
        process = WorkerProcess({}, program(text))
        await process.exited
        return process.tail

    tail = run(body())
    assert len(tail) == TAIL and tail.endswith(b"xthe end")


def test_its_last_words_are_read_though_it_has_ended() -> None:
    async def body() -> bytes:
        process = WorkerProcess({}, program("import sys; sys.exit('the last words')"))
        # Our loop is busy until it is gone.
        wait_until(lambda: not is_alive(process.pid))
        wait_until(lambda: process._process.returncode is not None)
        await process.exited
        return process.tail

    assert run(body()) == b"the last words\n"


def test_a_process_that_holds_its_standard_error_delays_nothing() -> None:
    async def body() -> tuple[int, bytes]:
        text = (
            "import subprocess, sys; child = subprocess.Popen(['sleep', '1000']);"
            "print(child.pid, file=sys.stderr, flush=True)"
        )
        process = WorkerProcess({}, program(text))
        return await process.exited, process.tail

    code, tail = run(body())
    child = int(tail)
    assert code == 0 and is_alive(child)
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: not is_alive(child))


def test_one_that_ends_before_it_reads_is_no_error() -> None:
    async def body() -> int:
        process = WorkerProcess({"n": "x" * 4000}, program("import os; os._exit(4)"))
        process.hang_up()
        return await process.end(patience=1000)

    assert run(body()) == 4


def test_one_that_prints_for_ever_does_not_stop_our_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> int:
        process = WorkerProcess({}, program("import sys; sys.stdin.read()"))
        counts: list[int] = []

        def read(descriptor: int, size: int) -> bytes:
            counts.append(size)
            assert sum(counts) < 10_000_000
            return b"y" * size

        with monkeypatch.context() as patch:
            patch.setattr(os, "read", read)
            process._read_errors()
            assert len(counts) == 1
            process._on_exit(0)
        assert process.tail == b"y" * TAIL
        return sum(counts)

    assert run(body()) >= 1 << 20  # all that a pipe can hold


def test_one_that_cannot_be_waited_for_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    pids: list[int] = []

    def refuse(thread: threading.Thread) -> None:
        pids.append(int(thread.name.removeprefix("wait-")))
        raise RuntimeError("can't start new thread")

    async def body() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(OSError, match="can't start new thread"):
                WorkerProcess({}, program("import time; time.sleep(1000)"))

    run(body())
    assert not Path(f"/proc/{pids[0]}").exists()


def test_a_program_that_is_missing_raises() -> None:
    async def body() -> None:
        with pytest.raises(OSError, match="nothing"):
            WorkerProcess({}, ["/nothing/there"])

    run(body())


def test_what_the_terminal_sends_does_not_reach_it() -> None:
    async def body() -> bool:
        process = WorkerProcess({}, program("input(); input()"))
        apart = os.getsid(process.pid) != os.getsid(0)
        await process.end()
        return apart

    assert run(body())


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, "exit code 0"),
        (3, "exit code 3"),
        (-15, "SIGTERM"),
        (-9, "SIGKILL; was the host short of memory?"),
        (-99, "signal 99"),
    ],
)
def test_how_it_ended_in_words(code: int, text: str) -> None:
    assert describe_exit(code).endswith(text)
