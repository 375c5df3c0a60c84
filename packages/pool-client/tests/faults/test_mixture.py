"""Everything at once: hosts, work and trouble of each kind, at random."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import support
from credentials import make_credential
from machines import machines

from faults import tasks
from pool_client import HostError, Pool, TaskTimeout
from pool_client.hosts import heart

__all__ = ["machines"]

SECONDS = 8.0
STATES = {"starting", "up", "backing off", "leaving", "dropped", "closed"}


class Mixture:
    """A pool, and what is done with it and to it."""

    def __init__(self, pool: Pool, machines: list, join: Callable[[], subprocess.Popen], seed: int):
        self.pool = pool
        self.over = threading.Event()
        self.wrong: list[object] = []
        self.done = 0
        self._machines = machines
        self._join = join
        self._joined: list[subprocess.Popen] = []
        self._chance = random.Random(seed)

    # -- what is done with it

    def work(self, seed: int) -> None:
        chance = random.Random(seed)
        jobs = (self._single, self._late, self._endless, self._mapped, self._everywhere)
        while not self.over.is_set():
            try:
                chance.choice(jobs)(chance.randrange(1, 300))
                self.done += 1
            except BaseException as error:
                self.wrong.append(error)

    def _single(self, number: int) -> None:
        futures = [self.pool.submit(tasks.double, n) for n in range(number)]
        assert [future.result(100) for future in futures] == list(range(0, 2 * number, 2))

    def _late(self, number: int) -> None:
        future = self.pool.submit(tasks.sleep_async, number / 1000, number)
        assert future.result(100) == number

    def _endless(self, number: int) -> None:
        future = self.pool.options(timeout=0.2).submit(time.sleep, 3600)
        assert isinstance(future.exception(100), TaskTimeout)

    def _mapped(self, number: int) -> None:
        results = self.pool.map(tasks.double, iter(range(10 * number)), timeout=100)
        assert list(results) == list(range(0, 20 * number, 2))

    def _everywhere(self, number: int) -> None:
        # Parts that wait for a host which is given up or leaves fail with its reason.
        with contextlib.suppress(HostError):
            pids = self.pool.run_on_all(os.getpid)
            assert len(set(pids)) == len(pids)

    def watch(self) -> None:
        """Whatever is told is one state of things, at any moment."""
        while not self.over.is_set():
            try:
                for host in self.pool.hosts():
                    assert host.state in STATES
                    assert (host.state in ("up", "leaving")) == bool(host.python), host
                    assert host.reason or host.state != "backing off", host
                assert "None" not in repr(self.pool)
                assert min(self.pool.stats().waiting, self.pool.stats().held) >= 0
                assert all(worker.pid for worker in self.pool.workers())
            except BaseException as error:
                self.wrong.append(error)
            time.sleep(0.001)

    # -- what is done to it

    def strike(self) -> None:
        strikes = (
            self._kill_worker,
            self._kill_host,
            self._freeze,
            self._lose,
            self._come,
            self._go,
        )
        self._chance.choice(strikes)()
        time.sleep(self._chance.random() * self._chance.choice([0.02, 0.3, 1.0]))

    def _kill_worker(self) -> None:
        for pid in support.worker_pids(self.pool)[: self._chance.randrange(4)]:
            support.kill(pid)

    def _kill_host(self) -> None:
        support.kill(self._chance.choice(self._machines).pid)

    def _freeze(self) -> None:
        machine = self._chance.choice(self._machines)
        with contextlib.suppress(ProcessLookupError):
            machine.freeze()
        time.sleep(self._chance.choice([0.1, 2.0]))
        machine.thaw()

    def _lose(self) -> None:
        machine = self._chance.choice(self._machines)
        machine.trouble = None if machine.trouble else "no route to it"

    def _come(self) -> None:
        if len(self._joined) < 4:
            self._joined.append(self._join())

    def _go(self) -> None:
        for process in self._joined:
            process.send_signal(self._chance.choice([signal.SIGTERM, signal.SIGKILL]))

    def recover(self) -> None:
        for machine in self._machines:
            machine.trouble = None
            machine.thaw()
        for process in self._joined:
            process.kill()
            process.wait()
        support.wait_until(self._nobody_joined, 60, "those who joined to be gone")
        support.wait_until(self.pool.is_ready, 60)

    def _nobody_joined(self) -> bool:
        return all(host.state == "dropped" for host in self.pool.hosts() if host.joined)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
def test_everything_at_once(machines, monkeypatch, tmp_path: Path, caplog, seed: int) -> None:
    """Every result is right, everything that is told is consistent, and all of it comes back."""
    monkeypatch.setattr(heart, "INTERVAL", 0.3)
    credential = make_credential(tmp_path / "credential.pem")
    hosts = [machines("near"), machines("far", credential)]
    names = [f"{machine}/2" for machine in hosts]
    with support.running_pool(2, hosts=names, credential=str(credential), retries=1000) as pool:
        port = pool.listen("127.0.0.1")

        def join() -> subprocess.Popen:
            command = [sys.executable, "-m", "pool_worker", "--connect", f"127.0.0.1:{port}"]
            words = [*command, "-n", "2", "--credential", str(credential)]
            return subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)

        mixture = Mixture(pool, hosts, join, seed)
        threads = [threading.Thread(target=mixture.work, args=(100 * seed + n,)) for n in range(3)]
        threads.append(threading.Thread(target=mixture.watch))
        for thread in threads:
            thread.start()
        try:
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                mixture.strike()
        finally:
            mixture.over.set()
            mixture.recover()
            for thread in threads:
                thread.join(120)
        assert not any(thread.is_alive() for thread in threads)
        assert mixture.wrong == []
        assert mixture.done
    assert [record for record in caplog.records if record.name == "asyncio"] == []
