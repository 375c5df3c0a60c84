"""A LAN host whose line fails: in a network namespace, with what the kernel does to packets.

Skipped where none can be made; the reason is printed with the other skips.
"""

import collections
import os
import time

import pytest
from faults.tasks import noted
from limits import end_creation_at
from support import is_alive, running_pool, wait_until

from hosts.lan import Spawner
from hosts.namespace import Namespace, missing
from pool_client import HostError, Pool, PoolBroken

#: Within so many seconds a vanished host is given up, and the same the other way round.
NOTICED = 25.0
#: What a machine that does other work at the same time may add to that.
SLACK = 10.0


@pytest.fixture(scope="module")
def machine():
    """Another machine."""
    if reason := missing():
        pytest.skip(reason)
    with Namespace() as namespace:
        yield namespace


@pytest.fixture
def there(machine, credential):
    """A pool-spawner on it; afterwards the line is whole."""
    spawner = Spawner(
        credential, "--max-workers", "20", address=machine.address, before=machine.before
    )
    with spawner:
        yield spawner
        machine.heal()


def pids_on(pool, host):
    return {worker.pid for worker in pool.workers() if worker.host == host}


def working(log, gate):
    """A task that notes that it runs, and waits for a file."""

    def run(number):
        note = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(note, f"{number} {os.getpid()}\n".encode())
        os.close(note)
        while not os.path.exists(gate):
            time.sleep(0.01)
        return number

    return run


def test_a_host_that_vanishes_idle_and_at_work(machine, there, credential, log, gate):
    """Seen within 25 s on both sides: tasks run elsewhere, workers there end; then it is back."""
    options = {"hosts": [there.host(2)], "credential": credential}
    with running_pool(1, **options) as busy, running_pool(1, **options) as idle:
        run = working(log, gate)
        futures = [busy.submit(run, number) for number in range(3)]
        wait_until(lambda: len(noted(log)) == 3, what="three tasks to run")
        data = busy.submit(len, bytes(20_000_000))  # waits behind them, partly on its way
        old = pids_on(busy, machine.address) | pids_on(idle, machine.address)
        assert len(old) == 4
        started = time.monotonic()
        machine.cut()
        wait_until(
            lambda: not (pids_on(busy, machine.address) or pids_on(idle, machine.address)),
            timeout=NOTICED + SLACK,
            what="the loss to be seen here",
        )
        left = NOTICED + SLACK - (time.monotonic() - started)
        wait_until(
            lambda: not any(map(is_alive, old)), timeout=left, what="the workers there to end"
        )
        gate.touch()
        assert [future.result(20) for future in futures] == [0, 1, 2]
        assert data.result(20) == 20_000_000
        ran = collections.Counter(line.split()[0] for line in noted(log))
        assert sum(ran.values()) == 5, "the two that ran there, and no other, ran twice"
        machine.heal()
        for pool in (busy, idle):
            wait_until(
                lambda pool=pool: len(pids_on(pool, machine.address)) == 2,
                timeout=30,
                what="the host to be back",
            )


def test_a_line_that_is_cut_for_10_s_is_not_noticed(machine, there, credential, log, gate):
    """Each task runs once, on the same workers, whatever was on its way."""
    with running_pool(0, [there.host(2)], credential=credential) as pool:
        before = pids_on(pool, machine.address)
        run = working(log, gate)
        futures = [pool.submit(run, number) for number in range(10)]
        large = [pool.submit(len, bytes(5_000_000)) for _ in range(3)]
        wait_until(lambda: len(noted(log)) == 2, what="two tasks to run")
        machine.cut()
        time.sleep(10)  # the fault itself: so long, and no longer
        gate.touch()
        machine.heal()
        assert [future.result(30) for future in futures] == list(range(10))
        assert [future.result(30) for future in large] == [5_000_000] * 3
        assert pids_on(pool, machine.address) == before
        assert sorted(int(line.split()[0]) for line in noted(log)) == list(range(10))


def test_a_reset_is_a_loss_at_once(machine, there, credential):
    with running_pool(1, [there.host(2)], credential=credential) as pool:
        old = pids_on(pool, machine.address)
        futures = [pool.submit(lambda n: time.sleep(0.02) or n, n) for n in range(300)]
        wait_until(lambda: futures[20].done())
        machine.reset()
        wait_until(lambda: not pids_on(pool, machine.address), timeout=10, what="the loss")
        assert [future.result(30) for future in futures] == list(range(300))
        wait_until(lambda: not any(map(is_alive, old)), timeout=10, what="its workers to end")
        machine.heal()
        wait_until(lambda: len(pids_on(pool, machine.address)) == 2, timeout=30)


def test_a_slow_and_lossy_line_is_slow_and_correct(machine, there, credential):
    """1 Mbit/s one way, and 5 % lost each way."""
    with running_pool(0, [there.host(2)], credential=credential) as pool:
        before = pids_on(pool, machine.address)
        machine.slow("1mbit")
        machine.lose(0.05)
        assert list(pool.map(abs, range(-5000, 0), timeout=50)) == list(range(5000, 0, -1))
        assert pool.submit(bytes, 100_000).result(40) == bytes(100_000)
        machine.heal()
        assert pids_on(pool, machine.address) == before


def test_a_host_that_is_not_there_at_all(machine, there, credential):
    """Its packets go nowhere: said within the time for connecting."""
    machine.cut()
    with pytest.raises((HostError, PoolBroken), match=r"no answer at .*firewall"):
        Pool(0, [there.host(1)], credential=credential, connect_timeout=2)


def test_workers_that_cannot_connect_back_are_explained(machine, there, credential, monkeypatch):
    """A firewall here lets the client out, but nobody in."""
    machine.block_new()
    end_creation_at(monkeypatch, "it runs there")
    with pytest.raises((HostError, PoolBroken)) as error:
        Pool(0, [there.host(1)], credential=credential)
    assert machine.gateway in str(error.value) and "firewall" in str(error.value)
