"""The hosts of a pool: the set-up of the workers, and when the pool counts as created."""

import asyncio
import os
import signal
from collections import deque
from concurrent.futures import Future
from pathlib import Path

import pytest
import support
from credentials import make_credential
from link_model import Peer
from machines import machines

from pool_client import AuthenticationError, HostError, Pool, PoolBroken
from pool_client.scheduling.tasks import Task
from pool_protocol import Connection, DialerHandshake, Identity, Role
from pool_protocol.messages import Reply, Request

__all__ = ["machines"]


def waiting_initializer(marker: Path, gate: Path):
    """An initializer that the first worker passes, and that holds up every other one."""

    def initialize() -> None:
        import time

        try:
            marker.touch(exist_ok=False)
        except FileExistsError:
            while not gate.exists():
                time.sleep(0.01)

    return initialize


def one_is_ready(fleet) -> bool:
    """The workers that wait have to wait on."""
    return any(runner.seats.ready for runner in fleet.runners)


def test_connect_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When workers are not ready in time, the error names the host and both counts."""
    support.end_creation_when(monkeypatch, one_is_ready)
    initialize = waiting_initializer(tmp_path / "marker", tmp_path / "gate")
    text = r"only 1 of 2 workers were ready within 30 s: local \(1 of 2\)"
    with pytest.raises(PoolBroken, match=text):
        Pool(2, initializer=initialize, connect_timeout=30)


def test_min_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With enough workers in time the pool is created, and the others may come later."""
    support.end_creation_when(monkeypatch, one_is_ready)
    gate = tmp_path / "gate"
    initialize = waiting_initializer(tmp_path / "marker", gate)
    with Pool(2, initializer=initialize, min_workers=1) as pool:
        assert len(pool.workers()) == 1
        assert not pool.is_ready()
        support.assert_works(pool)
        gate.touch()
        support.wait_until(pool.is_ready)
        assert len(pool.workers()) == 2


def test_failing_initializer() -> None:
    """A pool whose initializer fails says so, with the initializer's own error as the cause."""
    with pytest.raises(PoolBroken, match="initializer failed on local") as caught:
        Pool(1, initializer=divmod, initargs=(1, 0))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


# -- who may connect for what


@pytest.fixture
def pool():
    with support.running_pool(1) as pool:
        yield pool


def peer_of(pool: Pool, role: Role, worker: int = 0) -> Peer:
    """A peer that knows the token of the only host."""
    fleet = pool._core.engine.fleet
    [(launch, (token, _))] = fleet._tokens.items()
    peer = Peer.dial(fleet._listener.address, role=role, launch=launch, token=token)
    identity = Identity(launch, role, worker)
    peer.connection = Connection(DialerHandshake(identity, token))
    peer.shake_hands()
    return peer


@pytest.mark.parametrize("role", [Role.CONTROL, Role.TASK, Role.JOIN, Role.SPAWN])
@pytest.mark.parametrize("worker", [0, 1, 99])
def test_who_is_not_expected_is_closed(pool: Pool, role: Role, worker: int) -> None:
    """Even who knows the token: a second supervisor, a worker's number twice, joining here."""
    peer = peer_of(pool, role, worker)
    assert peer.at_end()
    peer.close()


def test_a_worker_may_ask_for_something(pool: Pool) -> None:
    """Its request is answered, and the connection stays open."""
    peer = peer_of(pool, Role.SERVICE, 1)
    peer.connection.send(Request(5, "no such service", "method"))
    peer.flush()
    [reply] = peer.messages(1)
    assert isinstance(reply, Reply)
    assert reply.number == 5
    assert reply.error
    peer.close()


def test_with_its_host_its_questions_are_lost(machines) -> None:
    """The connection on which it asked is closed, wherever its other end is."""
    far = machines("far")
    with support.running_pool(0, hosts=["machine://far/1"]) as pool:
        peer = peer_of(pool, Role.SERVICE, 1)
        [runner] = pool._core.engine.fleet.runners
        support.wait_until(lambda: len(runner.services))
        far.signal(signal.SIGKILL)
        assert peer.at_end()
        peer.close()
        support.wait_until(pool.is_ready)


def test_a_launch_that_is_over_is_unknown(pool: Pool) -> None:
    """The token of a supervisor that is gone opens nothing any more."""
    fleet = pool._core.engine.fleet
    [(launch, (token, _))] = fleet._tokens.items()
    support.kill(pool.run(os.getppid))
    support.wait_until(lambda: launch not in fleet._tokens)
    with pytest.raises(AuthenticationError):
        peer = Peer.dial(fleet._listener.address, role=Role.TASK, launch=launch, token=token)
        try:
            peer.shake_hands()
        finally:
            peer.close()
    support.wait_until(pool.is_ready)


def test_more_workers_than_there_are_descriptors_for() -> None:
    """A host whose number of workers is only known later: the error names both numbers."""
    script = support.run_script(
        """
        import resource
        from pool_client import Pool, PoolBroken
        from pool_client.hosts import fleet

        calls = []

        def no_room(workers):
            calls.append(workers)
            if len(calls) > 1 and workers > least:
                raise PoolBroken(f"{workers} workers need more descriptors")

        fleet.make_room = no_room
        least = 0
        try:
            Pool(0, hosts=["local/auto"])
        except PoolBroken as error:
            print(error)
        least = 1
        calls.clear()
        with Pool(1, hosts=["local/auto"], min_workers=1) as pool:
            print(pool.run(abs, -1))
        """
    )
    assert "workers need more descriptors" in script.stdout
    assert script.stdout.endswith("\n1\n"), "it goes on without that host"


def test_the_state_of_ready_follows_the_workers() -> None:
    """Cleared when one is lost, set when it is replaced."""
    with Pool(1) as pool:
        assert pool.ready.is_set()
        [pid] = support.worker_pids(pool)
        support.kill(pid)
        support.wait_until(lambda: pool.stats().workers_lost)
        support.wait_until(pool.ready.is_set)
        assert pid not in support.worker_pids(pool)
    assert not pool.ready.is_set()


def on_the_loop(pool: Pool, function):
    """Run a function on the engine's loop; its result."""
    done: Future = Future()
    pool._core.engine.submit(lambda: done.set_result(function()))
    return done.result(20)


def test_a_pool_that_ends_before_it_is_up_was_not_created(machines) -> None:
    """Whoever waits for its workers is told that they will not come."""
    machines("far").silent = True
    pool = Pool(0, "machine://far/1", lazy_create=True)
    created = pool._core.created()
    pool.shutdown()
    with pytest.raises(RuntimeError, match="shut down before its workers were up"):
        created.result(30)


def test_a_broken_pool_is_not_ready() -> None:
    """Although its workers may still be there, or come, before they are ended."""
    with Pool(1) as pool:
        engine = pool._core.engine

        def break_it():
            engine.break_with(PoolBroken("no luck"))
            engine.fleet.refresh()
            return pool.is_ready()

        assert not on_the_loop(pool, break_it)


def test_who_sees_that_a_host_is_dropped_finds_the_rest_done(machines) -> None:
    """Whatever is told to anybody while it is dropped."""
    machines("far")
    with support.running_pool(1, hosts=["machine://far/2"]) as pool:
        engine = pool._core.engine
        far = engine.fleet.runners[1]
        seen = []

        def look() -> None:
            info = pool.hosts()[1]
            seen.append((info.state, info.reason, pool.total_workers(), pool.is_ready()))

        class Part(Task):
            """What a broadcast has for one worker."""

            pinned = True

            def __init__(self) -> None:
                pass

            def fail(self, error: BaseException) -> None:
                look()

        def drop() -> None:
            engine.scheduler._backlog.pinned[far.host.slot(0)] = deque([Part()])
            engine.fleet.drop(far, HostError("far", "it is on fire"))
            look()

        on_the_loop(pool, drop)
        assert seen == [("dropped", "it is on fire", 1, True)] * 2
        assert len(pool.workers()) == 1


def test_the_failure_of_a_host_that_joined_is_its_own(machines) -> None:
    """The pool may still be created from the hosts that it was made of."""
    machines("far")
    with support.running_pool(1, hosts=["machine://far/1"]) as pool:
        fleet = pool._core.engine.fleet
        far = fleet.runners[1]

        def fail():
            fleet.creation.done, far.joined = False, True
            try:
                return fleet.host_failed(far, HostError("far", "it is on fire"), unreachable=False)
            finally:
                fleet.creation.done, far.joined = True, False

        assert on_the_loop(pool, fail)


def test_closing_does_not_wait_for_ever_for_a_host_out_of_reach(machines, tmp_path: Path) -> None:
    """Nor for somebody to join in its place."""
    far = machines("far")
    credential = make_credential(tmp_path / "credential.pem")
    with Pool(0, hosts=["machine://far/1"], credential=str(credential)) as pool:
        pool.listen("127.0.0.1")
        support.be_patient(pool, 1.0)
        far.lose()
        support.wait_until(lambda: not pool.workers())
        future = pool.submit(abs, -1)
    with pytest.raises(PoolBroken):
        future.result(0)


@pytest.mark.parametrize("uvloop", [False, True])
def test_a_loop_that_ends_while_its_pool_closes(uvloop: bool, machines, tmp_path: Path) -> None:
    """It cancels what runs on it; nothing of the pool is left, although somebody holds it."""
    machines("far", make_credential(tmp_path / "credential.pem"))
    pools = []

    async def main() -> None:
        pool = Pool(1, hosts=["machine://far/1"], credential=str(tmp_path / "credential.pem"))
        pools.append(pool)
        await pool.__aenter__()
        engine = pool._core.engine
        engine.scheduler.broken = PoolBroken("its workers are not asked to leave")
        pool._core.close()
        while not engine.fleet._closing:
            await asyncio.sleep(0)

    factory = pytest.importorskip("uvloop").new_event_loop if uvloop else None
    before = support.Snapshot.take()
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    support.wait_until(lambda: not support.Snapshot.take().beyond(before))
    assert "closed" in repr(pools)
