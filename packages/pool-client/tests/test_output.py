"""What tasks have printed: the text, the streams that may be missing or broken, the flood."""

import asyncio
import io
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support import run_script, wait_until

from pool_client import output
from pool_client.output import Printed, Printer, text, write
from pool_protocol.messages import Output

HOST = "node1"


def message(blob: bytes, worker: int = 7, stream: int = 1, dropped: int = 0) -> Output:
    return Output(worker, stream, dropped, blob)


def shown(blob: bytes, local: bool = False, **fields: int) -> str:
    return text(Printed(HOST, local, message(blob, **fields), print))


# The text


@pytest.mark.parametrize(
    ("blob", "lines"),
    [
        (b"one\n", "[node1 7] one\n"),
        (b"one\ntwo\n", "[node1 7] one\n[node1 7] two\n"),
        (b"\n\n", "[node1 7] \n[node1 7] \n"),
        (b"no end", "[node1 7] no end\n"),
        (b"", ""),
        ("größer\n".encode(), "[node1 7] größer\n"),
        (b"\xff\xfe ok\n", "[node1 7] \\xff\\xfe ok\n"),
        (b"a\rb\r\n", "[node1 7] a\rb\r\n"),
    ],
)
def test_lines(blob: bytes, lines: str) -> None:
    """Each line has host and worker in front, undecodable bytes are shown as what they are."""
    assert shown(blob) == lines


def test_local_lines() -> None:
    """Nothing stands in front of what local workers print."""
    assert shown(b"one\ntwo\n", local=True) == "one\ntwo\n"
    assert shown(b"\n", local=True) == "\n"


def test_dropped_lines() -> None:
    """How many are missing stands where they are missing, also for local workers."""
    assert shown(b"on\n", dropped=3) == "[node1 7] … 3 lines dropped\n[node1 7] on\n"
    assert shown(b"", dropped=1) == "[node1 7] … 1 line dropped\n"
    assert shown(b"on\n", local=True, dropped=3) == "[node1 7] … 3 lines dropped\non\n"


# Streams


def test_to_the_current_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever they are at the time; 1 is the output, 2 is the error."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = io.StringIO()
        monkeypatch.setattr(sys, name, stream)
        write(number, "text\n")
        assert stream.getvalue() == "text\n"


class Broken(io.StringIO):
    """A stream that fails as it likes."""

    def __init__(self, error: Exception, at: str) -> None:
        super().__init__()
        self._error = error
        self._at = at

    def write(self, text: str) -> int:
        if self._at == "write":
            raise self._error
        return super().write(text)

    def flush(self) -> None:
        if self._at == "flush":
            raise self._error


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize(
    "stream",
    [
        None,
        closed(),
        Broken(BrokenPipeError(), "write"),
        Broken(OSError(28, "No space left on device"), "flush"),
        Broken(ZeroDivisionError(), "write"),
        object(),
    ],
)
def test_streams_that_fail(stream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No stream harms the pool."""
    monkeypatch.setattr(sys, "stdout", stream)
    write(1, "text\n")


def test_encoding_that_lacks_a_character(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the stream cannot show is shown by its number; nothing is lost."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", newline="\n"))
    write(1, "größe … ok\n")
    assert raw.getvalue() == b"gr\\xf6\\xdfe \\u2026 ok\n"


# The printer


class Bench:
    """A printer, and what came back from it."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.threads: set[int] = set()
        self.printer = Printer(asyncio.get_running_loop())

    def take(self, blob: bytes, **fields: int) -> None:
        self.printer.take(HOST, False, message(blob, **fields), self.note)

    def note(self, nbytes: int) -> None:
        self.taken.append(nbytes)
        self.threads.add(threading.get_ident())


def test_order_across_both_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines come in the order in which they were sent, also from one stream to the other."""
    both = io.StringIO()
    monkeypatch.setattr(sys, "stdout", both)
    monkeypatch.setattr(sys, "stderr", both)

    async def go() -> Bench:
        bench = Bench()
        for number in range(200):
            bench.take(b"%d\n" % number, stream=1 + number % 3 // 2)
        await bench.printer.drain()
        await asyncio.sleep(0)
        return bench

    bench = asyncio.run(go())
    assert both.getvalue() == "".join(f"[node1 7] {number}\n" for number in range(200))
    assert sum(bench.taken) == sum(len(b"%d\n" % number) for number in range(200))
    assert bench.threads == {threading.get_ident()}


def test_acknowledged_by_host() -> None:
    """Each supervisor hears of its own bytes, and nobody of none."""
    one: list[int] = []
    two: list[int] = []
    silent: list[int] = []

    async def go() -> None:
        printer = Printer(asyncio.get_running_loop())
        for _ in range(100):
            printer.take("one", False, message(b"12345678\n"), one.append)
            printer.take("two", False, message(b"1\n"), two.append)
            printer.take("two", False, message(b"", dropped=3), two.append)
        printer.take("silent", False, message(b"", dropped=3), silent.append)
        await printer.drain()
        await asyncio.sleep(0)

    asyncio.run(go())
    assert (sum(one), sum(two), silent) == (900, 200, [])
    assert min(one + two) > 0


class Stuck(io.StringIO):
    """A stream that takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.reached = threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        assert self.gate.wait(30)
        return super().write(text)


@contextmanager
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stuck]:
    stream = Stuck()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        try:
            yield stream
        finally:
            stream.gate.set()


def test_stuck_stream_does_not_stop_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it takes nothing, the loop runs and nothing is acknowledged."""

    async def go(stream: Stuck) -> None:
        bench = Bench()
        bench.take(b"one\n")
        while not stream.reached.is_set():
            await asyncio.sleep(0.001)
        for _ in range(100):
            bench.take(b"two\n")
        assert "100 waiting" in repr(bench.printer)
        assert "1 jobs" in repr(bench.printer._thread)
        for _ in range(100):
            await asyncio.sleep(0)
        assert bench.taken == []
        stream.gate.set()
        await bench.printer.drain()
        await asyncio.sleep(0)
        assert sum(bench.taken) == 404

    with stuck(monkeypatch) as stream:
        asyncio.run(go(stream))
    assert stream.getvalue() == "[node1 7] one\n" + 100 * "[node1 7] two\n"


def test_stuck_stream_does_not_stop_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After some patience the pool ends without it; what was to be printed still is, later."""
    monkeypatch.setattr(output, "PATIENCE", 0.05)

    async def go() -> None:
        bench = Bench()
        bench.take(b"one\n")
        await bench.printer.drain()
        assert bench.taken == []

    with stuck(monkeypatch) as stream:
        asyncio.run(go())
        assert "takes nothing" in caplog.text
    wait_until(lambda: stream.getvalue() == "[node1 7] one\n")


class Slow(io.StringIO):
    """A stream that takes a piece each time that it is allowed to."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed = threading.Semaphore(0)

    def write(self, text: str) -> int:
        assert self.allowed.acquire(timeout=30)
        return super().write(text)


def test_slow_stream_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that goes on, however slowly, gets everything before the end."""
    slow = Slow()
    monkeypatch.setattr(sys, "stdout", slow)
    monkeypatch.setattr(sys, "stderr", slow)
    waits: list[float | None] = []

    async def go() -> None:
        bench = Bench()

        async def wait(printed: Any, timeout: float | None = None) -> None:
            """All of the time passes, in which one more piece is printed."""
            waits.append(timeout)
            before = bench.printer._pieces
            slow.allowed.release()
            while bench.printer._pieces == before and not printed[0].done():
                await asyncio.sleep(0.001)

        for number in range(20):
            bench.take(b"%d\n" % number, stream=1 + number % 2)
        with monkeypatch.context() as patch:
            patch.setattr(asyncio, "wait", wait)
            await bench.printer.drain()

    asyncio.run(asyncio.wait_for(go(), 60))
    assert slow.getvalue().count("\n") == 20
    assert waits[:20] == [output.PATIENCE] * 20


def test_hundreds_of_thousands_of_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood is printed whole and in order, and acknowledged byte by byte."""
    lines = 300_000
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8", newline="\n"))

    async def go() -> int:
        bench = Bench()
        sent = 0
        for start in range(0, lines, 2000):
            blob = b"".join(b"%d\n" % number for number in range(start, start + 2000))
            sent += len(blob)
            bench.take(blob)
            while sent - sum(bench.taken) > 256 * 1024:  # as a supervisor does
                await asyncio.sleep(0)
        await bench.printer.drain()
        await asyncio.sleep(0)
        return sent - sum(bench.taken)

    assert asyncio.run(asyncio.wait_for(go(), 50)) == 0
    found = raw.getvalue().decode().splitlines()
    assert found == [f"[node1 7] {number}" for number in range(lines)]


def test_no_thread_without_output() -> None:
    """Nothing is started until there is something to print."""

    async def go() -> None:
        before = set(threading.enumerate())
        printer = Printer(asyncio.get_running_loop())
        assert "0 waiting" in repr(printer)
        assert set(threading.enumerate()) <= before

    asyncio.run(go())


def test_closed_loop() -> None:
    """What is printed after the loop has ended is printed; nobody is told."""
    script = """
        import asyncio, sys, threading
        from pool_client.output import Printer
        from pool_protocol.messages import Output

        gate = threading.Event()
        class Stream:
            encoding = "utf-8"
            def write(self, text):
                gate.wait(60)
                sys.__stdout__.write(text)
            def flush(self):
                pass

        async def go():
            sys.stdout = sys.stderr = Stream()
            printer = Printer(asyncio.get_running_loop())
            for number in (1, 1, 2, 1):
                printer.take("h", False, Output(number, number, 0, b"late\\n"), print)

        asyncio.run(go())
        gate.set()
    """
    result = run_script(script)
    assert (result.stdout, result.stderr) == (
        "[h 1] late\n[h 1] late\n[h 2] late\n[h 1] late\n",
        "",
    )


def test_reader_that_goes_away() -> None:
    """As with ``| head``: the reader of the pipe ends, and the printer goes on without it."""
    script = """
        import asyncio, os, sys
        from pool_client.output import Printer
        from pool_protocol.messages import Output

        async def go():
            printer = Printer(asyncio.get_running_loop())
            taken = []
            for number in range(100):
                printer.take("h", False, Output(1, 1, 0, b"x" * 1000 + b"\\n"), taken.append)
                await asyncio.sleep(0)
            await printer.drain()
            await asyncio.sleep(0)
            print(sum(taken), file=sys.stderr)

        reader, writer = os.pipe()
        os.close(reader)
        sys.stdout = open(writer, "w")
        asyncio.run(go())
        os._exit(0)
    """
    assert run_script(script).stderr == "100100\n"


class Notebook(io.StringIO):
    """Shows what a thread prints under the cell to which the thread is tied, as ipykernel 6."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        for name in names:
            setattr(self, name, {threading.get_ident(): "an old cell", 1: "another thread's"})

    def write(self, text: str) -> int:
        for name in ("_thread_to_parent", "_thread_to_parent_header"):
            assert threading.get_ident() not in getattr(self, name, {})
            assert 1 in getattr(self, name, {1: ""})
        return super().write(text)


@pytest.mark.parametrize("names", ["", "_thread_to_parent", "_thread_to_parent_header"])
def test_tied_to_no_cell(names: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed belongs to the cell that runs, whatever ran when the thread was started."""
    stream = Notebook(*names.split())
    monkeypatch.setattr(sys, "stdout", stream)
    write(1, "text\n")
    assert stream.getvalue() == "text\n"
