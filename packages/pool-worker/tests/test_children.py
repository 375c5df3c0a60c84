"""pool_worker.children: started, looked at, killed, reaped, and what they leave behind."""

import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from driver import PATIENCE, Client, Worker, frames, unpack

from pool_protocol.messages import Kill, Lost, Recall, Recalled, Result, Start, TaskFlag, Watch
from pool_worker import children, linux
from pool_worker.children import Children
from pool_worker.page import AREA, SIZE, Page, Pages

# Only a sleeper is forked here, beside pytest-timeout's thread.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

EMPTY = pickle.dumps(())


def until(condition: Callable[[], Any]) -> Any:
    """Wait for something true; what it was."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return value


def state(pid: int) -> str:
    return linux.state_and_session(pid)[0]


def gone(pid: int) -> bool:
    return state(pid) in ("", "Z")


def started(client: Client) -> int:
    """The last task that worker 1 has started."""
    client.control.send(Recall(1, 0))
    recalled: Recalled = client.control.wait(Recalled)
    return recalled.started


def recall(client: Client, last: int) -> Recalled:
    """Take back what worker 1 has not started, also on a machine too busy to stop it at once."""

    def once() -> Recalled | None:
        client.control.send(Recall(1, last))
        recalled: Recalled = client.control.wait(Recalled)
        return recalled if recalled.last else None

    found: Recalled = until(once)
    return found


def hold(gate: str) -> None:
    """Run until there is a file."""
    until(lambda: os.path.exists(gate))


# -- by themselves


class Sleepers:
    """Starts processes that only sleep, and store what a worker would."""

    def __init__(self, pages: Pages) -> None:
        self.pages = pages
        self.words: dict[int, int] = {}
        self.fails = False

    def start(self, number: int, slot: int, ends: object) -> int:
        if self.fails:
            raise BlockingIOError("no more processes")
        page = Page(self.pages.fd, slot)
        for index, value in self.words.items():
            page.words[index] = value
        page.map[AREA : AREA + 3] = b"abc"
        pid = os.fork()
        if not pid:
            try:
                signal.pause()
            finally:
                os._exit(0)
        return pid


class Bench:
    """Children without a supervisor."""

    def __init__(self) -> None:
        self.pages = Pages()
        self.starter = Sleepers(self.pages)
        self.children = Children(self.starter, self.pages)

    def reaped(self) -> list[Lost]:
        lost: list[Lost] = []
        until(lambda: lost.extend(self.children.reap()) or lost)
        return lost


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    # The test's own process may have other children.
    monkeypatch.setattr(linux, "children", list)
    # The sleepers stop in the end, however busy the machine is.
    monkeypatch.setattr(children, "STOP_WAIT", 20.0)
    monkeypatch.setattr(children, "CPU_WAIT", 20.0)
    bench = Bench()
    yield bench
    bench.children.end()
    bench.children.close()


def test_a_life(bench: Bench) -> None:
    bench.starter.words = {0: 7, 1: 2, 7: AREA + 3}
    assert bench.children.start(1) is None
    assert bench.children.start(1) is None
    assert len(bench.children) == 1 and "[1]" in repr(bench.children)
    assert bench.children.reap() == []
    bench.children.kill(1)
    bench.children.kill(99)
    (lost,) = bench.reaped()
    assert lost.pid > 0
    assert lost == Lost(1, lost.pid, -signal.SIGKILL, 7, 2, "killed", b"abc")
    assert len(bench.children) == 0


def test_one_that_cannot_be_started(bench: Bench) -> None:
    bench.starter.fails = True
    lost = bench.children.start(4)
    assert lost == Lost(4, 0, 0, 0, 0, "could not be started: no more processes")
    bench.starter.fails = False
    assert bench.children.start(4) is None


def test_a_limit_of_the_size_of_files(folder: Path) -> None:
    """The pages grow beyond what ``ulimit -f`` allows: that one cannot be started, others live."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2 * %d, 2 * %d))"
    with Client(folder, before=limit % (SIZE, SIZE)) as client:
        workers = client.start(1, 2)
        for _ in range(2):
            client.control.send(Start([3]))
            lost = client.lost()
            assert (lost.worker, lost.pid) == (3, 0)
            assert "could not be started" in lost.reason and "too large" in lost.reason
        assert [worker.call(os.getpid) for worker in workers] == [worker.pid for worker in workers]
        client.control.send(Kill(1))
        assert client.lost().worker == 1
        client.start(1)  # it has the page of the one that is gone


def test_killed_for_memory(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.children._memory, "killed", lambda: True)
    for number, (signal_number, reason) in enumerate(
        [(signal.SIGKILL, "memory"), (signal.SIGTERM, "")]
    ):
        bench.children.start(number)
        (child,) = bench.children._by_pid
        os.kill(child, signal_number)
        assert [lost.reason for lost in bench.reaped()] == [reason]


def test_recall_marks_the_page(bench: Bench) -> None:
    bench.starter.words = {0: 5, 7: AREA + 3}
    bench.children.start(1)
    assert bench.children.recall(1, 9) == Recalled(1, 5, 9, b"abc")
    words = bench.pages.read(0)
    assert (words.skip_from, words.skip_to) == (5, 9)
    assert bench.children.recall(2, 9) is None


def test_recall_in_the_middle_of_passing_over(bench: Bench) -> None:
    bench.starter.words = {0: 7, 4: 5, 5: 8}
    bench.children.start(1)
    assert bench.children.recall(1, 12) == Recalled(1, 5, 12)
    assert bench.pages.read(0)[4:6] == (5, 12)
    bench.children.recall(1, 3)
    assert bench.pages.read(0)[4:6] == (5, 12)


def test_without_waitid(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "waitid")
    bench.children.start(1)
    assert bench.children.reap() == []
    bench.children.kill(1)
    assert [lost.worker for lost in bench.reaped()] == [1]
    assert bench.children.reap() == []


@pytest.mark.parametrize(("letter", "patience"), [("D", "STOP_WAIT"), ("R", "CPU_WAIT")])
def test_recall_of_one_that_does_not_stop(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, letter: str, patience: str
) -> None:
    bench.children.start(1)
    monkeypatch.setattr(children, patience, 0.0)
    monkeypatch.setattr(linux, "state_and_session", lambda pid: (letter, 0))
    assert bench.children.recall(1, 9) == Recalled(1, 0, 0)
    assert bench.pages.read(0).skip_to == 0


def test_recall_of_one_that_waits_for_a_cpu(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stops when it has one: on a busy machine that takes longer than any system call."""
    bench.children.start(1)
    monkeypatch.setattr(children, "STOP_WAIT", 0.0)
    states = iter("SRRRR")
    monkeypatch.setattr(linux, "state_and_session", lambda pid: (next(states, "T"), 0))
    assert bench.children.recall(1, 9) == Recalled(1, 0, 9)


def test_a_stopped_worker_stays_stopped(bench: Bench) -> None:
    bench.children.start(1)
    (pid,) = bench.children._by_pid
    os.kill(pid, signal.SIGSTOP)
    until(lambda: state(pid) == "T")
    assert bench.children.recall(1, 9) == Recalled(1, 0, 9)
    assert state(pid) == "T"


def test_limits(bench: Bench) -> None:
    bench.starter.words = {0: 5, 2: 1, 3: 1}
    bench.children.start(1)
    bench.starter.words = {0: 6, 2: time.monotonic_ns(), 3: 10**15}
    bench.children.start(2)
    bench.starter.words = {0: 7, 2: 1}
    bench.children.start(3)
    bench.children.check_limits()
    bench.children.check_limits()
    (lost,) = bench.reaped()
    assert (lost.worker, lost.started, lost.reason) == (1, 5, "timeout")


def test_a_call_that_ends_just_in_time_is_spared(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.starter.words = {0: 5, 1: 0, 2: 1, 3: 1}
    bench.children.start(1)
    real = linux.state_and_session

    def finish_first(pid: int) -> tuple[str, int]:
        os.pwrite(bench.pages.fd, (1).to_bytes(8, "little"), 8)
        return real(pid)

    monkeypatch.setattr(linux, "state_and_session", finish_first)
    bench.children.check_limits()
    (pid,) = bench.children._by_pid
    assert bench.children._by_pid[pid].reason == ""
    until(lambda: real(pid)[0] == "S")


# -- in the real program


def test_blame_in_a_batch(client: Client, worker: Worker) -> None:
    good, bad = worker.function(lambda: 1), worker.function(lambda: os._exit(3))
    before = [worker.post(good, EMPTY) for _ in range(10)]
    culprit = worker.post(bad, EMPTY)
    for _ in range(10):
        worker.post(good, EMPTY)
    worker.write()
    lost = client.lost()
    assert (lost.worker, lost.pid, lost.exitcode, lost.started) == (1, worker.pid, 3, culprit)
    results = [r for r in worker.drain() + frames(lost.blob) if isinstance(r, Result)]
    assert [r.id for r in results] == before


@pytest.mark.parametrize("flags", [0, TaskFlag.SEPARATE])
def test_blame_in_a_chunk(client: Client, worker: Worker, flags: int) -> None:
    from pool_protocol.serializers import pack_separate

    items = [0, 1, 2, 3]
    body = pack_separate([pickle.dumps(n) for n in items]) if flags else pickle.dumps(items)
    f = worker.function(lambda n: os.kill(os.getpid(), signal.SIGSEGV) if n == 2 else n)
    id = worker.post(f, body, TaskFlag.CHUNK | flags)
    worker.write()
    lost = client.lost()
    assert (lost.exitcode, lost.started, lost.item) == (-signal.SIGSEGV, id, 2)


def test_nobody_is_blamed_for_an_idle_death(client: Client, worker: Worker) -> None:
    assert worker.call(lambda: 1) == 1
    until(lambda: state(worker.pid) == "S")
    os.kill(worker.pid, signal.SIGKILL)
    lost = client.lost()
    assert (lost.exitcode, lost.started, lost.reason) == (-signal.SIGKILL, 0, "")


def test_a_function_that_crashes_while_unpickled_is_the_tasks(
    client: Client, worker: Worker
) -> None:
    class Crash:
        def __reduce__(self) -> Any:
            return os._exit, (9,)

    f = worker.function(lambda: 1, blob=pickle.dumps(Crash()))
    assert worker.call(lambda: 2) == 2
    id = worker.post(f, EMPTY)
    worker.write()
    lost = client.lost()
    assert (lost.exitcode, lost.started) == (9, id)


def test_kill(client: Client, worker: Worker) -> None:
    id = worker.post(worker.function(time.sleep), pickle.dumps((1000,)))
    worker.write()
    until(lambda: started(client))
    client.control.send(Kill(1), Kill(77))
    lost = client.lost()
    assert (lost.exitcode, lost.started, lost.reason) == (-signal.SIGKILL, id, "killed")


def test_recall(client: Client, worker: Worker, folder: Path) -> None:
    gate = folder / "gate"
    ids = [worker.post(worker.function(hold), pickle.dumps((str(gate),)))]
    f = worker.function(lambda n: n)
    ids += [worker.post(f, pickle.dumps((n,))) for n in range(5)]
    worker.write()
    until(lambda: started(client))
    recalled = recall(client, ids[3])
    assert (recalled.worker, recalled.started, recalled.last) == (1, ids[0], ids[3])
    gate.touch()
    results = [worker.wait(Result) for _ in range(3)]
    assert [r.id for r in results] == [ids[0], *ids[4:]]
    assert [unpack(r) for r in results] == [None, 3, 4]
    assert recall(client, ids[-1]).started == ids[-1]
    assert worker.call(lambda: "next") == "next"


def test_recall_gives_what_was_gathered(client: Client, worker: Worker) -> None:
    quick, slow = worker.function(lambda: 1), worker.function(time.sleep)
    ids = [worker.post(quick, EMPTY), worker.post(slow, pickle.dumps((1000,)))]
    worker.write()
    until(lambda: started(client) == ids[1])
    seen = frames(recall(client, ids[1]).blob) or [worker.wait(Result)]
    assert [r.id for r in seen if isinstance(r, Result)] == ids[:1]


def test_watch(client: Client) -> None:
    one, two = client.start(1, 2)
    client.control.send(Watch(True))
    sleep = one.function(time.sleep)
    good = one.post(sleep, pickle.dumps((0.01,)), timeout=100)
    bad = one.post(sleep, pickle.dumps((1000,)), timeout=0.1)
    one.write()
    lost = client.lost()
    assert (lost.worker, lost.started, lost.item, lost.reason) == (1, bad, 0, "timeout")
    assert one.wait(Result).id == good
    client.control.send(Watch(False))
    client.sync()
    assert two.call(time.sleep, 0.1, timeout=0.01) is None


def test_each_item_of_a_chunk_has_the_whole_time(worker: Worker) -> None:
    def start_ns(item: int) -> int:
        import gc

        from pool_worker.page import START_NS, Page

        time.sleep(0.001)
        (page,) = (each for each in gc.get_objects() if isinstance(each, Page))
        return page.words[START_NS]

    starts = worker.chunk(start_ns, range(5), timeout=1000)
    assert starts == sorted(set(starts)) and len(starts) == 5


def test_a_chunks_overdue_item(client: Client, worker: Worker, folder: Path) -> None:
    sign = str(folder / "third")

    def step(seconds: int) -> None:
        if seconds:
            open(sign, "x").close()
        time.sleep(seconds)

    body = int(0.05e9).to_bytes(8, "little") + pickle.dumps([0, 0, 1000, 0])
    id = worker.post(worker.function(step), body, TaskFlag.CHUNK | TaskFlag.TIMED)
    worker.write()
    # Watched from here on, so that the items before have all the time in the world.
    until(lambda: os.path.exists(sign))
    client.control.send(Watch(True))
    lost = client.lost()
    assert (lost.started, lost.item, lost.reason) == (id, 2, "timeout")


def test_a_stopped_worker_is_overdue_too(client: Client, worker: Worker) -> None:
    client.control.send(Watch(True))

    def stop() -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    id = worker.post(worker.function(stop), EMPTY, timeout=0.2)
    worker.write()
    lost = client.lost()
    assert (lost.started, lost.reason) == (id, "timeout")


def leave_behind() -> list[int]:
    import subprocess

    shell = ["sh", "-c", "(sleep 1000 >/dev/null 2>&1 & echo $!)"]
    plain = subprocess.Popen(["sleep", "1000"])
    session = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    orphan = subprocess.run(shell, stdout=subprocess.PIPE).stdout
    demon = subprocess.run(shell, stdout=subprocess.PIPE, start_new_session=True).stdout
    return [plain.pid, session.pid, int(orphan), int(demon)]


def test_leftovers_end_with_their_worker(client: Client) -> None:
    one, two = client.start(1, 2)
    pids = one.call(leave_behind)
    others = two.call(leave_behind)
    assert not any(map(gone, pids + others))
    one.retire()
    client.lost()
    until(lambda: all(map(gone, pids)))
    # A living worker's stay, except for one that hides whose it is.
    assert not any(map(gone, others[:3]))
    os.kill(two.pid, signal.SIGKILL)
    client.lost()
    until(lambda: all(map(gone, others)))


def test_leftovers_end_with_the_supervisor(client: Client, worker: Worker) -> None:
    pids = worker.call(leave_behind)
    client.process.send_signal(signal.SIGTERM)
    assert client.process.wait(PATIENCE) == 0
    until(lambda: all(map(gone, [worker.pid, *pids])))
