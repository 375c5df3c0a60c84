"""Workers that are started by hand: they join a running pool, leave it, and come again."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import support
from link_model import Peer
from loops import holds_in_child
from machines import machines
from tls_model import dial

from pool_client import CredentialError, HostError, Pool, PoolBroken
from pool_client.hosts import joining
from pool_client.hosts.joining import _name
from pool_client.links.tcp_listener import TcpListener
from pool_client.scheduling import watching
from pool_protocol import AuthenticationError, Role
from pool_protocol.handshake import OPEN_LAUNCH, OPEN_TOKEN
from pool_protocol.messages import Join, Welcome

__all__ = ["machines"]


@contextlib.contextmanager
def listening(credential: Path, workers: int = 0, **settings):
    """A pool that listens, and its port."""
    with Pool(workers, hosts=[], credential=str(credential), **settings) as pool:
        yield pool, pool.listen("127.0.0.1")


@contextlib.contextmanager
def joined(port: int, credential: Path, workers: int = 2):
    """A ``pool-worker`` that joins."""
    command = [sys.executable, "-m", "pool_worker", "--connect", f"127.0.0.1:{port}"]
    process = subprocess.Popen(
        [*command, "-n", str(workers), "--credential", str(credential)],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def ask(port: int, credential: Path) -> Peer:
    """A peer after the handshake with which others join."""
    peer = dial(port, credential, role=Role.JOIN, launch=OPEN_LAUNCH, token=OPEN_TOKEN)
    try:
        peer.shake_hands()
    except BaseException:
        peer.close()
        raise
    return peer


JOIN = Join(host="newcomer", pid=4, workers=2, python="3.11", version="0.1.0")


def test_workers_join_a_pool_that_has_none(credential) -> None:
    """What was submitted waits for them; then they count as any other."""
    with listening(credential) as (pool, port):
        assert pool.total_workers() == 0
        assert not pool.is_ready()
        futures = [pool.submit(abs, -number) for number in range(100)]
        with joined(port, credential):
            assert [future.result(30) for future in futures] == list(range(100))
            support.wait_until(pool.is_ready)
            assert pool.total_workers() == len(pool.workers()) == 2
            [host] = pool.hosts()
            assert (host.joined, host.state, host.wanted) == (True, "up", 2)
            support.wait_until(lambda: pool.hosts()[0].round_trip is not None)
            assert "/2 (joined): 2 of 2 workers ready" in repr(pool)
            assert sorted(pool.run_on_all(os.getpid)) == sorted(support.worker_pids(pool))
            assert pool.stats().hosts_joined == 1


def test_workers_join_a_pool_on_a_loop(credential) -> None:
    """There `listen` would stop the loop, and says what to use; that works."""

    async def main() -> None:
        async with Pool(0, hosts=[], credential=str(credential)) as pool:
            with pytest.raises(RuntimeError, match="listen_async"):
                pool.listen("127.0.0.1")
            port = await pool.listen_async("127.0.0.1")
            with joined(port, credential):
                assert await asyncio.wait_for(pool.run_async(abs, -1), 60) == 1

    asyncio.run(main())


def test_workers_join_beside_others(credential) -> None:
    """They share the work, and a broadcast reaches them too."""
    with listening(credential, workers=1) as (pool, port), joined(port, credential):
        support.wait_until(lambda: len(pool.workers()) == 3)
        support.wait_until(pool.is_ready)
        assert len(set(pool.run_on_all(os.getpid))) == 3
        support.assert_works(pool)


def test_a_host_leaves_when_it_is_told_to(credential) -> None:
    """It finishes what it runs; what it has not begun runs elsewhere; nothing is tried again."""

    def work(number: int) -> int:
        time.sleep(0.05)
        return number

    with listening(credential, workers=1) as (pool, port), joined(port, credential) as process:
        support.wait_until(lambda: len(pool.workers()) == 3)
        futures = [pool.submit(work, number) for number in range(100)]
        support.wait_until(lambda: sum(future.done() for future in futures) > 10)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert [future.result(30) for future in futures] == list(range(100))
        # The last that is done when a host has gone.
        support.wait_until(lambda: [host.name for host in pool.hosts()] == ["local"])
        stats = pool.stats()
        assert (stats.retried, stats.workers_lost, stats.hosts_lost) == (0, 0, 0)
        assert (pool.total_workers(), len(pool.workers())) == (1, 1)
        assert pool.is_ready()


def test_a_host_that_is_killed_is_gone(credential) -> None:
    """Its tasks run elsewhere, and nobody starts it again but its owner."""

    def work(number: int) -> int:
        time.sleep(0.02)
        return number

    with listening(credential, workers=1) as (pool, port):
        with joined(port, credential) as process:
            support.wait_until(lambda: len(pool.workers()) == 3)
            futures = [pool.submit(work, number) for number in range(100)]
            process.kill()
            assert [future.result(30) for future in futures] == list(range(100))
        support.wait_until(lambda: pool.total_workers() == 1)
        with joined(port, credential, workers=1):
            support.wait_until(lambda: pool.total_workers() == 2 and pool.is_ready())
            assert pool.stats().hosts_joined == 2
            support.assert_works(pool)


def test_when_all_have_gone_tasks_wait_for_others(credential) -> None:
    """A pool that listens does not break for want of workers."""
    with listening(credential) as (pool, port):
        with joined(port, credential, workers=1):
            support.assert_works(pool)
        support.wait_until(lambda: pool.total_workers() == 0)
        future = pool.submit(abs, -5)
        with joined(port, credential, workers=1):
            assert future.result(30) == 5


def test_closing_does_not_wait_for_ever_for_somebody_to_join(credential) -> None:
    """Tasks that nobody is there to do fail after ``connect_timeout``."""
    with listening(credential, connect_timeout=1.0) as (pool, _):
        future = pool.submit(abs, -1)
    with pytest.raises(PoolBroken, match="nobody has joined for 1 s"):
        future.result(0)


def test_closing_ends_those_who_joined_but_not_their_program(credential) -> None:
    """It waits for the next pool."""
    with listening(credential) as (pool, port), joined(port, credential) as process:
        support.wait_until(pool.is_ready)
        pids = support.worker_pids(pool)
        pool.shutdown()
        support.wait_until(lambda: not any(map(support.is_alive, pids)))
        assert process.poll() is None


def test_a_pool_without_workers_that_does_not_listen_refuses(credential) -> None:
    """It says what to do; once it listens, it takes tasks."""
    with Pool(0, hosts=[], credential=str(credential), connect_timeout=0.5) as pool:
        assert repr(pool) == "<Pool no hosts: 0 of 0 workers ready>"
        with pytest.raises(RuntimeError, match=r"this pool has no workers.*listen\(\)"):
            pool.submit(abs, -1)
        pool.listen("127.0.0.1")
        assert pool.submit(abs, -1).cancel()


def test_a_pool_that_ends_while_it_begins_to_listen_says_so(credential, monkeypatch) -> None:
    """And not that somebody has cancelled something."""
    with Pool(1, credential=str(credential)) as pool:
        begun = threading.Event()

        async def open_slowly(self, host: str, port: int) -> int:
            begun.set()
            return await asyncio.Event().wait()

        monkeypatch.setattr(TcpListener, "open", open_slowly)
        port = pool._core.listen("127.0.0.1", 0)
        assert begun.wait(20)
    with pytest.raises(RuntimeError, match="after shutdown"):
        port.result(20)


def test_listening_needs_a_credential(tmp_path: Path) -> None:
    """The error says how to make one, and the pool is unharmed."""
    with support.running_pool(1, credential=str(tmp_path / "absent.pem")) as pool:
        with pytest.raises(CredentialError, match="pool_spawner init"):
            pool.listen()
        assert pool.stats().hosts_joined == 0


def test_listening_twice_is_listening_once(credential) -> None:
    """The same address has one port; another one is another."""
    with listening(credential, workers=1) as (pool, port):
        assert pool.listen("127.0.0.1") == port == pool.listen("127.0.0.1", port)
        other = pool.listen("127.0.0.2")
        acceptors = pool._core.engine.fleet._tcp._acceptors
        places = [acceptor.sock.getsockname() for acceptor in acceptors]
        assert places == [("127.0.0.1", port), ("127.0.0.2", other)]
        with pytest.raises(HostError, match="cannot listen"):
            pool.listen("192.0.2.1")


def test_a_host_that_does_not_listen_lets_nobody_join(machines, credential) -> None:
    """A pool with LAN hosts has an open port, which is not for that."""
    far = machines("far", credential)
    with support.running_pool(1, hosts=[f"{far}/1"], credential=str(credential)) as pool:
        port = pool._core.engine.fleet._tcp._acceptors[0].sock.getsockname()[1]
        with pytest.raises(AuthenticationError):
            ask(port, credential)
        pool.listen("127.0.0.1")
        peer = ask(port, credential)
        peer.close()


def test_one_joins_over_tls_and_without_a_launch(credential) -> None:
    """Who has the token of a launch, here or there, has no business to join with it."""
    with listening(credential, workers=1) as (pool, port):
        fleet = pool._core.engine.fleet
        [(launch, (token, _))] = fleet._tokens.items()
        proof = {"role": Role.JOIN, "launch": launch, "token": token}
        for peer in (Peer.dial(fleet._listener.address, **proof), dial(port, credential, **proof)):
            peer.shake_hands()
            peer.connection.send(JOIN)
            with contextlib.suppress(OSError):
                peer.flush()
            assert peer.at_end()
            peer.close()
        assert [host.name for host in pool.hosts()] == ["local"]


@pytest.mark.parametrize("role", [Role.CONTROL, Role.TASK, Role.SERVICE, Role.SPAWN])
def test_the_certificate_alone_is_for_joining_alone(credential, role) -> None:
    """For anything else one needs the token of a launch."""
    with listening(credential) as (pool, port):
        peer = dial(port, credential, role=role, launch=OPEN_LAUNCH, token=OPEN_TOKEN)
        peer.shake_hands()
        assert peer.at_end()
        peer.close()
        assert pool.hosts() == []


def test_the_answer_holds_what_the_peer_needs(credential) -> None:
    """And it is told who it is, and nothing of this machine's."""
    with listening(credential, max_message=10**6) as (pool, port):
        peer = ask(port, credential)
        peer.connection.send(JOIN)
        peer.flush()
        [welcome] = peer.messages(1)
        assert isinstance(welcome, Welcome)
        settings = json.loads(welcome.blob)
        assert len(bytes.fromhex(settings["token"])) == 32
        assert (settings["host"], settings["share"]) == ("newcomer", 2)
        assert (settings["address"], settings["max_message"]) == ("", 10**6)
        assert settings["output"] and settings["modules"]
        for name in ("cwd", "sys_path", "client_pid", "stderr"):
            assert settings[name] is None
        assert settings["token"] not in repr(welcome)
        assert [host.state for host in pool.hosts()] == ["starting"]
        peer.close()


def test_who_does_not_connect_back_is_forgotten(credential) -> None:
    """It has as long as any host."""
    with listening(credential, connect_timeout=0.3) as (pool, port):
        peer = ask(port, credential)
        peer.connection.send(JOIN)
        peer.flush()
        peer.messages(1)
        support.wait_until(lambda: not pool.hosts())
        assert pool.total_workers() == 0
        peer.close()


def control_of(pool, port: int, credential: Path) -> Peer:
    """A peer that has joined as far as its control connection, and said nothing yet."""
    peer = ask(port, credential)
    peer.connection.send(JOIN)
    peer.flush()
    settings = json.loads(peer.messages(1)[0].blob)
    peer.close()
    launch, token = (bytes.fromhex(settings[name]) for name in ("launch", "token"))
    peer = dial(port, credential, role=Role.CONTROL, launch=launch, token=token)
    peer.shake_hands()
    runner = pool._core.engine.fleet.runners[-1]
    support.wait_until(lambda: runner.control)
    return peer


def test_who_connects_back_and_says_nothing_is_forgotten(credential) -> None:
    """Its connection is closed: nobody would take care of it any more."""
    with listening(credential) as (pool, port):
        peer = control_of(pool, port, credential)
        fleet = pool._core.engine.fleet
        # Its time is over.
        pool._core.engine.submit(lambda: fleet.joining._too_late(fleet.runners[0]))
        assert peer.at_end()
        support.wait_until(lambda: not pool.hosts())
        peer.close()


def test_who_goes_before_it_has_said_anything_is_forgotten(credential) -> None:
    """At once."""
    with listening(credential, connect_timeout=3600) as (pool, port):
        control_of(pool, port, credential).close()
        support.wait_until(lambda: not pool.hosts())


def test_one_that_was_dropped_and_comes_again_is_listed_once(credential) -> None:
    """It may come for days."""
    with listening(credential, workers=1) as (pool, port):
        fleet = pool._core.engine.fleet

        def drop_all() -> None:
            for runner in fleet.active[1:]:
                fleet.drop(runner, HostError(runner.spec.name, "it is on fire"))

        for _ in range(3):
            peer = control_of(pool, port, credential)
            pool._core.engine.submit(drop_all)
            support.wait_until(lambda: pool.hosts()[-1].state == "dropped")
            peer.close()
        assert [host.name for host in pool.hosts()] == ["local", "newcomer"]


def test_nobody_joins_a_pool_that_closes(credential, monkeypatch) -> None:
    """Nobody would end it any more."""
    monkeypatch.setattr(joining, "_SECONDS", 3600)
    with listening(credential) as (pool, port):
        pool._core.engine.fleet._closing = True
        peer = ask(port, credential)
        assert peer.at_end()
        peer.close()


def test_time_limits_of_a_host_that_is_gone_concern_nobody(credential, monkeypatch, caplog) -> None:
    """Its supervisor would be told that it need not watch any more."""
    monkeypatch.setattr(watching, "LINGER_NS", 0)
    with listening(credential, workers=1) as (pool, port):
        with joined(port, credential):
            support.wait_until(lambda: len(pool.workers()) == 3)
            futures = [pool.options(timeout=60).submit(time.sleep, 60) for _ in range(3)]
            support.wait_until(lambda: pool.stats().held == 3)
        support.wait_until(lambda: pool.total_workers() == 1)
        support.kill(support.worker_pids(pool)[0])
        support.wait_until(lambda: pool.stats().workers_lost == 3 and pool.is_ready())
        pool.shutdown(wait=False, cancel_futures=True)
        pool.kill_workers()
        assert all(future.done() for future in futures)
    assert [record for record in caplog.records if record.name == "asyncio"] == []


def test_who_says_nothing_is_closed(credential, monkeypatch) -> None:
    """After a while."""
    monkeypatch.setattr(joining, "_SECONDS", 0.1)
    with listening(credential) as (pool, port):
        peer = ask(port, credential)
        assert peer.at_end()
        peer.close()
        assert pool.hosts() == []


def test_who_says_too_much_is_closed(credential) -> None:
    """One host for each connection."""
    with listening(credential) as (pool, port):
        peer = ask(port, credential)
        peer.connection.send(JOIN)
        peer.connection.send(JOIN)
        peer.flush()
        assert peer.at_end()
        peer.close()
        assert pool.hosts() == []


def test_a_forked_child_lets_go_and_the_peer_goes_on(credential) -> None:
    """The connection is the parent's."""
    with listening(credential) as (pool, port):
        peer = ask(port, credential)
        support.wait_until(lambda: pool._core.engine.fleet.joining._links)
        [link] = pool._core.engine.fleet.joining._links
        assert holds_in_child(lambda: link._sock.fileno() < 0)
        peer.connection.send(JOIN)
        peer.flush()
        assert isinstance(peer.messages(1)[0], Welcome)
        peer.close()


@pytest.mark.parametrize(
    ("text", "name"),
    [("box", "box"), ("a b\n\x1b[31mc", "ab[31mc"), ("", "unnamed"), ("x" * 100, "x" * 64)],
)
def test_what_a_peer_calls_itself_is_made_fit(text: str, name: str) -> None:
    """It appears in logs and in front of what its workers print."""
    assert _name(text) == name
