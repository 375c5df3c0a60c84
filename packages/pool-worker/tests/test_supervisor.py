"""pool_worker.supervisor: obeys its client, and ends with it."""

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from driver import PATIENCE, Client, Worker
from test_children import gone, state, until

from pool_protocol.messages import HostReady, Kill, Lost, Ping, Pong, Start, Stop
from pool_worker import __version__, machine

#: The program's clock goes ahead at a signal, and the wait that this breaks off finds nothing.
CLOCK = """
import os, selectors, signal, time, types
from pool_worker import supervisor

ahead = []
wait = selectors.DefaultSelector.select

def jump(*_):
    ahead.append(2000)
    os.write(2, b"jumped\\n")

def select(self, timeout=None):
    before = len(ahead)
    found = wait(self, timeout)
    return found if len(ahead) == before else []

selectors.DefaultSelector.select = select
supervisor.time = types.SimpleNamespace(monotonic=lambda: time.monotonic() + sum(ahead))
signal.signal(signal.SIGUSR1, jump)
"""


def jump(client: Client) -> None:
    """Let 2000 seconds pass for the program."""
    assert client.process.stderr is not None
    client.process.send_signal(signal.SIGUSR1)
    assert client.process.stderr.readline() == b"jumped\n"


def hold_the_gil(sign: str) -> None:
    import ctypes

    call = ctypes.PyDLL(None).sleep
    open(sign, "x").close()
    # PyDLL keeps the interpreter's lock during the call.
    call(1000)


def busy(worker: Worker) -> None:
    """Let a worker hold the interpreter's lock."""
    with tempfile.TemporaryDirectory() as folder:
        sign = f"{folder}/sign"
        worker.post(worker.function(hold_the_gil), pickle.dumps((sign,)))
        worker.write()
        until(lambda: os.path.exists(sign))
        until(lambda: state(worker.pid) == "S")


def test_the_greeting(client: Client) -> None:
    hello: HostReady = client.hello
    assert hello.pid == client.process.pid
    assert (hello.host, hello.version) == ("local", __version__)
    assert hello.python.split(".")[:2] == [str(n) for n in sys.version_info[:2]]
    assert hello.cpus == machine.cpus()
    assert hello.memory == machine.memory() > 1 << 20


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
    nobody = int(Path("/proc/sys/kernel/pid_max").read_text())  # all process ids are below
    with pytest.raises((EOFError, ConnectionError)), Client(folder, client_pid=nobody):
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


@pytest.mark.parametrize("end", ["stop", "signal", "stdin", "early"])
def test_its_socket_is_removed(folder: Path, end: str) -> None:
    with Client(folder, unlink=True) as client:
        assert Path(client.address).exists()
        if end == "stop":
            client.control.send(Stop())
        elif end == "signal":
            client.process.send_signal(signal.SIGTERM)
        elif end == "early":
            client.control.socket.close()
        else:
            assert client.process.stdin is not None
            client.process.stdin.close()
        assert client.process.wait(PATIENCE) == 0
        assert not Path(client.address).exists()


def test_the_socket_of_a_client_that_cannot_be_reached_is_removed_too(folder: Path) -> None:
    path = folder / "socket"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "pool_worker", "--launch"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(settings(str(path), unlink=True))
        process.stdin.flush()
        assert process.wait(PATIENCE) == 1
        assert b"refused" in process.stderr.read()
    assert not path.exists()


def test_other_sockets_stay(folder: Path) -> None:
    with Client(folder) as client:
        client.control.send(Stop())
        assert client.process.wait(PATIENCE) == 0
        assert Path(client.address).exists()


def test_a_silent_client(folder: Path) -> None:
    with Client(folder, before=CLOCK, lease=1000) as client:
        (worker,) = client.start(1)
        busy(worker)
        jump(client)
        assert client.process.wait(PATIENCE) == 0
        assert gone(worker.pid)
        assert "silent for 1000 s" in client.finish()


def test_a_lease_that_is_renewed(folder: Path) -> None:
    with Client(folder, before=CLOCK, lease=3000) as client:
        for _ in range(3):
            jump(client)
            client.sync()


def test_a_lease_whose_holder_was_stopped(folder: Path) -> None:
    """What the client had said meanwhile counts."""
    with Client(folder, before=CLOCK, lease=1000) as client:
        client.sync()
        until(lambda: state(client.process.pid) == "S")
        client.process.send_signal(signal.SIGSTOP)
        until(lambda: state(client.process.pid) == "T")
        client.control.send(Ping(1))
        client.process.send_signal(signal.SIGUSR1)
        client.process.send_signal(signal.SIGCONT)
        assert client.control.wait(Pong)
        client.sync()


def test_no_lease(folder: Path) -> None:
    with Client(folder, before=CLOCK) as client:
        jump(client)
        client.sync()


def test_more_than_the_cap(folder: Path) -> None:
    with Client(folder, max_workers=2) as client:
        assert client.hello.cpus == min(2, machine.cpus())
        client.control.send(Start([1, 2, 3]))
        lost = client.lost()
        assert (lost.worker, lost.pid) == (3, 0) and "--max-workers" in lost.reason
        peers = {peer.connection.identity: peer for peer in (client.accept(), client.accept())}
        assert {identity.worker for identity in peers if identity is not None} == {1, 2}
        client.control.send(Start([5]))
        assert client.lost().worker == 5
        client.control.send(Kill(1))
        assert client.lost().worker == 1
        client.control.send(Start([4]))
        peer = client.accept()
        assert peer.connection.identity is not None and peer.connection.identity.worker == 4
        for each in (*peers.values(), peer):
            each.socket.close()


def settings(address: str, **changes: Any) -> bytes:
    values = {"address": address, "launch": "00" * 8, "token": "11" * 32} | changes
    return json.dumps(values).encode() + b"\n"


def launch(data: bytes) -> "subprocess.CompletedProcess[bytes]":
    """Run the program to its end, with its standard input open."""
    command = [sys.executable, "-P", "-m", "pool_worker", "--launch"]
    reader, writer = os.pipe()
    try:
        os.write(writer, data)
        return subprocess.run(command, stdin=reader, capture_output=True, timeout=PATIENCE)
    finally:
        os.close(reader)
        os.close(writer)


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
            assert process.wait(PATIENCE) == 0
            _, errors = process.communicate()
        assert b"does not know the token" in errors


def test_the_loop_is_light(client: Client) -> None:
    """No event loop of asyncio's, and nothing measurable while nothing happens."""
    client.start(1, 2)
    maps = Path(f"/proc/{client.process.pid}/maps").read_text()
    assert "_asyncio" not in maps and "uvloop" not in maps

    def ticks() -> int:
        fields = Path(f"/proc/{client.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    client.sync()
    before = ticks()
    time.sleep(0.3)
    assert ticks() - before <= 1
