"""pool_worker.starting: how a worker process is made."""

import fcntl
import gc
import io
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from driver import Client, Worker

from pool_protocol.messages import Start
from pool_worker.page import Pages
from pool_worker.settings import Settings
from pool_worker.starting import Forker, _take_descriptors, line_buffered


def settings(address: str) -> Settings:
    return Settings(address, bytes(8), bytes(32))


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_a_worker_that_cannot_connect_says_so_and_ends(client: Client) -> None:
    client.listener.close()
    client.control.send(Start([3]))
    lost = client.lost()
    assert (lost.worker, lost.exitcode) == (3, 1)
    assert "worker 3 cannot connect" in client.finish()


def test_a_fork_that_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError("no more processes")

    pages = Pages()
    forker = Forker(settings(str(folder / "nothing")), pages)
    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(BlockingIOError):
        forker.start(3, pages.take(), None)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
    pages.close()


def test_line_buffered(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8")  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", None)
    line_buffered()
    stream.write("one\ntwo\n")
    assert raw.getvalue() == b"one\ntwo\n"


def test_standard_error_goes_where_it_is_wanted(folder: Path) -> None:
    file = folder / "stderr"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    try:
        with Client(folder, stderr=descriptor) as client:
            (worker,) = client.start(1)
            worker.call(lambda: print("from a task", file=sys.stderr))
            assert file.read_text() == "from a task\n"
            assert "from a task" not in client.finish()
    finally:
        os.close(descriptor)


def test_handlers_of_the_supervisor_are_not_inherited(client: Client, worker: Worker) -> None:
    os.kill(worker.pid, signal.SIGINT)
    assert worker.call(os.getpid) == worker.pid
    os.kill(worker.pid, signal.SIGTERM)
    assert client.lost().exitcode == -signal.SIGTERM
    assert client.process.poll() is None


def test_missing_modules_are_asked_for_if_the_client_wants_that(folder: Path) -> None:
    def asks() -> bool:
        return any(type(f).__module__ == "pool_worker.remote_modules" for f in sys.meta_path)

    for modules in (False, True):
        with Client(folder, modules=modules) as client:
            (worker,) = client.start(1)
            assert worker.call(asks) is modules
            assert worker.call(lambda: "pool_worker.remote_modules" in sys.modules) is modules


def test_descriptors_where_there_may_be_a_billion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not each number is tried: that takes minutes where Python cannot close them in one go."""
    closed: list[tuple[int, int]] = []
    high = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 70)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "sysconf", lambda name: 1 << 30)
            patch.setattr(os, "closerange", lambda *ends: closed.append(ends))
            patch.setattr(os, "dup2", lambda *ends: None)
            patch.setattr(os, "open", lambda *arguments: 0)
            _take_descriptors(None, (30, 50))
    finally:
        os.close(high)
    assert closed[:2] == [(3, 30), (31, 50)]
    first, end = closed[2]
    assert first == 51 and high < end < 1 << 20
