"""One host of a pool: its supervisor, and the seats of its workers."""

import asyncio
import os
import signal
import time
from concurrent.futures import Future

import machines as machines_module
import pytest
import support
from machines import machines

from pool_client import Pool, PoolBroken, TaskTimeout
from pool_client.errors import HostError
from pool_client.hosts import heart
from pool_client.hosts.host import Standing, State
from pool_client.scheduling import watching
from pool_protocol.messages import Leaving

__all__ = ["machines"]


def test_seats_of_a_pool() -> None:
    """Each slot has one seat, whose worker is ready and whose stream is open."""
    with Pool(2) as pool:
        (runner,) = pool._core.engine.fleet.runners
        seats = list(runner.seats.by_id.values())
        assert sorted(seat.slot for seat in seats) == [0, 1]
        assert sorted(seat.worker.pid for seat in seats) == sorted(support.worker_pids(pool))
        assert not any(seat.stream_ended for seat in seats)


def test_killed_worker_is_replaced_in_its_slot() -> None:
    """Another worker takes the slot of one that was killed; the other one stays."""
    with support.running_pool(2) as pool:
        (runner,) = pool._core.engine.fleet.runners
        first, second = support.worker_pids(pool)
        support.kill(first)
        support.wait_for_others(pool, first)
        assert support.worker_pids(pool)[1] == second
        assert sorted(seat.slot for seat in list(runner.seats.by_id.values())) == [0, 1]


def test_killed_supervisor_is_replaced() -> None:
    """When the supervisor is killed, another one with new workers goes on with the tasks."""
    with support.running_pool(2) as pool:
        before = support.worker_pids(pool)
        supervisor = pool.run(os.getppid)
        support.kill(supervisor)
        futures = [pool.submit(abs, -number) for number in range(200)]
        assert [future.result(30) for future in futures] == list(range(200))
        support.wait_for_others(pool, *before)
        assert pool.run(os.getppid) != supervisor
        support.wait_until(lambda: not any(map(support.is_alive, before)))


def test_worker_that_ends_before_it_is_ready() -> None:
    """A worker that ends in its initializer is told with the host's name and its exit code."""
    with pytest.raises(PoolBroken, match=r"ended before it was ready.*code 23") as caught:
        Pool(1, initializer=os._exit, initargs=(23,))
    assert isinstance(caught.value.__cause__, HostError)
    assert caught.value.__cause__.host == "local"


# -- hosts that are not this machine


@pytest.fixture
def machine(machines):
    """A machine called ``far``."""
    return machines("far")


def runner_of(pool, name="far"):
    [found] = [r for r in pool._core.engine.fleet.runners if r.spec.name == name]
    return found


def on_the_loop(pool, function):
    """Run a function on the engine's loop; its result."""
    done: Future = Future()
    pool._core.engine.submit(lambda: done.set_result(function()))
    return done.result(20)


def test_only_other_machines_are_asked_whether_they_are_there(machine, monkeypatch) -> None:
    """The first question comes at once, and gives the round trip."""
    monkeypatch.setattr(heart, "INTERVAL", 0.05)
    monkeypatch.setattr(heart, "MISSES", 10**6)  # it may be slow to answer
    with support.running_pool(1, hosts=["machine://far/1"]) as pool:
        far, local = runner_of(pool), runner_of(pool, "local")
        support.wait_until(lambda: far.heart.number > 3 and far.heart.round_trip)
        assert 0 < far.heart.round_trip < 20
        assert (local.heart.number, local.heart.round_trip) == (0, None)
        assert "far up, 1 seats" in repr(far)


def test_a_second_control_connection_is_closed(machine) -> None:
    """The first one is the host's."""
    with support.running_pool(1, hosts=["machine://far/1"]) as pool:
        far = runner_of(pool)

        class Second:
            closed = False

            def close(self) -> None:
                self.closed = True

        second = Second()
        control = far.control
        on_the_loop(pool, lambda: far.opened(second))
        assert second.closed
        assert far.control is control


def test_a_host_that_has_left_is_tried_again_when_it_was_ours(machine) -> None:
    """Somebody may have told its supervisor to leave: it is started anew."""
    with support.running_pool(1, hosts=["machine://far/2"]) as pool:
        far = runner_of(pool)
        before = set(support.worker_pids(pool))
        futures = [pool.submit(time.sleep, 0.02) for _ in range(100)]

        def leave():
            far.received(far.control, [Leaving(), Leaving()])
            return far.state

        assert on_the_loop(pool, leave) is State.LEAVING
        assert [future.result(30) for future in futures] == [None] * 100
        support.wait_until(lambda: machine.launches == 2 and pool.is_ready())
        assert far.host.closed is None
        assert len(before & set(support.worker_pids(pool))) == 1
        assert pool.stats().retried == 0


def test_a_worker_that_does_not_come_up_later_is_tried_again(tmp_path) -> None:
    """A replacement fails some times; the pause grows, the pool goes on."""
    marker = tmp_path / "fail"

    def initialize() -> None:
        try:
            file = os.open(marker, os.O_WRONLY | os.O_APPEND)
        except FileNotFoundError:
            return
        os.write(file, b"x")
        os._exit(9)

    with support.running_pool(2, initializer=initialize) as pool:
        marker.touch()
        support.kill(support.worker_pids(pool)[0])
        support.wait_until(lambda: marker.stat().st_size > 2)
        assert runner_of(pool, "local").failures > 0
        assert pool.run(abs, -3) == 3
        marker.unlink()
        support.wait_until(pool.is_ready)
        assert runner_of(pool, "local").failures == 0


def test_a_lost_host_says_why_its_program_ended(machine) -> None:
    """The reason comes a moment after the end of the connection."""
    with support.running_pool(1, hosts=["machine://far/1"]) as pool:
        machine.trouble = "no route to it"
        machine.signal(signal.SIGKILL)
        support.wait_until(lambda: runner_of(pool).failures)
        support.wait_until(lambda: machine.launches > 1)
        machine.trouble = None
        support.wait_until(pool.is_ready)
        assert runner_of(pool).error is None


def test_a_lost_host_is_told_with_the_reason_from_the_first_moment(machine) -> None:
    """Whoever sees that its workers are gone sees why, while its program's end is looked into."""
    with support.running_pool(1, hosts=["machine://far/1"]) as pool:
        far = runner_of(pool)

        def lose():
            far._lost("nothing was heard")
            return far.state, str(far.error)

        assert on_the_loop(pool, lose) == ("backing off", "far: nothing was heard")
        support.wait_until(lambda: machine.launches == 2 and pool.is_ready())
        assert far.error is None


def test_overdue(machine) -> None:
    """A host that is up is not; one that is not is, with the best reason there is."""
    with support.running_pool(1, hosts=["machine://far/1"]) as pool:
        far = runner_of(pool)
        assert far.overdue() is None

        def look():
            standing, launch = far.standing, far._launch
            far.standing = Standing(State.STARTING)
            try:
                first = far.overdue()
                far._launch = None
                second = far.overdue()
                far.standing = Standing(State.STARTING, HostError("far", "on fire"))
                return [str(error) for error in (first, second, far.overdue())]
            finally:
                far.standing, far._launch = standing, launch

        first, second, third = on_the_loop(pool, look)
        assert "did not connect back within 30 s: the machine does not answer" in first
        assert second == "far: pool-worker has not connected back"
        assert third == "far: on fire"


class Second:
    """Another connection of somebody who knows the token."""

    closed = False

    def close(self) -> None:
        self.closed = True


def test_who_connects_when_the_host_is_lost_is_too_late(machine) -> None:
    """With its supervisor the token is worth nothing, before the next one is started."""
    with support.running_pool(1, hosts=["machine://far/1"]) as pool:
        far = runner_of(pool)
        fleet = pool._core.engine.fleet
        second = Second()

        def lose():
            launch = far.launch_id
            far._lost("nothing was heard")
            far.opened(second)
            return launch in fleet._tokens, far.control

        assert on_the_loop(pool, lose) == (False, None)
        assert second.closed
        support.wait_until(pool.is_ready)
        assert machine.launches == 2


def test_who_connects_when_the_pool_closes_is_too_late(machine) -> None:
    """Nobody would end it any more."""
    with Pool(0, hosts=["machine://far/1"]) as pool:
        far = runner_of(pool)
    assert far.state is State.CLOSED
    second = Second()
    far.opened(second)
    assert second.closed
    assert far.control is None


def test_one_loss_is_one_attempt(tmp_path) -> None:
    """What a lost host's worker held does not go to the next worker that is lost with it."""
    gate = tmp_path / "gate"

    def wait() -> int:
        while not gate.exists():
            time.sleep(0.01)
        return 1

    with support.running_pool(6, retries=1) as pool:
        local = runner_of(pool, "local")
        future = pool.submit(wait)
        support.wait_until(lambda: pool.stats().held)

        def lose():
            seats = local.seats.by_id
            busy = next(seat for seat in seats.values() if seat.worker.tasks)
            local.seats.by_id = {busy.id: busy, **seats}
            local._lost("nothing was heard")
            return pool.stats().retried

        assert on_the_loop(pool, lose) == 1
        gate.touch()
        assert future.result(30) == 1


def test_the_next_supervisor_watches_time_limits_too(monkeypatch) -> None:
    """The one before it was told to, and is gone."""
    monkeypatch.setattr(watching, "LINGER_NS", 3600 * 10**9)
    with support.running_pool(1) as pool:
        limited = pool.options(timeout=0.2)
        assert isinstance(limited.submit(time.sleep, 3600).exception(30), TaskTimeout)
        support.wait_until(pool.is_ready)
        before = pool.run(os.getppid)
        support.kill(before)
        support.wait_until(lambda: pool.submit(os.getppid).result(30) != before)
        assert isinstance(limited.submit(time.sleep, 3600).exception(30), TaskTimeout)


def test_a_host_leaves_while_a_worker_of_it_still_starts(tmp_path, monkeypatch) -> None:
    """That worker would take tasks, and the host would never be done."""
    support.end_creation_when(monkeypatch, lambda fleet: fleet.engine.scheduler.workers)
    first, ready, done = (tmp_path / name for name in ("first", "ready", "done"))

    def wait(path) -> None:
        while not path.exists():
            time.sleep(0.01)

    def initialize() -> None:
        try:
            first.touch(exist_ok=False)
        except FileExistsError:
            wait(ready)

    with support.running_pool(2, initializer=initialize, min_workers=1) as pool:
        local = runner_of(pool, "local")
        assert len(pool.workers()) == 1
        future = pool.submit(wait, done)
        support.wait_until(lambda: pool.stats().held)
        on_the_loop(pool, lambda: local.received(local.control, [Leaving()]))
        assert local.state is State.LEAVING, "as long as the gates are closed"
        assert not pool.is_ready()
        ready.touch()
        done.touch()
        assert future.result(30) is None
        support.wait_until(lambda: pool.is_ready() and pool.hosts()[0].state == "up")


def test_after_the_end_nobody_is_there(machine) -> None:
    """However it came."""
    pools = [Pool(1, hosts=["machine://far/1"]) for _ in range(2)]
    pools[0].shutdown()
    pools[1].kill_workers()
    for pool in pools:
        assert [(host.state, host.workers) for host in pool.hosts()] == [("closed", 0)] * 2
        assert pool.workers() == []
        assert pool.stats().workers == pool.stats().workers_lost == 0
        assert not pool.is_ready()


def test_an_end_that_fails_keeps_nobody_waiting(machine, monkeypatch) -> None:
    """A pool that breaks ends its hosts while somebody shuts it down."""
    pool = Pool(1, hosts=["machine://far/1"])
    runner = runner_of(pool)
    close = runner._launch.close

    async def fail() -> None:
        await close()
        raise OSError("the disk is full")

    monkeypatch.setattr(runner._launch, "close", fail)
    loop = pool._core.engine.loop
    ends = [asyncio.run_coroutine_threadsafe(runner.close(), loop) for _ in range(2)]
    with pytest.raises(OSError, match="the disk is full"):
        ends[0].result(60)
    ends[1].result(60)
    pool.shutdown()


class Faulty:
    """What somebody else's launcher may give: it does what it should, and raises all the same."""

    def __init__(self, child) -> None:
        self.child = child

    def ended(self):
        return self.child.ended()

    def __getattr__(self, method):
        def fail():
            getattr(self.child, method)()
            raise ZeroDivisionError(method)

        return fail


def test_a_broken_launcher_does_not_hold_its_host_up(machine, monkeypatch, caplog) -> None:
    """The host is lost, comes again and ends as any other; what is wrong is told by its name."""
    launch = machines_module.MachineLauncher.launch

    async def faulty(self, spec, order):
        return Faulty(await launch(self, spec, order))

    monkeypatch.setattr(machines_module.MachineLauncher, "launch", faulty)
    with support.running_pool(0, hosts=["machine://far/1"]) as pool:
        before = pool.run(os.getpid)
        machine.signal(signal.SIGKILL)
        support.wait_until(lambda: pool.stats().hosts_lost)
        assert pool.run(os.getpid) != before
    assert pool.hosts()[0].state == "closed"
    told = {record.getMessage() for record in caplog.records}
    for method in ("errors", "kill", "close", "hang_up"):
        text = f"far: its launcher's {method}() has failed: ZeroDivisionError: {method}"
        assert text in told
