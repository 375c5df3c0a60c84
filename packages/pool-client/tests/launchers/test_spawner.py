"""LAN hosts: the launcher against a real pool-spawner, and what it says when there is none."""

import asyncio
import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import support
from hosts.lan import Spawner, certificate, make_credential
from hosts.ports import free_port

from pool_client.errors import HostError
from pool_client.launchers import Access, HostSpec, Order, launcher
from pool_client.launchers import spawner as module
from pool_client.launchers.spawner import SpawnerLauncher, describe_tls
from pool_client.links.tls import server_context

LAUNCH, TOKEN = "5a" * 8, "5e" * 32


@pytest.fixture(scope="session")
def credential(tmp_path_factory):
    return make_credential(tmp_path_factory.mktemp("credential"))


@pytest.fixture(scope="session")
def other(tmp_path_factory):
    return make_credential(tmp_path_factory.mktemp("other"))


@pytest.fixture
def spawner(credential):
    with Spawner(credential, "--max-workers", "4") as spawner:
        yield spawner


class Attempt:
    """A launch on the running loop: of a launcher, and the order given to it."""

    def __init__(self, credential=None, address="/nowhere/socket", port=9, **access):
        self.launcher = launcher("spawner")
        settings = {"address": address, "launch": LAUNCH, "token": TOKEN, "host": "nas"}
        access = Access(credential=None if credential is None else str(credential), **access)
        self.order = Order(settings, access, self.listen_tcp)
        self.port = port

    async def listen_tcp(self):
        return self.port

    async def launch(self, port, workers=1, host="127.0.0.1", **more):
        return await self.launcher.launch(
            HostSpec("spawner", host, workers, port=port, **more), self.order
        )


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 30))


async def until(condition):
    while not (value := condition()):
        await asyncio.sleep(0.001)
    return value


def refusal(attempt, port, **more):
    """Why a launch is refused."""

    async def body():
        with pytest.raises(HostError) as error:
            await attempt.launch(port, **more)
        assert error.value.host.endswith(more.get("host", "127.0.0.1"))
        return error.value.reason

    return run(body())


@contextlib.contextmanager
def strangers(script):
    """A port where a script runs on every connection, in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(64) as threads:

        def talk(sock):
            with sock, contextlib.suppress(OSError):
                sock.settimeout(20)
                script(sock)

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    threads.submit(talk, listening.accept()[0])

        # No thread of the pool: what it takes last finds a pool that still takes work.
        serving = threading.Thread(target=serve)
        serving.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            serving.join()


@contextlib.contextmanager
def silent_pool(credential):
    """A pool's port: whoever has the credential gets in, and nothing is ever said."""
    context = server_context(Access(credential=str(credential)))
    context.sslsocket_class = ssl.SSLSocket

    def script(sock):
        with context.wrap_socket(sock, server_side=True) as tls:
            while tls.recv(4096):
                pass

    with strangers(script) as port:
        yield port


@contextlib.asynccontextmanager
async def started(spawner, credential):
    """A launch whose ``pool-worker`` runs and stays: the attempt, what it gave, and the pid."""
    with silent_pool(credential) as port:
        attempt = Attempt(credential, port=port)
        launched = await attempt.launch(spawner.port)
        try:
            [pid] = await until(spawner.workers)
            yield attempt, launched, pid
        finally:
            launched.close()


# -- what it starts


def test_it_is_the_launcher_of_its_scheme_and_not_local():
    assert isinstance(launcher("spawner"), SpawnerLauncher)
    assert not SpawnerLauncher.local


def test_pool_worker_runs_as_long_as_the_connection(spawner, credential):
    async def body():
        async with started(spawner, credential) as (attempt, launched, pid):
            await until(lambda: "connect to 127.0.0.1:" in attempt.launcher.stage)
            assert f"127.0.0.1:{attempt.port}" in attempt.launcher.stage
            assert "advertise=" in attempt.launcher.stage
            assert launched.ended() is None
            launched.hang_up()
            assert await until(launched.ended) == "its client hung up"
            assert not support.is_alive(pid), "told only when nothing is left"

    run(body())
    assert TOKEN not in "".join(spawner.lines)


def test_killed_it_is_gone_at_once_and_there_soon(spawner, credential):
    async def body():
        async with started(spawner, credential) as (_, launched, pid):
            launched.kill()
            assert launched.ended() == "it was ended from here"
            await until(lambda: not support.is_alive(pid))

    run(body())


def test_workers_are_sent_back_to_the_address_of_the_connection(spawner, credential):
    """Nothing listens there, so pool-worker ends and says why."""

    async def body():
        launched = await Attempt(credential).launch(spawner.port)
        reason = await until(launched.ended)
        launched.close()
        return reason, launched.errors()

    reason, said = run(body())
    assert reason.startswith("pool-worker ended with exit code 1 (it was told to connect to")
    assert "127.0.0.1:9:" in reason and "advertise=" in reason
    assert "refused" in said.lower()


@pytest.mark.parametrize(
    ("advertise", "address"),
    [
        (None, "tls://127.0.0.1:9"),
        ("10.9.8.7", "tls://10.9.8.7:9"),
        ("fd00::7", "tls://[fd00::7]:9"),
    ],
)
def test_the_settings(spawner, credential, monkeypatch, advertise, address):
    sent = []
    monkeypatch.setattr(module.Lifeline, "spawn", lambda self, *values: sent.append(values))

    async def body():
        attempt = Attempt(credential, advertise=advertise)
        (await attempt.launch(spawner.port, workers=3)).close()
        return attempt

    attempt = run(body())
    [(workers, blob)] = sent
    assert workers == 3
    assert json.loads(blob) == {**attempt.order.settings, "address": address}


def test_over_the_cap_it_says_so_at_once(spawner, credential):
    async def body():
        launched = await Attempt(credential).launch(spawner.port, workers=5)
        reason = await until(launched.ended)
        launched.close()
        return reason

    assert "4 at most" in run(body())


def test_waiting_for_its_turn_it_says_what_for(spawner, credential):
    async def body():
        with silent_pool(credential) as port:
            first, second = (Attempt(credential, port=port) for _ in range(2))
            one = await first.launch(spawner.port, workers=3)
            two = await second.launch(spawner.port, workers=2)
            await until(lambda: "1 of its 4 workers are free" in second.launcher.stage)
            assert "--max-workers" in second.launcher.stage
            assert two.ended() is None
            one.hang_up()
            await until(lambda: "connect to" in second.launcher.stage)
            one.close()
            two.close()

    run(body())


def test_a_spawner_that_is_killed_ends_its_pool_worker(spawner, credential):
    async def body():
        async with started(spawner, credential) as (_, launched, pid):
            spawner.process.kill()
            assert "broke" in await until(launched.ended)
            await until(lambda: not support.is_alive(pid))

    run(body())


def test_a_spawner_that_is_stopped_says_so(spawner, credential):
    async def body():
        async with started(spawner, credential) as (_, launched, _):
            spawner.process.terminate()
            assert await until(launched.ended) == "pool-spawner was stopped on that host"

    run(body())


def test_many_at_once_all_get_in(spawner, credential):
    """More than the 16 of one address that the spawner lets be half-open."""

    async def body():
        attempts = [Attempt(credential) for _ in range(60)]
        launches = [attempt.launch(spawner.port, workers=5) for attempt in attempts]
        for launched in await asyncio.gather(*launches):
            assert "at most" in await until(launched.ended)
            launched.close()

    run(body())


# -- why it does not


def test_nothing_listens(credential):
    port = free_port()
    reason = refusal(Attempt(credential), port)
    assert f"nothing listens at 127.0.0.1:{port}" in reason and "python -m pool_spawner" in reason


def test_the_default_port_is_8899(credential, monkeypatch):
    asked = []

    async def dial(host, port):
        asked.append((host, port))
        raise module.DialError("stop")

    monkeypatch.setattr(module, "dial", dial)
    assert refusal(Attempt(credential), None, host="nas") == "stop"
    assert asked == [("nas", 8899)]


def test_an_unknown_name(credential, monkeypatch):
    monkeypatch.setenv("RES_OPTIONS", "timeout:1 attempts:1")  # the name servers may be away
    reason = refusal(Attempt(credential), 1, host="no-such-host.invalid")
    assert "no-such-host.invalid" in reason


def test_no_credential_here(tmp_path):
    reason = refusal(Attempt(tmp_path / "nothing"), 1)
    assert reason.startswith("there is no credential") and "pool_spawner init" in reason


def test_a_credential_that_others_can_read(tmp_path, credential):
    path = Path(shutil.copy(credential, tmp_path / "c.pem"))
    path.chmod(0o644)
    assert "chmod 600" in refusal(Attempt(path), 1)


def test_another_credential_there(spawner, other):
    for _ in range(5):
        reason = refusal(Attempt(other), spawner.port)
        assert "is not the one here" in reason and str(other) in reason and "copy" in reason


def test_a_credential_that_only_we_accept(spawner, credential, other, tmp_path):
    """In the middle of a rotation: theirs is known here, ours is not known there."""
    folder = tmp_path / "group"
    folder.mkdir(mode=0o700)
    shutil.copy(other, folder / "credential.pem")
    (folder / "theirs.crt").write_text(certificate(credential))
    for _ in range(10):
        reason = refusal(Attempt(folder), spawner.port)
        assert "does not accept it" in reason and "copy" in reason


def test_rotation_old_and_new_work_together(credential, other, tmp_path):
    def member(name, own, accepted):
        folder = tmp_path / name
        folder.mkdir(mode=0o700)
        shutil.copy(own, folder / "credential.pem")
        (folder / "accepted.crt").write_text(certificate(accepted))
        return folder

    new, old = member("new", other, credential), member("old", credential, other)
    with Spawner(new, "--max-workers", "1") as spawner:
        for place in (new, old):

            async def body(place=place):
                launched = await Attempt(place).launch(spawner.port, workers=2)
                assert "at most" in await until(launched.ended)
                launched.close()

            run(body())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2])
def test_a_server_that_speaks_an_older_tls(credential, version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(credential)
    context.maximum_version = version
    with strangers(lambda sock: context.wrap_socket(sock, server_side=True)) as port:
        reason = refusal(Attempt(credential), port)
    assert "credential" in reason or "TLS 1.3" in reason


@pytest.mark.parametrize(
    "banner", [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"]
)
def test_what_listens_is_something_else(credential, banner):
    def script(sock):
        sock.sendall(banner)
        sock.recv(4096)

    with strangers(script) as port:
        assert "is not pool-spawner" in refusal(Attempt(credential), port)


def test_what_listens_closes_every_connection(credential, monkeypatch):
    monkeypatch.setattr(module, "_PAUSES", (0.01, 0.01))
    counted = []
    with strangers(counted.append) as port:
        assert "closes every connection" in refusal(Attempt(credential), port)
    assert len(counted) == 3, "it tried again, but not for ever"


def test_what_listens_never_answers(credential, all_closed):
    """The pool's own deadline cancels it, and says what it was waiting for."""

    async def body():
        with strangers(lambda sock: sock.recv(1 << 16) and sock.recv(1)) as port:
            attempt = Attempt(credential)
            launching = asyncio.create_task(attempt.launch(port))
            text = f"what listens at 127.0.0.1:{port} does not answer"
            await until(lambda: text in attempt.launcher.stage)
            launching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await launching
            assert text in attempt.launcher.stage

    run(body())


def test_a_client_that_cannot_listen_says_why(spawner, credential):
    async def body():
        attempt = Attempt(credential)

        async def listen_tcp():
            raise HostError("local", "cannot listen at any address, port 1: Permission denied")

        attempt.order = Order(attempt.order.settings, attempt.order.access, listen_tcp)
        with pytest.raises(HostError, match="cannot listen"):
            await attempt.launch(spawner.port)

    run(body())


@pytest.mark.parametrize("more", [{"user": "me"}, {"options": {"python": "/x"}}])
def test_users_and_options_belong_to_ssh(credential, more):
    assert "ssh://" in refusal(Attempt(credential), 1, **more)


def test_how_ssh_is_asked_for_an_ipv6_address(credential):
    assert "ssh://me@[::1]/…" in refusal(Attempt(credential), 1, host="::1", user="me")


def test_the_settings_are_not_shown_by_the_order():
    assert TOKEN not in repr(Attempt().order)


def test_an_expired_credential(tmp_path, credential):
    """Made good for the past alone."""
    text = (
        "import datetime, pathlib, sys\n"
        "from pool_spawner import making\n"
        "making.VALID_DAYS = -1\n"
        "print(making.make_credential(pathlib.Path(sys.argv[1])))\n"
    )
    expired = tmp_path / "expired.pem"
    subprocess.run([sys.executable, "-c", text, str(expired)], check=True, timeout=30)
    with Spawner(expired) as spawner:
        reason = refusal(Attempt(expired), spawner.port)
    assert "expired" in reason and "pool_spawner init" in reason


def test_a_sites_own_context_is_named():
    error = ssl.SSLError(1, "x")
    error.reason = "TLSV1_ALERT_UNKNOWN_CA"
    access = Access(ssl_context=lambda purpose: None)
    assert "ssl_context=" in describe_tls(error, "nas:8899", module._own(access))
