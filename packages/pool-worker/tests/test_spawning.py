"""pool_worker.spawning: workers as fresh processes."""

import os
import pickle
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from driver import Client, Worker, descriptors, unpack
from test_children import gone, hold, recall, started, until

from pool_protocol.messages import Result, Watch
from pool_worker.page import Pages
from pool_worker.settings import Settings
from pool_worker.spawning import Spawner

pytestmark = pytest.mark.skipif(not hasattr(os, "posix_spawn"), reason="needs posix_spawn")


@pytest.fixture
def client(folder: Path) -> Iterator[Client]:
    with Client(folder, ["--start-method", "spawn"], cwd=str(folder)) as client:
        yield client


def test_it_works_as_a_forked_one_does(client: Client, folder: Path) -> None:
    one, two = client.start(1, 2)
    for worker in (one, two):
        assert worker.call(os.getpid) == worker.pid
        assert worker.call(os.getsid, 0) == worker.pid
        assert worker.call(os.getppid) == client.process.pid
        assert worker.call(os.getcwd) == os.path.realpath(folder)
        assert worker.call(lambda: os.readlink("/proc/self/fd/0")) == os.devnull
        assert worker.call(lambda: len(os.listdir("/proc/self/fd"))) <= 6
        assert worker.call(signal.getsignal, signal.SIGINT) == signal.SIG_IGN
        secret = client.token.hex().encode()
        assert secret not in Path(f"/proc/{worker.pid}/cmdline").read_bytes()
        assert secret not in Path(f"/proc/{worker.pid}/environ").read_bytes()


def test_the_page_is_shared(client: Client, worker: Worker, folder: Path) -> None:
    gate = folder / "gate"
    ids = [worker.post(worker.function(hold), pickle.dumps((str(gate),)))]
    sleep = worker.function(time.sleep)
    ids += [worker.post(sleep, pickle.dumps((0,))) for _ in range(2)]
    worker.write()
    until(lambda: started(client))
    assert recall(client, ids[1]).started == ids[0]
    client.control.send(Watch(True))
    gate.touch()
    assert [worker.wait(Result).id for _ in range(2)] == [ids[0], ids[2]]
    bad = worker.post(sleep, pickle.dumps((1000,)), timeout=0.1)
    worker.write()
    lost = client.lost()
    assert (lost.pid, lost.started, lost.reason) == (worker.pid, bad, "timeout")


def test_it_ends_with_its_supervisor(client: Client, worker: Worker) -> None:
    client.process.kill()
    client.process.wait()
    until(lambda: gone(worker.pid))


def test_a_process_that_ends_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings("/nothing", bytes(8), bytes(32), sys_path=["x" * 100_000])
    pages = Pages()
    spawner = Spawner(settings, pages)
    before = descriptors()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    pid = spawner.start(1, 0, None)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    monkeypatch.setattr(sys, "executable", "/does/not/exist")
    with pytest.raises(OSError, match="No such file"):
        spawner.start(1, 0, None)
    assert descriptors() == before
    pages.close()


def test_results(worker: Worker) -> None:
    worker.post(worker.function(lambda x: x), pickle.dumps(([1],)))
    worker.write()
    assert unpack(worker.wait(Result)) == [1]
