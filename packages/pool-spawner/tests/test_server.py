"""The server as a process: clients, their turns, signals, credentials that change."""

import contextlib
import errno
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from running import (
    PATIENCE,
    PATIENT,
    Client,
    Spawner,
    command_line,
    context,
    descriptors,
    is_alive,
    wait_until,
)

from pool_protocol.messages import Spawned, SpawnEnded, SpawnQueued, Stop
from pool_spawner import server
from pool_spawner.credential import fingerprint
from pool_spawner.server import ServeError, listen, name_of, tune


def spawned(client: Client) -> int:
    """The pid of the pool-worker that was started."""
    message = client.receive()
    assert isinstance(message, Spawned), message
    return message.pid


# -- pool-workers


def test_a_client_gets_a_pool_worker_and_its_connection_is_the_lifeline(
    serve, credential: Path, pool: str
) -> None:
    spawner: Spawner = serve()
    with Client.dial(spawner.port, credential) as client:
        client.ask(2, pool)
        pid = spawned(client)
        assert spawner.workers() == [pid]
        command = command_line(pid)
        assert b"pool_worker" in command and b"5e5e" not in command
        assert b"5e5e" not in Path(f"/proc/{pid}/environ").read_bytes()
    wait_until(lambda: not is_alive(pid))
    wait_until(lambda: not spawner.workers())
    record = spawner.logged("is over")
    assert record["client"] == "127.0.0.1" and record["pid"] == pid
    assert "5e5e" not in "".join(spawner.lines), "secrets are not logged"


def test_a_client_that_hangs_up_is_told_when_nothing_is_left(
    serve, credential: Path, pool: str, listening: socket.socket
) -> None:
    with Client.dial(serve(before=PATIENT).port, credential) as client:
        client.ask(1, pool)
        pid = spawned(client)
        with listening.accept()[0]:  # it is up, and ends as soon as it is told to
            client.send(Stop())
            assert client.receive() == SpawnEnded(0, "its client hung up")
        assert not is_alive(pid)
        with pytest.raises(EOFError):
            client.receive()


def test_why_a_pool_worker_ended_is_told(serve, credential: Path) -> None:
    spawner = serve()
    with Client.dial(spawner.port, credential) as client:
        client.ask(1, "/nowhere/socket")
        spawned(client)
        ended = client.receive()
        assert isinstance(ended, SpawnEnded) and ended.exitcode == 1
        assert b"No such file" in bytes(ended.blob)
        with pytest.raises(EOFError):
            client.receive()
    assert spawner.logged("is over")["level"] == "warning"


def test_a_pool_worker_that_is_killed_is_told(serve, credential: Path, pool: str) -> None:
    with Client.dial(serve().port, credential) as client:
        client.ask(1, pool)
        os.kill(spawned(client), signal.SIGKILL)
        ended = client.receive()
        assert ended.exitcode == -signal.SIGKILL and "memory" in ended.reason


# -- the cap


def test_two_clients_share_the_cap_and_take_turns(serve, credential: Path, pool: str) -> None:
    spawner = serve("--max-workers", "4")
    with (
        Client.dial(spawner.port, credential) as first,
        Client.dial(spawner.port, credential) as second,
        Client.dial(spawner.port, credential) as third,
    ):
        first.ask(3, pool)
        spawned(first)
        second.ask(2, pool)
        assert second.receive() == SpawnQueued(free=1, cap=4)
        third.ask(1, pool)
        assert third.receive() == SpawnQueued(free=1, cap=4), "nobody overtakes"
        first.close()
        spawned(second)
        spawned(third)


@pytest.mark.parametrize("workers", [5, 10**6, 2**63])
def test_more_than_the_cap_is_refused_at_once(serve, credential: Path, workers: int) -> None:
    spawner = serve("--max-workers", "4")
    with Client.dial(spawner.port, credential) as client:
        client.ask(workers, "/nowhere")
        refusal = client.receive()
        assert isinstance(refusal, SpawnEnded)
        assert f"{workers} workers" in refusal.reason and "--max-workers" in refusal.reason
    assert not spawner.workers()
    spawner.logged("refused 127.0.0.1")


def test_who_waits_and_goes_is_forgotten(serve, credential: Path, pool: str) -> None:
    spawner = serve("--max-workers", "1")
    with Client.dial(spawner.port, credential) as first:
        first.ask(1, pool)
        spawned(first)
        with Client.dial(spawner.port, credential) as second:
            second.ask(1, pool)
            second.receive()
        with Client.dial(spawner.port, credential) as third:
            third.ask(1, pool)
            third.receive()
            first.close()
            spawned(third)


def test_twenty_clients_at_once_all_get_their_turn(serve, credential: Path) -> None:
    spawner = serve("--max-workers", "3")
    clients: list[Client] = []
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            clients.append(stack.enter_context(Client.dial(spawner.port, credential)))
            clients[-1].ask(1, "/nowhere/socket")
        for client in clients:
            while not isinstance(message := client.receive(), SpawnEnded):
                pass
            assert message.exitcode == 1
    wait_until(lambda: not spawner.workers())


# -- signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_in_an_orderly_way(
    serve, credential: Path, pool: str, number: int
) -> None:
    spawner = serve("--max-workers", "1")
    with (
        Client.dial(spawner.port, credential) as client,
        Client.dial(spawner.port, credential) as waiting,
    ):
        client.ask(1, pool)
        pid = spawned(client)
        waiting.ask(1, pool)
        waiting.receive()
        assert spawner.stop(number) == 0
        assert not is_alive(pid)
        for one in (client, waiting):
            assert one.receive().reason == "pool-spawner was stopped on that host"
    assert spawner.find("stopped")


def test_killed_it_takes_its_pool_workers_along(serve, credential: Path, pool: str) -> None:
    spawner = serve()
    with Client.dial(spawner.port, credential) as client:
        client.ask(1, pool)
        pid = spawned(client)
        os.kill(spawner.pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(pid))


def test_a_second_signal_does_not_wait(serve, credential: Path, pool: str) -> None:
    # The first one waits for ever.
    spawner = serve(before=PATIENT)
    with Client.dial(spawner.port, credential) as client:
        client.ask(1, pool)
        pid = spawned(client)
        os.kill(pid, signal.SIGSTOP)
        spawner.process.send_signal(signal.SIGTERM)
        spawner.logged("stopping")
        assert spawner.stop() == 0
        assert not is_alive(pid)


def test_a_terminal_that_is_closed_stops_it(credential: Path) -> None:
    # Its terminal is made its own in a program in between: this process has threads, and whatever
    # forks it may not run Python in the copy.
    take = "fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.executable, sys.argv[1:])"
    command = [sys.executable, "-c", f"import fcntl, os, sys, termios; {take}"]
    command += [sys.executable, "-m", "pool_spawner", "--port", "0"]
    screen, terminal = pty.openpty()
    process = subprocess.Popen(
        [*command, "--credential", str(credential)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    seen = b""
    try:
        while b"ready" not in seen:
            seen += os.read(screen, 4096)
        os.close(screen)
        assert process.wait(PATIENCE) >= 0, "in an orderly way, but for its last words"
    finally:
        process.kill()
        process.wait()


def test_a_vanished_client_is_noticed_by_the_kernel() -> None:
    with socket.socket() as sock:
        tune(sock)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
        idle = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        interval = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
        count = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
        assert idle + interval * count <= 20
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# -- credentials


@pytest.mark.parametrize("mode", [0o640, 0o644, 0o620])
def test_it_does_not_listen_with_a_credential_that_others_can_use(
    tmp_path: Path, credential: Path, mode: int
) -> None:
    path = Path(shutil.copy(credential, tmp_path / "c.pem"))
    path.chmod(mode)
    with pytest.raises(AssertionError, match="chmod 600"):
        Spawner(path)


def certificate(credential: Path) -> str:
    text = credential.read_text()
    return text[text.index("-----BEGIN CERTIFICATE") :]


@pytest.fixture
def group(tmp_path: Path, credential: Path, other: Path) -> Path:
    """The folder of a member whose group changes from ``credential`` to ``other``."""
    folder = tmp_path / "group"
    folder.mkdir(mode=0o700)
    shutil.copy(other, folder / "credential.pem")
    (folder / "old.crt").write_text(certificate(credential))
    return folder


def answers(port: int, own: Path, accepted: Path) -> bool:
    """Whether a member with this credential, which accepts that one too, gets through."""
    with (
        contextlib.suppress(OSError, EOFError),
        socket.create_connection(("127.0.0.1", port), PATIENCE) as raw,
    ):
        made = context(own)
        made.load_verify_locations(accepted)
        with Client(made.wrap_socket(raw)) as client:
            client.shake_hands()
            client.ask(10**6, "")
            return isinstance(client.receive(), SpawnEnded)
    return False


def test_a_folder_accepts_the_old_and_the_new(
    serve, group: Path, credential: Path, other: Path
) -> None:
    spawner = serve(place=group)
    assert answers(spawner.port, credential, other)
    assert answers(spawner.port, other, other)


def test_sighup_reads_the_folder_again_and_keeps_who_is_connected(
    serve, group: Path, credential: Path, other: Path, pool: str
) -> None:
    spawner = serve(place=group)
    with Client.dial(spawner.port, other) as client:
        client.ask(1, pool)
        spawned(client)
        (group / "old.crt").unlink()
        spawner.process.send_signal(signal.SIGHUP)
        spawner.logged("read again")
        assert not answers(spawner.port, credential, other)
        assert answers(spawner.port, other, other)
        assert spawner.workers()


def test_sighup_takes_a_new_credential_of_its_own(
    serve, group: Path, credential: Path, other: Path
) -> None:
    spawner = serve(place=group)
    assert fingerprint(other) in spawner.logged("ready")["message"]
    shutil.copy(credential, group / "credential.pem")
    spawner.process.send_signal(signal.SIGHUP)
    assert fingerprint(credential) in spawner.logged("read again")["message"]
    assert answers(spawner.port, credential, credential)


def test_a_bad_credential_at_sighup_changes_nothing(serve, group: Path, other: Path) -> None:
    spawner = serve(place=group)
    (group / "credential.pem").chmod(0o644)
    spawner.process.send_signal(signal.SIGHUP)
    assert "chmod 600" in spawner.logged("keeping the credential")["message"]
    assert answers(spawner.port, other, other)


# -- sockets


def test_it_listens_on_every_address_of_a_name() -> None:
    sockets = listen("localhost", 0)
    try:
        [port] = {name_of(sock.getsockname()).rpartition(":")[2] for sock in sockets}
        assert port != "0"
        assert {sock.getsockname()[0] for sock in sockets} <= {"127.0.0.1", "::1"}
    finally:
        for sock in sockets:
            sock.close()


def test_a_name_with_several_addresses_has_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: str, port: int, **more: object) -> list[tuple[object, ...]]:
        addresses = ("127.0.0.1", "127.0.0.2", "127.0.0.1")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    first, second = listen("two-addresses", 0)
    with first, second:
        assert first.getsockname()[1] == second.getsockname()[1] != 0
        assert {sock.getsockname()[0] for sock in (first, second)} == {"127.0.0.1", "127.0.0.2"}


@pytest.mark.parametrize("wanted", [0, 1234])
def test_a_port_that_another_address_does_not_have(
    monkeypatch: pytest.MonkeyPatch, wanted: int
) -> None:
    """Any port will do as long as all have it; one that was asked for will not."""
    tries = []

    def getaddrinfo(host: str, port: int, **more: object) -> list[tuple[object, ...]]:
        addresses = ("127.0.0.1", "127.0.0.2")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in addresses]

    def one(family: int, address: tuple[object, ...]) -> socket.socket:
        tries.append(address)
        if len(tries) == 2:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        return real(family, (address[0], 0) if wanted else address)

    real = server._listen
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(server, "_listen", one)
    before = descriptors()
    if wanted:
        with pytest.raises(ServeError, match="already in use"):
            listen("two-addresses", wanted)
    else:
        first, second = listen("two-addresses", wanted)
        with first, second:
            assert first.getsockname()[1] == second.getsockname()[1] != 0
    assert len(tries) == (2 if wanted else 4) and descriptors() == before


def test_a_peer_that_is_gone_before_it_is_greeted(
    credential: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(sock: socket.socket) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(server, "tune", gone)
    made = server.Server(server.Options("127.0.0.1", 0, 1, 1, str(credential)))
    near, far = socket.socketpair()
    with far:
        made._greet(near, "10.0.0.1")
        assert near.fileno() < 0 and "0 half-open" in repr(made)


def test_an_address_of_a_family_that_is_not_used_here_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def getaddrinfo(host: str, port: int, **more: object) -> list[tuple[object, ...]]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    [sock] = listen("two-families", 0)
    with sock:
        assert sock.getsockname()[0] == "127.0.0.1"


def test_an_address_that_is_not_ours_is_told() -> None:
    with pytest.raises(ServeError, match=r"cannot listen on 192\.0\.2\.1:1234: .*--host"):
        listen("192.0.2.1", 1234)


def test_a_name_that_nobody_has_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*arguments: object, **more: object) -> list[tuple[object, ...]]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(ServeError, match=r"cannot listen on nobody:1234: Name or .*--host"):
        listen("nobody", 1234)


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        return True
    return False


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_ipv6(credential: Path) -> None:
    spawner = Spawner(credential, host="::1")
    try:
        assert spawner.find("listening on [::1]:")
        with (
            socket.create_connection(("::1", spawner.port), PATIENCE) as raw,
            contextlib.suppress(ConnectionError),
        ):
            raw.sendall(b"x")
            assert raw.recv(1) == b""
        spawner.logged("refused a connection of ::1")
    finally:
        spawner.end()


def test_out_of_descriptors_it_pauses_and_recovers(serve, credential: Path) -> None:
    import resource

    spawner = serve()
    used = len(os.listdir(f"/proc/{spawner.pid}/fd"))
    limits = resource.prlimit(spawner.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(spawner.pid, resource.RLIMIT_NOFILE, (used + 1, limits[1]))
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(socket.create_connection(("127.0.0.1", spawner.port)))
        spawner.logged("cannot accept a connection yet")
        resource.prlimit(spawner.pid, resource.RLIMIT_NOFILE, limits)
        with Client.dial(spawner.port, credential) as client:
            client.ask(10**6, "")
            assert isinstance(client.receive(), SpawnEnded)
    assert spawner.stop() == 0
