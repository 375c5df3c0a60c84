"""Pools with workers on LAN hosts, through a real pool-spawner and real TLS on loopback."""

import asyncio
import ctypes
import os
import shutil
import signal
import time

import pytest
from limits import end_creation_at, end_creation_once_up
from support import (
    MARK,
    be_patient,
    is_alive,
    marked_processes,
    running_pool,
    started_script,
    wait_until,
)

from hosts.lan import Spawner, certificate, make_credential
from hosts.ports import free_port
from pool_client import HostError, Pool, PoolBroken
from pool_protocol import LoopType

TASKS = 100_000


def lan(spawner, credential, workers, **more):
    """The arguments of a pool with workers there, and none here."""
    return {
        "num_workers": 0,
        "hosts": [spawner.host(workers)],
        "credential": credential,
        "connect_timeout": 40,
        **more,
    }


def why_not(**arguments):
    """The reason why a pool cannot be created."""
    with pytest.raises((HostError, PoolBroken)) as error:
        Pool(**arguments)
    return str(error.value)


# -- it works


def test_a_hundred_thousand_tasks_on_one_host(spawner, credential):
    with running_pool(**lan(spawner, credential, 2)) as pool:
        assert list(pool.map(lambda n: 3 * n, range(TASKS))) == [3 * n for n in range(TASKS)]
        assert {worker.host for worker in pool.workers()} == {"127.0.0.1"}


def test_a_hundred_thousand_tasks_on_local_and_lan_workers_once_each(credential, spawner, tmp_path):
    """Correct, each task once, and every worker of every host has its part."""
    log = str(tmp_path / "log")

    def run(number):
        with open(log, "a") as lines:  # one write below the size of a page is not torn
            lines.write(f"{os.getpid()} {number}\n")
        return number + 1

    with (
        Spawner(credential) as second,
        running_pool(
            2,
            [spawner.host(2), second.host(1)],
            credential=credential,
        ) as pool,
    ):
        futures = [pool.submit(run, number) for number in range(TASKS)]
        assert [future.result(60) for future in futures] == list(range(1, TASKS + 1))
        pids = {worker.pid for worker in pool.workers()}
    with open(log) as lines:
        noted = [line.split() for line in lines]
    assert sorted(int(number) for _, number in noted) == list(range(TASKS))
    assert {int(pid) for pid, _ in noted} == pids
    assert len(pids) == 5


def test_as_many_workers_as_the_host_has_cpus(spawner, credential):
    with running_pool(**lan(spawner, credential, "auto")) as pool:
        assert len(pool.workers()) == len(os.sched_getaffinity(0))


def test_auto_keeps_to_the_cap_of_the_spawner(credential):
    with (
        Spawner(credential, "--max-workers", "1") as spawner,
        running_pool(**lan(spawner, credential, "auto")) as pool,
    ):
        assert len(pool.workers()) == 1


@pytest.mark.parametrize("loop", [LoopType.asyncio, LoopType.uvloop])
def test_tasks_of_both_kinds(spawner, credential, loop):
    async def twice(number):
        await asyncio.sleep(0)
        return 2 * number

    with running_pool(**lan(spawner, credential, 2, worker_loop=loop)) as pool:
        assert pool.run(twice, 21) == 42
        assert pool.run(pow, 2, 10) == 1024


def test_on_the_callers_own_loop(spawner, credential):
    async def body():
        async with Pool(**lan(spawner, credential, 2)) as pool:
            return [number async for number in pool.map_async(abs, range(-100, 0))]

    assert asyncio.run(body()) == list(range(100, 0, -1))
    wait_until(lambda: not spawner.workers())


def test_large_arguments_and_results(spawner, credential):
    data = os.urandom(20_000_000)
    with running_pool(**lan(spawner, credential, 1)) as pool:
        assert pool.run(lambda one: one[::-1], data) == data[::-1]


def test_ipv6(credential):
    with (
        Spawner(credential, address="::1") as spawner,
        running_pool(**lan(spawner, credential, 1)) as pool,
    ):
        assert pool.run(abs, -1) == 1


def test_a_host_by_name(spawner, credential):
    arguments = lan(spawner, credential, 1, hosts=[f"localhost:{spawner.port}/1"])
    with running_pool(**arguments) as pool:
        assert [worker.host for worker in pool.workers()] == ["localhost"]


def test_many_workers(spawner, credential):
    with running_pool(**lan(spawner, credential, 100)) as pool:
        assert len(set(pool.run_on_all(os.getpid))) == 100


def test_a_shut_down_pool_leaves_nothing_there(spawner, credential):
    with Pool(**lan(spawner, credential, 3)) as pool:
        pids = {worker.pid for worker in pool.workers()}
        supervisors = spawner.workers()
        assert len(supervisors) == 1
    assert not any(map(is_alive, pids)) and not any(map(is_alive, supervisors))
    assert spawner.logged("is over")["exitcode"] == 0


# -- clients together


def test_two_pools_share_a_spawner(spawner, credential):
    with (
        running_pool(**lan(spawner, credential, 2)) as one,
        running_pool(**lan(spawner, credential, 2)) as two,
    ):
        assert len(spawner.workers()) == 2
        first, second = one.map(abs, range(-500, 0)), two.map(abs, range(-500, 0))
        assert list(first) == list(second) == list(range(500, 0, -1))


def test_the_second_pool_waits_for_its_turn(credential):
    with Spawner(credential, "--max-workers", "3") as spawner:
        one = Pool(**lan(spawner, credential, 2))
        with running_pool(
            **lan(spawner, credential, 2, lazy_create=True, connect_timeout=50)
        ) as two:
            future = two.submit(abs, -1)
            spawner.logged("waits for 2 workers")
            one.shutdown()
            assert future.result(30) == 1


def test_whose_turn_does_not_come_in_time_is_told_why(credential, monkeypatch):
    with (
        Spawner(credential, "--max-workers", "3") as spawner,
        running_pool(**lan(spawner, credential, 2)),
    ):
        end_creation_at(monkeypatch, "lets it wait")
        reason = why_not(**lan(spawner, credential, 2))
        assert "1 of its 3 workers are free" in reason and "--max-workers" in reason


def test_more_workers_than_the_cap_are_refused_at_once(spawner, credential):
    reason = why_not(**lan(spawner, credential, 1001))
    assert "1001 workers were asked for" in reason and "1000 at most" in reason


# -- why it does not work


def test_nothing_listens(credential):
    reason = why_not(num_workers=0, hosts=f"127.0.0.1:{free_port()}/2", credential=credential)
    assert "127.0.0.1: nothing listens" in reason and "python -m pool_spawner" in reason


def test_without_a_credential(spawner, tmp_path):
    reason = why_not(**lan(spawner, tmp_path / "nothing", 1))
    assert "127.0.0.1" in reason and "pool_spawner init" in reason


def test_with_another_credential(spawner, tmp_path):
    reason = why_not(**lan(spawner, make_credential(tmp_path), 1))
    assert "is not the one here" in reason and "copy" in reason


def test_an_advertised_address_that_does_not_lead_here_is_named(spawner, credential):
    reason = why_not(**lan(spawner, credential, 1, advertise="127.0.0.9", localhost="127.0.0.1"))
    assert "127.0.0.9" in reason and "refused" in reason


def test_an_advertised_address_where_nobody_answers_is_named(spawner, credential, monkeypatch):
    """TEST-NET-1 is routed nowhere."""
    end_creation_at(monkeypatch, "it runs there")
    reason = why_not(**lan(spawner, credential, 1, advertise="192.0.2.1"))
    assert "192.0.2.1" in reason and "advertise=" in reason


def test_rotation_with_folders_on_both_sides(credential, tmp_path):
    def member(name, own, accepted):
        folder = tmp_path / name
        folder.mkdir(mode=0o700)
        shutil.copy(own, folder / "credential.pem")
        (folder / "accepted.crt").write_text(certificate(accepted))
        return folder

    new = make_credential(tmp_path)
    here, there = member("here", credential, new), member("there", new, credential)
    with Spawner(there) as spawner, running_pool(**lan(spawner, here, 2)) as pool:
        assert pool.run(abs, -1) == 1


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("raise ValueError('not today')", "not today"),
        ("import os; os._exit(3)", "exited with code 3"),
        ("import time; time.sleep(1000)", "does the initializer hang"),
    ],
)
def test_an_initializer_that_fails(spawner, credential, monkeypatch, how, text):
    if "sleep" in how:
        end_creation_once_up(monkeypatch)

    def initialize(source):
        exec(source)

    failing = {"initializer": initialize, "initargs": (how,)}
    with pytest.raises((HostError, PoolBroken)) as error:
        Pool(**lan(spawner, credential, 1, **failing))
    assert text in f"{error.value} {error.value.__cause__}"
    wait_until(lambda: not spawner.workers())


def test_a_broken_host_among_good_ones_is_dropped_with_its_reason(spawner, credential):
    """Every task that starts there kills its worker."""
    with (
        Spawner(credential, address="127.0.0.2") as broken,
        running_pool(1, [broken.host(2)], credential=credential, retries=3) as pool,
    ):
        here = {worker.pid for worker in pool.workers() if worker.host == "local"}

        def run(number):
            if os.getpid() not in here:
                os._exit(9)
            time.sleep(0.01)
            return number

        def broken_one():
            [found] = [host for host in pool.hosts() if host.name == "127.0.0.2"]
            return found

        results = []
        while broken_one().state != "dropped":
            first = len(results)
            assert first < 20_000
            results += [pool.submit(run, first + number) for number in range(10)]
            assert results[first].result(40) == first
        assert [future.result(40) for future in results] == list(range(len(results)))
        wait_until(lambda: "without completing anything" in broken_one().reason)
        wait_until(lambda: "127.0.0.2/2 (dropped: " in repr(pool))
        assert "exited with code 9" in broken_one().reason


# -- deaths


def test_a_spawner_that_is_killed_and_comes_back(credential, spawner):
    """Its workers end at once, their tasks go elsewhere, and it is used again when it is back."""
    with (
        Spawner(credential) as second,
        running_pool(1, [second.host(2)], credential=credential) as pool,
    ):
        there = [worker.pid for worker in pool.workers() if worker.host != "local"]
        futures = [pool.submit(lambda n: time.sleep(0.02) or n, n) for n in range(200)]
        second.kill()
        wait_until(lambda: not any(map(is_alive, there)), what="its workers to end")
        assert [future.result(30) for future in futures] == list(range(200))
        second.start()
        wait_until(lambda: len(pool.workers()) == 3, timeout=30, what="its workers to be back")
        assert not {worker.pid for worker in pool.workers()} & set(there)


def test_a_pool_of_that_host_alone_waits_for_it(credential):
    with (
        Spawner(credential) as spawner,
        running_pool(**lan(spawner, credential, 2)) as pool,
    ):
        assert pool.run(abs, -1) == 1
        spawner.kill()
        future = pool.submit(abs, -2)
        spawner.start()
        assert future.result(30) == 2


def test_a_spawner_that_is_stopped_and_not_started_again_breaks_a_pool_of_its_own(credential):
    with Spawner(credential) as spawner:
        pool = Pool(**lan(spawner, credential, 2))
        try:
            be_patient(pool, 2.0)
            assert spawner.stop() == 0
            error = pool.submit(time.sleep, 0).exception(30)
            assert isinstance(error, PoolBroken)
            assert "127.0.0.1" in str(error)
        finally:
            pool.shutdown()


def test_the_pool_worker_there_is_killed(spawner, credential):
    with running_pool(**lan(spawner, credential, 2)) as pool:
        futures = [pool.submit(lambda n: time.sleep(0.02) or n, n) for n in range(100)]
        [supervisor] = spawner.workers()
        os.kill(supervisor, signal.SIGKILL)
        assert [future.result(30) for future in futures] == list(range(100))
        wait_until(lambda: spawner.workers() not in ([], [supervisor]), what="another one")
        wait_until(lambda: len(pool.workers()) == 2)


@pytest.mark.soak
@pytest.mark.timeout(180)
def test_a_minute_of_work_and_a_minute_of_a_blocked_client_lose_nothing(spawner, credential):
    """Megabytes are queued behind tasks that last; meanwhile, this process holds the GIL."""
    with running_pool(**lan(spawner, credential, 2, qsize=3)) as pool:
        before = {worker.pid for worker in pool.workers()}
        busy = [pool.submit(time.sleep, 65) for _ in range(2)]
        wait_until(lambda: all(future.running() for future in busy))
        queued = [pool.submit(len, bytes(20_000_000)) for _ in range(4)]
        ctypes.PyDLL(None).sleep(60)
        assert [future.result(60) for future in queued] == [20_000_000] * 4
        assert [future.result(60) for future in busy] == [None] * 2
        assert {worker.pid for worker in pool.workers()} == before


SCRIPT = """
import sys, time
from pool_client import Pool
pool = Pool(0, [sys.argv[1]], credential=sys.argv[2])
futures = [pool.submit({work}) for _ in range(4)]
while len({{worker.pid for worker in pool.workers()}}) < 2:
    time.sleep(0.01)
print("ready", *(worker.pid for worker in pool.workers()), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("work", ["time.sleep, 600", "pow, 7, 10**9", "abs, 1"])
def test_the_client_is_killed(spawner, credential, work, short_directory):
    """Every worker there is gone soon, in the middle of a C call too."""
    folder = str(short_directory)
    environment = {MARK: f"{os.environ[MARK]}-killed", "TMPDIR": folder, "XDG_RUNTIME_DIR": folder}
    arguments = (spawner.host(2), credential)
    with started_script(SCRIPT.format(work=work), *arguments, env=environment) as client:
        words = client.stdout.readline().split()
        assert words and words[0] == "ready", client.stderr.read()
        pids = [*map(int, words[1:]), *spawner.workers()]
        assert len(pids) == 3
        client.send_signal(signal.SIGKILL)
        client.wait()
        wait_until(lambda: not any(map(is_alive, pids)), what="the workers to end")
    assert not marked_processes(environment[MARK])


def test_no_secret_is_seen_anywhere(spawner, credential):
    """Neither on a command line nor in an environment, a log or a repr."""
    key = credential.read_text().splitlines()[1]
    with running_pool(**lan(spawner, credential, 2)) as pool:
        settings = [runner.launch_id for runner in pool._core.engine.fleet.runners]
        tokens = [pool._core.engine.fleet._tokens[launch][0].hex() for launch in settings]
        pids = [worker.pid for worker in pool.workers()] + spawner.workers()
        seen = repr(pool) + "".join(spawner.lines)
        for pid in pids:
            for name in ("cmdline", "environ"):
                with open(f"/proc/{pid}/{name}", errors="replace") as file:
                    seen += file.read()
    assert tokens and pids
    for secret in (key, *tokens):
        assert secret not in seen


def test_the_tasks_are_spread_over_both_kinds(spawner, credential, tmp_path):
    """A worker keeps its task until the other one has another, however late that comes."""

    def meet():
        (tmp_path / str(os.getpid())).touch()
        while len(os.listdir(tmp_path)) < 2:
            time.sleep(0.01)
        return os.getpid()

    with running_pool(1, [spawner.host(1)], credential=credential) as pool:
        pids = {future.result(30) for future in [pool.submit(meet) for _ in range(50)]}
        assert pids == {worker.pid for worker in pool.workers()}
    assert len(pids) == 2
