"""pool_worker.joining: started by hand, with this test as the pool that listens."""

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from credentials import make_credential, server_context, tcp_listener
from driver import PATIENCE, Peer, Worker
from test_children import gone, until

from pool_protocol import PickleType, Role
from pool_protocol.handshake import OPEN_LAUNCH, OPEN_TOKEN
from pool_protocol.messages import (
    HostReady,
    Join,
    Leaving,
    Lost,
    Ping,
    Pong,
    Ready,
    Result,
    Setup,
    Start,
    Stop,
    Welcome,
)


class Pool:
    """A pool that listens."""

    def __init__(self, credential: Path) -> None:
        self.context = server_context(credential)
        self.listener = tcp_listener()
        self.port = self.listener.getsockname()[1]
        self.token, self.launch = os.urandom(32), os.urandom(8)
        self.peers: list[Worker] = []

    def accept(self, role: Role) -> Worker:
        sock, _ = self.listener.accept()
        sock.settimeout(PATIENCE)
        tls = self.context.wrap_socket(sock, server_side=True)
        peer = Worker(tls, {self.launch: self.token, OPEN_LAUNCH: OPEN_TOKEN})
        self.peers.append(peer)
        assert peer.connection.role is role
        return peer

    def welcome(self, **settings: Any) -> tuple[Join, Worker]:
        """Take a machine in: what it said, and its control connection."""
        peer = self.accept(Role.JOIN)
        join: Join = peer.wait(Join)
        peer.send(Welcome(self.settings(**settings)))
        assert peer.drain() == []
        control = self.accept(Role.CONTROL)
        control.hello = control.wait(HostReady)  # type: ignore[attr-defined]  # for the tests
        return join, control

    def settings(self, **settings: Any) -> bytes:
        values = {"address": "", "launch": self.launch.hex(), "token": self.token.hex()}
        return json.dumps(values | settings).encode()

    def start(self, control: Worker, *numbers: int) -> list[Worker]:
        control.send(Start(list(numbers)))
        workers = [self.accept(Role.TASK) for _ in numbers]
        for worker in workers:
            worker.send(Setup(PickleType.cloudpickle, PickleType.pickle, 0, None))
            worker.pid = worker.wait(Ready).pid
        return workers

    def close(self) -> None:
        self.listener.close()
        for peer in self.peers:
            peer.socket.close()


class Program:
    """The program, joined by hand."""

    def __init__(self, port: int, credential: Path, *flags: str) -> None:
        command = [sys.executable, "-P", "-m", "pool_worker", "--connect", f"127.0.0.1:{port}"]
        command += ["--credential", str(credential), *flags]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)

    def says(self, text: str) -> bool:
        return any(text in line for line in self.lines)

    def catches(self, number: int) -> bool:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
        return bool(int(mask, 16) >> (number - 1) & 1)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        code = self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        return code

    def close(self) -> None:
        self.process.kill()
        self.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture
def pool(credential: Path) -> Iterator[Pool]:
    pool = Pool(credential)
    yield pool
    pool.close()


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    programs: list[Program] = []
    yield programs
    for program in programs:
        program.close()


@pytest.fixture
def program(pool: Pool, credential: Path, programs: list[Program]) -> Program:
    programs.append(Program(pool.port, credential, "-n", "2", "--host-name", "here"))
    return programs[0]


def test_it_joins_and_works(pool: Pool, program: Program) -> None:
    join, control = pool.welcome(host="here", share=1)
    assert (join.host, join.pid, join.workers) == ("here", program.process.pid, 2)
    hello: HostReady = control.hello  # type: ignore[attr-defined]
    assert (hello.host, hello.pid) == ("here", join.pid)
    one, two = pool.start(control, 1, 2)
    assert one.call(os.getpid) == one.pid
    assert two.call(os.getppid) == join.pid
    control.send(Ping(4))
    assert control.wait(Pong).number == 4
    until(lambda: program.says("joined tls://127.0.0.1"))


def test_workers_as_fresh_processes(pool: Pool, credential: Path, programs: list[Program]) -> None:
    programs.append(Program(pool.port, credential, "--start-method", "spawn"))
    _, control = pool.welcome()
    (worker,) = pool.start(control, 1)
    assert worker.call(os.getpid) == worker.pid


def test_leaving_in_peace(pool: Pool, program: Program) -> None:
    _, control = pool.welcome()
    (worker,) = pool.start(control, 1)
    id = worker.post(worker.function(time.sleep), pickle.dumps((0.3,)))
    worker.write()
    program.signal(signal.SIGTERM)
    control.wait(Leaving)
    results = worker.retire()
    assert [r.id for r in results if isinstance(r, Result)] == [id]
    assert control.wait(Lost).exitcode == 0
    control.send(Stop())
    assert program.wait() == 0
    assert program.says("left")


@pytest.mark.parametrize(
    "numbers", [[signal.SIGTERM, signal.SIGTERM], [signal.SIGINT], [signal.SIGHUP]]
)
def test_leaving_at_once(pool: Pool, program: Program, numbers: Sequence[int]) -> None:
    _, control = pool.welcome()
    (worker,) = pool.start(control, 1)
    worker.post(worker.function(time.sleep), pickle.dumps((1000,)))
    worker.write()
    program.signal(numbers[0])
    for number in numbers[1:]:
        control.wait(Leaving)
        program.signal(number)
    assert program.wait() == 0
    assert gone(worker.pid)


def test_leaving_before_it_has_really_joined(pool: Pool, program: Program) -> None:
    """The pool's loop is blocked in the middle of the handshake."""
    peer = pool.accept(Role.JOIN)
    peer.wait(Join)
    peer.send(Welcome(pool.settings()))
    peer.drain()
    sock, _ = pool.listener.accept()
    tls = pool.context.wrap_socket(sock, server_side=True)
    until(lambda: program.catches(signal.SIGCHLD))
    program.signal(signal.SIGTERM)
    control = Worker(tls, {pool.launch: pool.token})
    pool.peers.append(control)
    control.wait(HostReady)
    control.wait(Leaving)
    control.send(Stop())
    assert program.wait() == 0


def test_two_signals_that_arrive_together(pool: Pool, program: Program) -> None:
    _, control = pool.welcome()
    control.send(Ping(1))
    control.wait(Pong)
    program.signal(signal.SIGTERM)
    program.signal(signal.SIGINT)
    assert program.wait() == 0


def test_the_pool_goes_while_it_leaves(pool: Pool, program: Program) -> None:
    _, control = pool.welcome()
    program.signal(signal.SIGTERM)
    control.wait(Leaving)
    control.socket.close()
    assert program.wait() == 0


def test_it_joins_the_next_pool(pool: Pool, program: Program) -> None:
    counts = []
    for _ in range(3):
        pool.token, pool.launch = os.urandom(32), os.urandom(8)
        _, control = pool.welcome(output=True)
        (worker,) = pool.start(control, 1)
        assert worker.call(os.getpid) == worker.pid
        control.send(Ping(1))
        control.wait(Pong)  # it has let go of what it needed to start the worker
        counts.append(len(os.listdir(f"/proc/{program.process.pid}/fd")))
        control.socket.close()
        until(lambda pid=worker.pid: gone(pid))  # type: ignore[misc]
    assert len(set(counts)) == 1  # nothing is left of the pools before
    until(lambda: program.says("the pool has gone"))
    program.signal(signal.SIGTERM)
    assert program.wait() == 0


def test_surroundings_are_those_of_the_pool(pool: Pool, program: Program) -> None:
    from pool_worker import machine

    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    for share in (1, 10_000, 0):
        _, control = pool.welcome(share=share)
        (worker,) = pool.start(control, 1)
        want = {1: str(machine.cpus()), 10_000: "1", 0: None}[share]
        for name in names:
            if name not in os.environ:
                assert worker.call(os.getenv, name) == want
        control.send(Stop())
        control.drain()


def test_a_pool_that_comes_later(credential: Path, programs: list[Program]) -> None:
    pool = Pool(credential)
    pool.listener.close()
    # Bound, so that the port is ours, but nobody is let in yet.
    pool.listener = socket.socket()
    pool.listener.bind(("127.0.0.1", 0))
    port = pool.listener.getsockname()[1]
    programs.append(program := Program(port, credential, "-n", "1"))
    until(lambda: program.says("cannot join"))
    pool.listener.listen()
    pool.listener.settimeout(PATIENCE)
    try:
        assert pool.welcome()[0].workers == 1
    finally:
        pool.close()


def test_a_signal_while_there_is_no_pool(
    credential: Path, programs: list[Program], nobodys_port: int
) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        programs.append(program := Program(nobodys_port, credential))
        until(lambda p=program: p.says("cannot join"))  # type: ignore[misc]
        program.signal(number)
        assert program.wait() == 0
        assert "Traceback" not in "".join(program.lines)


def test_a_signal_while_nobody_answers(pool: Pool, program: Program) -> None:
    """In the middle of the TLS handshake, and of the wait for the Welcome."""
    sock, _ = pool.listener.accept()
    with sock:
        program.signal(signal.SIGTERM)
        assert program.wait() == 0


def test_a_signal_while_it_waits_for_its_settings(pool: Pool, program: Program) -> None:
    pool.accept(Role.JOIN).wait(Join)
    program.signal(signal.SIGTERM)
    assert program.wait() == 0


@pytest.mark.parametrize("seconds", ["0", "0.3"])
def test_giving_up(
    credential: Path, programs: list[Program], nobodys_port: int, seconds: str
) -> None:
    programs.append(program := Program(nobodys_port, credential, "--retry", seconds))
    assert program.wait() == 1
    assert program.says("refused") and program.says("given up")


def test_refused_and_taken_in_later(pool: Pool, program: Program) -> None:
    for _ in range(4):
        peer = pool.accept(Role.JOIN)
        peer.wait(Join)
        peer.socket.close()
    bad = pool.accept(Role.JOIN)
    bad.wait(Join)
    bad.send(Welcome(b"nonsense"))
    bad.drain()
    assert pool.welcome()[0].workers == 2
    until(lambda: program.says("unusable settings"))
    # A reason that lasts is told once.
    assert sum("has closed the connection" in line for line in program.lines) == 1


def test_a_pool_that_turns_it_away_at_once_is_not_pestered(pool: Pool, program: Program) -> None:
    times = []
    for _ in range(4):
        _, control = pool.welcome()
        times.append(time.monotonic())
        control.send(Stop())
    assert times[3] - times[2] > 0.3


def test_a_credential_of_another_group(pool: Pool, tmp_path: Path, programs: list[Program]) -> None:
    other = make_credential(tmp_path / "other.pem")
    programs.append(program := Program(pool.port, other, "--retry", "0"))
    sock, _ = pool.listener.accept()
    with sock, pytest.raises(OSError, match=r"(?i)ssl|tls|eof|reset"):
        pool.context.wrap_socket(sock, server_side=True).recv(1)
    assert program.wait() == 1
    assert program.says("copy the group's credential")


def test_no_credential(tmp_path: Path, programs: list[Program], nobodys_port: int) -> None:
    programs.append(program := Program(nobodys_port, tmp_path / "nothing"))
    assert program.wait() == 2
    (line,) = program.lines
    assert line.startswith("pool-worker: there is no credential")


def test_a_hangup_that_nohup_ignores(pool: Pool, credential: Path) -> None:
    command = [sys.executable, "-P", "-m", "pool_worker", "--connect", f"127.0.0.1:{pool.port}"]
    command += ["--credential", str(credential)]
    null = subprocess.DEVNULL
    process = subprocess.Popen(["nohup", *command], stdin=null, stdout=null, stderr=null)
    try:
        _, control = pool.welcome()
        process.send_signal(signal.SIGHUP)
        control.send(Ping(1))
        assert control.wait(Pong).number == 1
    finally:
        process.kill()
        process.wait()


def test_the_credential_is_read_anew(
    pool: Pool, tmp_path: Path, credential: Path, programs: list[Program]
) -> None:
    own = tmp_path / "own.pem"
    own.write_bytes(credential.read_bytes())
    own.chmod(0o600)
    programs.append(Program(pool.port, own))
    _, control = pool.welcome()
    renewed = make_credential(tmp_path / "renewed.pem")
    os.replace(renewed, own)
    pool.context = server_context(own)
    control.send(Stop())
    assert pool.welcome()


def test_nothing_secret_is_shown(pool: Pool, program: Program, credential: Path) -> None:
    _, control = pool.welcome()
    (worker,) = pool.start(control, 1)
    secrets = [pool.token.hex().encode(), credential.read_text().splitlines()[1].encode()]
    for pid in (program.process.pid, worker.pid):
        for name in ("cmdline", "environ"):
            data = Path(f"/proc/{pid}/{name}").read_bytes()
            assert not any(secret in data for secret in secrets)
    program.signal(signal.SIGINT)
    program.wait()
    assert not any(secret.decode() in "".join(program.lines) for secret in secrets)


def test_peers_are_what_they_say(pool: Pool, program: Program) -> None:
    join: Peer = pool.accept(Role.JOIN)
    identity = join.connection.identity
    assert identity is not None
    assert (identity.launch, identity.worker) == (OPEN_LAUNCH, 0)
