"""Hosts that fail: at the start, later, alone, among others, for a while and for good.

The hosts are this machine (see ``machines``), over a Unix socket and over TLS; ``tests/hosts`` has
the same over ssh and with a spawner.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import support
from credentials import make_credential
from limits import ask_often, end_patience
from machines import machines

from faults import tasks
from pool_client import HostError, Pool, PoolBroken, WorkerLost
from pool_client.hosts import perseverance

__all__ = ["machines"]


@pytest.fixture(params=["unix", "tls"])
def credential(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Over what a machine connects."""
    return make_credential(tmp_path / "credential.pem") if request.param == "tls" else None


@pytest.fixture
def machine(machines, credential):
    """A machine called ``far``."""
    return machines("far", credential)


@contextlib.contextmanager
def pool_with(*hosts, local=1, credential=None, **settings):
    """A pool of these hosts and some local workers."""
    with support.running_pool(
        local,
        hosts=[host if host.count("/") > 2 else f"{host}/2" for host in map(str, hosts)],
        credential=None if credential is None else str(credential),
        **settings,
    ) as pool:
        yield pool


def info(pool: Pool, name: str = "far"):
    [found] = [host for host in pool.hosts() if host.name == name]
    return found


# -- starting


def test_every_kind_of_host_in_one_pool(machines, tmp_path: Path) -> None:
    """Local, Unix and TLS hosts share the work, in worker order, and each result comes once."""
    credential = make_credential(tmp_path / "credential.pem")
    near, far = machines("near"), machines("far", credential)
    with pool_with(near, far, credential=credential) as pool:
        assert [worker.host for worker in pool.workers()] == ["local", "near", "near", "far", "far"]
        assert pool.total_workers() == 5
        assert pool.is_ready()
        assert sum(pool.map(abs, range(-100_000, 0))) == 5_000_050_000
        supervisors = pool.run_on_all(tasks.get_parent_pid)
        assert supervisors[1:] == [near.pid] * 2 + [far.pid] * 2
        support.wait_until(lambda: all(host.round_trip for host in pool.hosts()[1:]))
        for host in pool.hosts():
            assert host.state == "up"
            assert host.workers == host.wanted
            assert host.cpus > 0
            assert host.python and host.version
            assert (host.round_trip is not None) == (host.name != "local")


def test_as_many_workers_as_there_are_cpus(machine, credential) -> None:
    """``auto`` is one worker for each CPU, which only the host knows."""
    with pool_with(f"{machine}/auto", local=0, credential=credential) as pool:
        cpus = len(os.sched_getaffinity(0))
        assert pool.total_workers() == len(pool.workers()) == cpus
        assert pool.is_ready()
        assert f"far/{cpus}" in repr(pool)


def test_a_host_that_cannot_be_started_is_named_with_the_reason(machines) -> None:
    """The other hosts' workers are ended, and the error says which one failed, and why."""
    machine = machines("far")
    machine.trouble = "it is on fire"
    with pytest.raises(HostError, match="far: it is on fire"):
        Pool(1, hosts=[f"{machine}/2"])
    assert machine.launches == 1


def test_every_host_that_fails_is_named(machines) -> None:
    """Not only the first."""
    for name, trouble in (("one", "it is on fire"), ("two", "it is under water")):
        machines(name).trouble = trouble
    good = machines("good")
    with pytest.raises(HostError) as caught:
        Pool(1, hosts=["machine://one/2", "machine://good/1", "machine://two/1"])
    assert "one: it is on fire" in str(caught.value)
    assert "two: it is under water" in str(caught.value)
    assert "good" not in str(caught.value)
    support.wait_until(lambda: not support.is_alive(good.pid))


def test_a_silent_host_is_named_in_time(machines) -> None:
    """Nothing is heard of it: what the launcher waits for is said, and other failures too."""
    machines("silent").silent = True
    machines("burning").trouble = "it is on fire"
    with pytest.raises(HostError) as caught:
        Pool(1, hosts=["machine://silent/2", "machine://burning/2"], connect_timeout=1.0)
    assert "silent: " in str(caught.value)
    assert "within 1 s: the machine does not answer" in str(caught.value)
    assert "burning: it is on fire" in str(caught.value)


def test_a_program_that_ends_at_once_is_named_with_what_it_said(machines) -> None:
    """Its standard error is part of the error."""
    machine = machines("far")
    machine.command = [sys.executable, "-c", "import sys; sys.exit('no such luck')"]
    with pytest.raises(HostError, match=r"far: .*code 1\n.*no such luck"):
        Pool(hosts=[f"{machine}/2"], num_workers=0)


def test_a_missing_program_is_named(machines) -> None:
    """Whatever a launcher raises becomes an error that names the host."""
    machine = machines("far")
    machine.command = ["/no/such/program"]
    with pytest.raises(HostError, match=r"far: FileNotFoundError.*no/such/program"):
        Pool(hosts=[f"{machine}/2"], num_workers=0)


def test_a_program_that_never_connects_is_named(machines) -> None:
    """It runs, but nothing is heard of it."""
    machine = machines("far")
    machine.command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with pytest.raises(HostError, match="far: pool-worker did not connect back within 1 s"):
        Pool(hosts=[f"{machine}/2"], num_workers=0, connect_timeout=1.0)


def test_a_failing_initializer_is_told_as_it_is(machine, credential) -> None:
    """It fails on every host in the same way, and its own error is the cause."""
    failing = {"initializer": divmod, "initargs": (1, 0)}
    with (
        pytest.raises(PoolBroken, match="the initializer failed on") as caught,
        pool_with(machine, credential=credential, **failing),
    ):
        pass
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_enough_workers_are_enough(machines, monkeypatch) -> None:
    """With ``min_workers`` a host that fails is left out at once, and comes when it can."""
    monkeypatch.setattr(perseverance, "MAX_FAILURES", 1000)  # however long this test takes
    late = machines("far")
    late.trouble = "still booting"
    with pool_with(late, min_workers=1, connect_timeout=30.0) as pool:
        assert len(pool.workers()) == 1
        assert not pool.is_ready()
        assert pool.run_on_all(abs, -1) == [1], "a broadcast does not wait for it"
        assert "still booting" in repr(pool)
        late.trouble = None
        support.wait_until(pool.is_ready)
        assert len(pool.run_on_all(abs, -1)) == 3
        assert late.launches > 1


def test_a_host_that_never_comes_up_is_dropped(machines, caplog) -> None:
    """After some tries, with its reason in the log and in the pool's repr."""
    burning = machines("far")
    burning.trouble = "it is on fire"
    with pool_with(burning, min_workers=1) as pool:
        support.wait_until(lambda: info(pool).state == "dropped" and pool.is_ready())
        assert pool.total_workers() == 1
        assert "far/2 (dropped: it is on fire)" in repr(pool)
        assert info(pool).reason == "it is on fire"
        launches = burning.launches
        support.assert_works(pool)
        assert burning.launches == launches
    assert caplog.text.count("far: it is on fire") == 1


# -- losses


def test_a_lost_host_s_tasks_run_elsewhere_and_it_comes_back(machine, credential) -> None:
    """Its supervisor is killed in the middle of the work."""
    with pool_with(machine, credential=credential) as pool:
        futures = [pool.submit(tasks.same_slowly, number) for number in range(200)]
        support.wait_until(lambda: sum(future.done() for future in futures) > 20)
        before = set(support.worker_pids(pool))
        machine.signal(signal.SIGKILL)
        assert [future.result(30) for future in futures] == list(range(200))
        support.wait_until(pool.is_ready)
        assert len(before & set(support.worker_pids(pool))) == 1
        assert machine.launches == 2
        assert pool.stats().hosts_lost == 1


def test_a_host_out_of_reach_is_tried_until_it_is_back(machine, credential) -> None:
    """For as long as others work: more often than a broken one would be."""
    with pool_with(machine, credential=credential) as pool:
        machine.lose()
        support.wait_until(lambda: machine.launches > 6)
        assert info(pool).state in ("backing off", "starting")
        assert info(pool).reason == "no route to it"
        assert not pool.is_ready()
        assert pool.total_workers() == 3
        assert pool.run_on_all(abs, -2) == [2], "a broadcast does not wait for it"
        support.assert_works(pool)
        machine.trouble = None
        support.wait_until(pool.is_ready)
        assert len(pool.run_on_all(abs, -2)) == 3


def test_the_only_host_is_tried_for_a_while(machine, credential) -> None:
    """Then the pool breaks, with the reason; tasks do not wait for ever."""
    with pool_with(machine, local=0, credential=credential, works_after=False) as pool:
        machine.lose()
        support.wait_until(lambda: not pool.workers())
        future = pool.submit(abs, -1)
        support.wait_until(lambda: machine.launches > 2)
        assert not future.done()
        end_patience(pool)
        with pytest.raises(PoolBroken, match="no route to it"):
            future.result(30)


def test_the_only_host_may_come_back_in_time(machine, credential) -> None:
    """What was submitted meanwhile is done then."""
    with pool_with(machine, local=0, credential=credential) as pool:
        machine.lose()
        support.wait_until(lambda: not pool.workers())
        futures = [pool.submit(abs, -number) for number in range(50)]
        support.wait_until(lambda: machine.launches > 3)
        machine.trouble = None
        assert [future.result(30) for future in futures] == list(range(50))


@pytest.mark.parametrize("killer", ["exits", "signal"])
def test_a_host_on_which_every_task_dies(machine, credential, tmp_path: Path, killer: str) -> None:
    """Its tasks succeed elsewhere; it is backed off, then dropped with its reason."""
    machine.environment = {"POOL_TEST_BROKEN": killer}

    def task(number: int) -> int:
        broken = os.environ.get("POOL_TEST_BROKEN")
        if broken == "exits":
            os._exit(3)
        if broken:
            os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(0.005)
        return number

    with pool_with(machine, credential=credential) as pool:
        futures = []
        while info(pool).state != "dropped":
            first = len(futures)
            futures += [pool.submit(task, first + number) for number in range(10)]
            assert futures[first].result(30) == first
            assert len(futures) < 20_000
        assert [future.result(30) for future in futures] == list(range(len(futures)))
        support.wait_until(pool.is_ready)
        assert "without completing anything" in info(pool).reason
        assert pool.run_on_all(abs, -1) == [1], "a broadcast does not wait for it"
        assert pool.total_workers() == 1
        support.wait_until(lambda: not support.is_alive(machine.pid))


def test_a_task_that_kills_every_worker_is_not_the_hosts_fault(machine, credential) -> None:
    """It fails by itself; no host is dropped, whatever else is done meanwhile."""
    with pool_with(machine, local=2, credential=credential) as pool:
        for _ in range(4):
            poison = pool.submit(os._exit, 5)
            good = [pool.submit(tasks.same_slowly, number) for number in range(20)]
            assert isinstance(poison.exception(30), WorkerLost)
            assert [future.result(30) for future in good] == list(range(20))
        assert [host.state for host in pool.hosts()] == ["up", "up"]


# -- silence


def test_a_frozen_host_is_lost(machine, credential, tmp_path: Path) -> None:
    """Nothing comes from it: its tasks run elsewhere, once, and its old workers end."""
    log = tmp_path / "log"

    def note(number: int) -> int:
        time.sleep(0.05)
        with log.open("a") as file:
            file.write(f"{number}\n")
        return number

    with pool_with(machine, local=1, credential=credential) as pool:
        futures = [pool.submit(note, number) for number in range(60)]
        support.wait_until(lambda: sum(future.done() for future in futures) > 10)
        old = machine.pid
        frozen = [old, *(process.pid for process in support.descendants(old))]
        machine.freeze()
        ask_often(pool, 0.3)
        assert [future.result(30) for future in futures] == list(range(60))
        support.wait_until(pool.is_ready)
        support.wait_until(lambda: not any(map(support.is_alive, frozen)))
        assert pool.stats().hosts_lost == 1
    assert set(log.read_text().split()) == set(map(str, range(60)))


def test_our_own_sleep_is_not_taken_for_the_hosts(machine, credential) -> None:
    """The loop is blocked for longer than a host may be silent: nothing is lost."""
    with pool_with(machine, credential=credential) as pool:
        ask_often(pool, 0.6)
        engine = pool._core.engine
        futures = [pool.submit(tasks.same_slowly, number) for number in range(100)]
        for _ in range(2):
            engine.submit(lambda: time.sleep(2.6))
            assert pool.run(abs, -1) == 1
        assert [future.result(30) for future in futures] == list(range(100))
        assert pool.stats().hosts_lost == 0
        assert pool.stats().workers_lost == 0
        assert machine.launches == 1


def test_a_busy_host_is_not_silent(machine, credential) -> None:
    """Workers that hold the GIL do not keep their supervisor from answering."""

    def busy() -> int:
        deadline = time.monotonic() + 3.0  # longer than a host may be silent here
        while time.monotonic() < deadline:
            sum(range(100_000))
        return 1

    with pool_with(machine, local=0, credential=credential) as pool:
        ask_often(pool, 0.6)
        assert [f.result(30) for f in [pool.submit(busy) for _ in range(2)]] == [1] * 2
        assert pool.stats().hosts_lost == 0
        assert info(pool).round_trip is not None


# -- the end


def test_closing_ends_every_host(machine, credential) -> None:
    """Also one that is being tried again, and one that was dropped."""
    with pool_with(machine, credential=credential, works_after=False) as pool:
        pids = [machine.pid, *support.worker_pids(pool)]
        machine.lose()
        support.wait_until(lambda: machine.launches > 2)
    support.wait_until(lambda: not any(map(support.is_alive, pids)))


def test_closing_while_hosts_start(machines) -> None:
    """A launch that is under way is given up."""
    machines("far").silent = True
    pool = Pool(1, hosts=["machine://far/2"], lazy_create=True)
    future = pool.submit(abs, -1)
    assert future.result(30) == 1
    assert info(pool).state == "starting"
    pool.shutdown()
    assert repr(pool).endswith(": closed>")


def test_closing_does_not_wait_for_a_frozen_host_for_ever(machine, credential, monkeypatch) -> None:
    """Its program is killed."""
    for deadline in (
        "engine._LEAVE",
        "hosts.host._FAREWELL",
        "hosts.launching._PATIENCE",
        "launchers.local._PATIENCE",
    ):
        monkeypatch.setattr(f"pool_client.{deadline}", 0.3)
    with pool_with(machine, credential=credential, works_after=False) as pool:
        pids = [machine.pid, *support.worker_pids(pool)]
        machine.freeze()
        for worker in pool.workers():
            if worker.host == "local":
                pids.remove(worker.pid)
    machine.thaw()
    support.wait_until(lambda: not any(map(support.is_alive, pids)))
