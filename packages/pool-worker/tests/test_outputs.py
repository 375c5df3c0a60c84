"""pool_worker.outputs: the pipes into which workers print."""

import errno
import fcntl
import os
import select
import subprocess
from collections.abc import Iterator

import pytest
from driver import PATIENCE, descriptors
from test_children import until
from test_lines import taken

from pool_protocol.messages import Output
from pool_worker import outputs
from pool_worker.lines import WINDOW
from pool_worker.outputs import Ends, Outputs


class Bench:
    """Pipes whose other ends are kept here."""

    def __init__(self) -> None:
        self.outputs = Outputs()
        self.ends: dict[int, Ends] = {}

    def worker(self, number: int) -> Ends:
        with self.outputs.pipes(number) as ends:
            self.ends[number] = Ends(*map(os.dup, ends))
        for end in self.ends[number]:
            fcntl.fcntl(end, fcntl.F_SETFL, os.O_NONBLOCK)
        return self.ends[number]

    def hang_up(self, number: int) -> None:
        for end in self.ends.pop(number):
            os.close(end)

    def readable(self) -> bool:
        return bool(select.select([self.outputs], [], [], 0)[0])

    def close(self) -> None:
        for number in list(self.ends):
            self.hang_up(number)
        self.outputs.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    before = descriptors()
    bench = Bench()
    yield bench
    bench.close()
    assert descriptors() == before


def test_both_streams(bench: Bench) -> None:
    out, err = bench.worker(5)
    assert not bench.readable()
    os.write(out, b"one\ntw")
    os.write(err, b"bad\n")
    assert bench.readable()
    bench.outputs.read()
    assert not bench.readable() and not bench.outputs.pressing
    assert taken(bench.outputs.backlog) == [Output(5, 1, 0, b"one\n"), Output(5, 2, 0, b"bad\n")]
    os.write(out, b"o")
    os.write(err, b"unended")
    bench.outputs.finish(5)
    assert taken(bench.outputs.backlog) == [
        Output(5, 1, 0, b"two\n"),
        Output(5, 2, 0, b"unended\n"),
    ]
    bench.outputs.finish(5)
    assert "0 workers" in repr(bench.outputs)


def test_a_worker_that_closes_its_streams(bench: Bench) -> None:
    os.write(bench.worker(1).out, b"x")
    bench.hang_up(1)
    while bench.readable():
        bench.outputs.read()
    assert taken(bench.outputs.backlog) == [Output(1, 1, 0, b"x\n")]
    assert not bench.readable()
    # Its descriptors are another's now.
    os.write(bench.worker(2).out, b"y\n")
    bench.outputs.finish(1)
    assert taken(bench.outputs.backlog) == []
    bench.outputs.read()
    assert taken(bench.outputs.backlog) == [Output(2, 1, 0, b"y\n")]


def test_a_child_that_holds_a_pipe_and_prints_for_ever(bench: Bench) -> None:
    with bench.outputs.pipes(1) as ends:
        yes = subprocess.Popen(["yes"], stdout=ends.out)
    try:
        until(bench.readable)
        bench.outputs.finish(1)
        assert not bench.readable()
        assert yes.wait(PATIENCE)  # nobody reads it any more
    finally:
        yes.kill()
        yes.wait()


def test_the_end_of_a_worker_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever still prints, and as fast as we read."""
    bench.worker(1)
    counts: list[int] = []

    def read(descriptor: int, size: int) -> bytes:
        counts.append(size)
        assert sum(counts) < 10_000_000
        return b"y" * (size - 1) + b"\n"

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", read)
        bench.outputs.finish(1)
    assert sum(counts) >= 2 * 1024 * 1024  # all that two pipes can hold


def test_a_moment_at_a_time_and_all_in_turn(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "READ_SLICE", -1.0)
    ends = [bench.worker(number) for number in range(1, 4)]
    seen = []
    for _ in range(3):
        for end in ends:
            os.write(end.out, b"again\n")
        bench.outputs.read()
        seen += [output.worker for output in taken(bench.outputs.backlog)]
    assert sorted(seen) == [1, 2, 3]
    assert not bench.outputs.pressing
    bench.outputs.read()
    assert bench.outputs.pressing
    for number in range(1, 4):
        bench.outputs.finish(number)
    while bench.outputs.pressing:  # those that were ready are gone
        bench.outputs.read()


def test_a_flood_is_read_to_its_end(bench: Bench) -> None:
    """Whatever nobody prints: the writer never waits for long."""
    out = bench.worker(1).out
    written = 0
    while written < 20 * WINDOW:
        try:
            written += os.write(out, b"x" * 99 + b"\n")
        except BlockingIOError:
            bench.outputs.read()
    bench.outputs.finish(1)
    got = taken(bench.outputs.backlog)
    bench.outputs.backlog.taken(WINDOW)
    got += taken(bench.outputs.backlog)
    count = sum(output.dropped + output.blob.count(b"\n") for output in got)
    assert count == written // 100


def test_a_start_that_fails(bench: Bench) -> None:
    with pytest.raises(KeyError), bench.outputs.pipes(1):
        raise KeyError
    bench.outputs.finish(1)


def test_pipes_that_cannot_be_watched(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are refused before anybody is started who would print into them."""

    def register(reader: int, events: int) -> None:
        if registered:
            raise OSError(errno.ENOSPC, "No space left on device")
        registered.append(real(reader, events))

    registered: list[object] = []
    real = bench.outputs._selector.register
    monkeypatch.setattr(bench.outputs._selector, "register", register)
    started = False
    with pytest.raises(OSError, match="No space"), bench.outputs.pipes(1):
        started = True
    assert registered and not started
    assert "0 workers" in repr(bench.outputs) and not bench.outputs._streams


def test_no_descriptors(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def pipe() -> tuple[int, int]:
        if made:
            raise OSError(errno.EMFILE, "Too many open files")
        made.append(real())
        return made[0]

    made: list[tuple[int, int]] = []
    real = os.pipe
    monkeypatch.setattr(os, "pipe", pipe)
    with pytest.raises(OSError, match="Too many"), bench.outputs.pipes(1):
        pass
