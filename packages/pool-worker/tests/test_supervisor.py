"""pool_worker.supervisor: obeys its client, and ends with it."""

import json
import pickle
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from driver import PATIENCE, Client, Worker
from test_children import gone, until

from pool_protocol.messages import HostReady, Kill, Lost, Ping, Pong, Start, Stop
from pool_worker import __version__, linux


def hold_the_gil() -> None:
    import ctypes

    # PyDLL keeps the interpreter's lock during the call.
    ctypes.PyDLL(None).sleep(1000)


def busy(worker: Worker) -> None:
    """Let a worker hold the interpreter's lock."""
    worker.post(worker.function(hold_the_gil), pickle.dumps(()))
    worker.write()
    until(lambda: linux.state_and_session(worker.pid)[0] == "S")
    time.sleep(0.05)


def test_the_greeting(client: Client) -> None:
    hello: HostReady = client.hello
    assert hello.pid == client.process.pid
    assert (hello.host, hello.version) == ("local", __version__)
    assert hello.python.split(".")[:2] == [str(n) for n in sys.version_info[:2]]
    assert hello.cpus >= 1


def test_ping(client: Client) -> None:
    client.control.send(Ping(5), Ping(6))
    assert [client.control.wait(Pong).number for _ in range(2)] == [5, 6]


def test_many_workers_and_an_answer_in_between(client: Client) -> None:
    client.control.send(Start(list(range(1, 41))))
    client.control.send(Ping(1))
    assert client.control.wait(Pong).number == 1
    pids = set()
    for _ in range(40):
        worker = client.accept()
        assert worker.connection.identity is not None
        client.workers[worker.connection.identity.worker] = worker
    assert set(client.workers) == set(range(1, 41))
    client.workers[3].socket.close()
    pids.add(client.lost().pid)
    assert len(pids) == 1


def test_kill_before_the_start(client: Client) -> None:
    client.control.connection.send(Start(list(range(1, 201))))
    client.control.connection.send(Kill(200))
    client.control.write()
    lost: Lost = client.lost()
    assert (lost.worker, lost.reason) == (200, "killed")


def test_stop(client: Client) -> None:
    workers = client.start(1, 2)
    busy(workers[0])
    client.control.send(Stop())
    assert client.process.wait(PATIENCE) == 0
    assert all(gone(worker.pid) for worker in workers)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it(client: Client, worker: Worker, number: int) -> None:
    client.process.send_signal(number)
    assert client.process.wait(PATIENCE) == 0
    assert gone(worker.pid)


def test_an_interrupt_does_not(client: Client, worker: Worker) -> None:
    client.process.send_signal(signal.SIGINT)
    assert worker.call(lambda: 1) == 1
    client.control.send(Ping(1))
    assert client.control.wait(Pong).number == 1


def test_the_end_of_standard_input(client: Client, worker: Worker) -> None:
    busy(worker)
    client.say(b"something that nobody expects\n")
    client.control.send(Ping(1))
    assert client.control.wait(Pong).number == 1
    assert client.process.stdin is not None
    client.process.stdin.close()
    assert client.process.wait(PATIENCE) == 0
    assert gone(worker.pid)


def test_the_end_of_the_control_connection(client: Client, worker: Worker) -> None:
    busy(worker)
    client.control.socket.close()
    assert client.process.wait(PATIENCE) == 0
    assert gone(worker.pid)


def test_the_end_of_the_client(folder: Path) -> None:
    """Our pipes stay open, as a forked child of the client would keep them."""
    other = subprocess.Popen(["sleep", "1000"])
    try:
        with Client(folder, client_pid=other.pid) as client:
            (worker,) = client.start(1)
            busy(worker)
            other.kill()
            other.wait()
            assert client.process.wait(PATIENCE) == 0
            assert gone(worker.pid)
    finally:
        other.kill()


def test_a_client_that_is_gone_already(folder: Path) -> None:
    other = subprocess.Popen(["true"])
    other.wait()
    with pytest.raises((EOFError, ConnectionError)), Client(folder, client_pid=other.pid):
        pass


def test_a_killed_supervisor_takes_its_workers_along(client: Client) -> None:
    workers = client.start(1, 2)
    busy(workers[0])
    client.process.kill()
    client.process.wait()
    until(lambda: all(gone(worker.pid) for worker in workers))


def test_a_broken_message_ends_it(client: Client) -> None:
    client.control.socket.sendall(b"\xff" * 100)
    assert client.process.wait(PATIENCE) == 0
    assert "claims" in client.finish()


def settings(address: str, **changes: Any) -> bytes:
    values = {"address": address, "launch": "00" * 8, "token": "11" * 32} | changes
    return json.dumps(values).encode() + b"\n"


def launch(data: bytes) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-P", "-m", "pool_worker", "--launch"],
        input=data,
        capture_output=True,
        timeout=PATIENCE,
    )


def test_nobody_listens(folder: Path) -> None:
    done = launch(settings(str(folder / "nothing")))
    assert done.returncode == 1
    assert b"cannot start" in done.stderr and b"11111" not in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_working_directory_that_is_not_there(folder: Path) -> None:
    done = launch(settings(str(folder / "x"), cwd=str(folder / "nothing")))
    assert done.returncode == 1
    assert b"cannot start" in done.stderr and b"nothing" in done.stderr


def test_a_listener_with_another_token(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pool_worker", "--launch"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdin is not None
        process.stdin.write(settings(str(folder / "socket")))
        process.stdin.flush()
        sock, _ = listener.accept()
        with sock:
            sock.recv(1000)
            sock.sendall(b"poolwire\1\0\0" + bytes(65))
            _, errors = process.communicate(timeout=PATIENCE)
        assert b"does not know the token" in errors


def test_the_loop_is_light(client: Client) -> None:
    """No event loop of asyncio's, and nothing measurable while nothing happens."""
    client.start(1, 2)
    maps = Path(f"/proc/{client.process.pid}/maps").read_text()
    assert "_asyncio" not in maps and "uvloop" not in maps

    def ticks() -> int:
        fields = Path(f"/proc/{client.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(0.3)
    assert ticks() - before <= 1
