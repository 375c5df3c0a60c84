"""The whole program over TLS: what differs from a Unix socket is felt here."""

import asyncio
import os
import pickle
import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from credentials import make_credential, server_context
from driver import PATIENCE, Client, Worker, frames, unpack
from test_asynchronous import give
from test_children import gone, until
from test_supervisor import busy, launch, settings

from pool_protocol import LoopType
from pool_protocol.messages import Cancel, Ping, Pong, Ready, Result, Setup, Stop

EMPTY = pickle.dumps(())


@pytest.fixture
def client(lan_client: Client) -> Client:
    return lan_client


@pytest.fixture(params=[LoopType.asyncio, LoopType.uvloop])
def awaiting(client: Client, request: pytest.FixtureRequest) -> Worker:
    """A worker whose loop runs already."""
    if request.param is LoopType.uvloop:
        pytest.importorskip("uvloop")
    (worker,) = client.start(1, setup=Setup(1, 0, request.param, None))
    worker.pid = worker.wait(Ready).pid
    return worker


def test_tasks(worker: Worker) -> None:
    f = worker.function(lambda n: n * n)
    ids = [worker.post(f, pickle.dumps((n,))) for n in range(3000)]
    worker.write()
    results: list[Result] = [worker.wait(Result) for _ in ids]
    assert [(r.id, unpack(r)) for r in results] == [(id, n * n) for n, id in enumerate(ids)]


def test_large_values(worker: Worker) -> None:
    data = os.urandom(20_000_000)
    assert worker.call(lambda x: x, data) == data
    assert worker.call(lambda x: [x, 1], data) == [data, 1]
    assert worker.call(lambda x: pickle.PickleBuffer(bytearray(x)), data) == data


def batch(worker: Worker) -> list[int]:
    """Tasks of which the first is large, and the others share its last record."""
    f = worker.function(lambda data, n: give(n))
    ids = [worker.post(f, pickle.dumps((bytes(200_000), 0)))]
    ids += [worker.post(f, pickle.dumps((b"", n))) for n in range(1, 5)]
    worker.socket.sendall(b"".join(map(bytes, worker.connection.take())))
    return ids


def test_what_was_decrypted_with_the_first_awaited_task(awaiting: Worker) -> None:
    for _ in range(2):  # once entering the loop, once in it
        ids = batch(awaiting)
        results = [awaiting.wait(Result) for _ in ids]
        assert [r.id for r in results] == ids
        assert [unpack(r) for r in results] == list(range(5))


def test_awaited_large_values(awaiting: Worker) -> None:
    data = os.urandom(5_000_000)
    assert awaiting.call(give, data) == data
    assert awaiting.call(lambda x: x, data) == data
    assert awaiting.call(give, data) == data


def test_cancelled_while_awaited(awaiting: Worker) -> None:
    awaiting.call(give, 1)
    id = awaiting.post(awaiting.function(asyncio.sleep), pickle.dumps((1000,)))
    awaiting.write()
    awaiting.send(Cancel(id))
    assert awaiting.wait(Result).id == id
    assert awaiting.call(give, 2) == 2


def test_results_that_were_not_sent(client: Client, worker: Worker) -> None:
    good, bad = worker.function(lambda: 1), worker.function(lambda: os._exit(3))
    before = [worker.post(good, EMPTY) for _ in range(10)]
    culprit = worker.post(bad, EMPTY)
    worker.write()
    lost = client.lost()
    assert (lost.exitcode, lost.started) == (3, culprit)
    results = [r for r in worker.drain() + frames(lost.blob) if isinstance(r, Result)]
    assert [r.id for r in results] == before


def test_a_forked_child_does_not_hold_the_connection(client: Client, worker: Worker) -> None:
    from test_process import test_a_forked_child_does_not_hold_the_connection as check

    check(worker)


def test_it_has_nothing_of_the_supervisors(worker: Worker) -> None:
    assert worker.call(lambda: len(os.listdir("/proc/self/fd"))) <= 6


@pytest.mark.parametrize("end", ["stop", "term", "stdin", "control", "reset"])
def test_the_end(client: Client, end: str) -> None:
    workers = client.start(1, 2)
    busy(workers[0])
    if end == "stop":
        client.control.send(Stop())
    elif end == "term":
        client.process.send_signal(signal.SIGTERM)
    elif end == "stdin":
        assert client.process.stdin is not None
        client.process.stdin.close()
    else:
        if end == "reset":
            linger = struct.pack("ii", 1, 0)
            client.control.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        client.control.socket.close()
    assert client.process.wait(PATIENCE) == 0
    assert all(gone(worker.pid) for worker in workers)


def test_the_end_of_a_task_connection(client: Client, worker: Worker) -> None:
    worker.socket.close()
    assert client.lost().exitcode == 0


def test_a_busy_worker_is_no_dead_worker(client: Client, worker: Worker) -> None:
    """Megabytes wait for a worker that does not read, and the supervisor answers."""
    worker.post(worker.function(time.sleep), pickle.dumps((0.5,)))
    worker.write()
    f = worker.function(len)
    ids = [worker.post(f, pickle.dumps((bytes(1_000_000),))) for _ in range(20)]
    worker.write()
    client.control.send(Ping(1))
    assert client.control.wait(Pong).number == 1
    assert unpack(worker.wait(Result)) is None
    assert [worker.wait(Result).id for _ in ids] == ids


def test_spawned_workers(folder: Path, credential: Path) -> None:
    with Client(folder, ["--start-method", "spawn"], credential=str(credential)) as client:
        one, two = client.start(1, 2)
        assert one.call(os.getpid) == one.pid != two.call(os.getpid)


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[str]:
    yield str(make_credential(tmp_path / "stranger.pem"))


def test_a_stranger_listens(credential: Path, stranger: str) -> None:
    from test_tls import listening

    with listening(server_context(Path(stranger))) as address:
        done = launch(settings(address, credential=str(credential)))
    assert done.returncode == 1
    assert b"not among those accepted" in done.stderr and b"Traceback" not in done.stderr


def test_credentials_that_cannot_be_used(tmp_path: Path, credential: Path) -> None:
    bad = tmp_path / "open.pem"
    bad.write_bytes(credential.read_bytes())
    bad.chmod(0o640)
    for path, named in ((bad, b"chmod 600"), (tmp_path / "none.pem", b"there is no credential")):
        done = launch(settings("tls://127.0.0.1:9", credential=str(path)))
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert named in line


def test_nobody_listens(credential: Path, nobodys_port: int) -> None:
    done = launch(settings(f"tls://127.0.0.1:{nobodys_port}", credential=str(credential)))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert b"cannot start" in line and b"refused" in line


def test_the_key_is_nowhere_to_be_seen(client: Client, worker: Worker, credential: Path) -> None:
    secret = credential.read_text().splitlines()[1].encode()
    for pid in (client.process.pid, worker.pid):
        for name in ("cmdline", "environ"):
            assert secret not in Path(f"/proc/{pid}/{name}").read_bytes()


def test_an_initializer_that_awaits(client: Client) -> None:
    async def prepare(value: Any) -> None:
        await asyncio.sleep(0)
        os.environ["PREPARED"] = value

    blob = cloudpickle.dumps((prepare, ("yes",)))
    (worker,) = client.start(1, setup=Setup(1, 0, LoopType.asyncio, None, blob))
    worker.wait(Ready)
    assert worker.call(lambda: os.environ["PREPARED"]) == "yes"


def test_everything_ends_with_a_killed_supervisor(client: Client, worker: Worker) -> None:
    busy(worker)
    client.process.kill()
    client.process.wait()
    until(lambda: gone(worker.pid))
