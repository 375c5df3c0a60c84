"""Faults of ssh hosts, on loopback. Numbers are rows of the faults that the design lists."""

import contextlib
import os
import signal
import socket
import threading
import time

import pytest
import support
from hosts.slow_line import SlowLine
from hosts.ssh_seen import ssh_processes, tunnel
from limits import ask_often, end_creation_at, end_patience

from launchers.ssh_tasks import exit_now, fail, hold, note, where
from pool_client import HostError, Pool, PoolBroken, WorkerLost


@pytest.fixture
def held(tmp_path):
    """Tasks that run until they are released: submit them, wait until they run, release them."""
    return Held(tmp_path)


class Held:
    def __init__(self, folder):
        self.started = folder / "started"
        self.release = folder / "release"
        self.started.touch()

    def submit(self, pool, count):
        futures = [pool.submit(hold, str(self.started), str(self.release)) for _ in range(count)]
        self.wait(count)
        return futures

    def pids(self):
        return [int(word) for word in self.started.read_text().split()]

    def wait(self, count):
        support.wait_until(lambda: len(self.pids()) >= count, 30, f"{count} tasks run")


def finished(futures):
    return [future.result(40) for future in futures]


class TestTheTunnelIsLost:
    """Row 18: its workers are lost, their tasks retried, the tunnel opened anew on another path."""

    @pytest.fixture
    def pool(self, make_sshd):
        self.sshd = make_sshd()
        with support.running_pool(0, self.sshd.host(2), ssh_command=self.sshd.command) as pool:
            yield pool

    def break_it(self, how):
        """Do that to ssh; returns where its tunnel was."""
        (ssh,) = support.wait_until(ssh_processes, 40)
        before = tunnel(ssh)
        how(ssh)
        return before

    def kill_it(self):
        """End ssh; returns where its tunnel was."""

        def kill(ssh):
            os.kill(ssh, signal.SIGKILL)
            support.wait_until(lambda: ssh not in ssh_processes(), what="the killed ssh to end")

        return self.break_it(kill)

    @pytest.mark.parametrize(
        "how", ["ssh killed", "ssh ended", "session killed", "pool-worker killed"]
    )
    def test_running_tasks_are_tried_again(self, pool, held, how):
        futures = held.submit(pool, 2)
        lost = held.pids()
        if how == "session killed":
            ways = lambda ssh: [os.kill(pid, signal.SIGKILL) for pid in self.sshd.sessions()]  # noqa: E731
        elif how == "pool-worker killed":
            ways = lambda ssh: os.kill(support.look_at(lost[0]).parent, signal.SIGKILL)  # noqa: E731
        else:
            number = signal.SIGKILL if how == "ssh killed" else signal.SIGTERM
            ways = lambda ssh: os.kill(ssh, number)  # noqa: E731
        before = self.break_it(ways)
        held.wait(4)
        held.release.touch()
        assert not set(finished(futures)) & set(lost)
        (again,) = ssh_processes()
        assert tunnel(again) != before
        support.wait_until(lambda: not before.exists(), what="row 19: the old socket is removed")
        for pid in lost:
            support.wait_until(lambda pid=pid: not support.is_alive(pid), what="lost ones end")

    def test_an_idle_pool_opens_it_again(self, pool):
        pids = set(pool.run_on_all(os.getpid))
        self.kill_it()
        support.wait_until(lambda: not pids & set(support.worker_pids(pool)), what="the loss")
        support.wait_until(pool.is_ready, 30, "it is up again")
        again = set(pool.run_on_all(os.getpid))
        assert len(again) == 2
        assert not again & pids

    def test_again_and_again(self, pool):
        for _ in range(4):
            futures = [pool.submit(abs, -number) for number in range(500)]
            self.kill_it()
            assert [future.result(40) for future in futures] == list(range(500))

    def test_a_task_that_may_not_be_tried_again_names_the_host(self, pool, held):
        future = pool.options(retries=0).submit(hold, str(held.started), str(held.release))
        held.wait(1)
        self.kill_it()
        with pytest.raises(WorkerLost, match=r"127\.0\.0\.1"):
            future.result(40)
        held.release.touch()

    def test_an_ssh_that_stops_is_noticed(self, pool, held):
        """Nothing ends then: the silence is what is noticed."""
        futures = held.submit(pool, 1)
        once = pool.options(retries=0).submit(hold, str(held.started), str(held.release))
        held.wait(2)
        lost = held.pids()
        before = self.break_it(lambda ssh: os.kill(ssh, signal.SIGSTOP))
        ask_often(pool, 1.0)
        with pytest.raises(WorkerLost, match="no answer for 4 s"):
            once.result(40)
        held.wait(3)
        held.release.touch()
        assert not set(finished(futures)) & set(lost)
        assert tunnel(ssh_processes()[0]) != before


class TestTheNetworkIsLost:
    """Rows 13 and 15: nothing arrives and nobody is told."""

    @pytest.fixture
    def sshd(self, make_sshd):
        sshd = make_sshd()
        with SlowLine(sshd.port, 0) as self.line:
            sshd.write_config(f"HostKeyAlias [127.0.0.1]:{sshd.port}")
            yield sshd

    @contextlib.contextmanager
    def pool(self, sshd, *options):
        """A pool whose ssh gets further options."""
        host = f"ssh://127.0.0.1:{self.line.port}/2"
        with support.running_pool(1, host, ssh_command=[*sshd.command, *options]) as pool:
            yield pool
            self.line.mend()

    def test_for_ten_seconds_it_is_not_noticed(self, sshd, held):
        with self.pool(sshd) as pool:
            futures = held.submit(pool, 3)
            pids = set(held.pids())
            self.line.cut()
            time.sleep(10)  # the fault itself: so long, and no longer
            self.line.mend()
            held.release.touch()
            assert set(finished(futures)) == pids
            assert len(held.pids()) == 3, "each ran once"

    def test_for_longer_its_tasks_run_elsewhere_and_the_old_workers_end(self, sshd, held):
        """What ssh does after 15 s, it does here after 6."""
        with self.pool(sshd, "-o", "ServerAliveInterval=2") as pool:
            futures = held.submit(pool, 3)
            here = {worker.pid for worker in pool.workers() if worker.host == "local"}
            lost = set(held.pids()) - here
            self.line.cut()
            support.wait_until(lambda: len(pool.workers()) == 1, 40, "they are lost")
            # The end of the connection is seen first, and then what ssh says about it.
            support.wait_until(lambda: "15 s" in pool.hosts()[-1].reason, what="why they are lost")
            held.release.touch()
            assert set(finished(futures)) == here
            self.line.mend()
            for pid in lost:
                support.wait_until(
                    lambda pid=pid: not support.is_alive(pid), 30, "the old ones end"
                )
            support.wait_until(lambda: len(pool.workers()) == 3, 40, "there are new ones")


class TestTheHostIsLost:
    def test_its_tasks_run_elsewhere_and_it_comes_back(self, make_sshd, held):
        sshd = make_sshd()
        with support.running_pool(1, sshd.host(2), ssh_command=sshd.command) as pool:
            here = [worker.pid for worker in pool.workers() if worker.host == "local"]
            futures = held.submit(pool, 3)
            sshd.stop()
            held.release.touch()
            assert len(finished(futures)) == 3
            # While it is away, the pool works.
            assert pool.submit(where).result(40)[0] in here
            sshd.start()
            support.wait_until(lambda: len(pool.workers()) == 3, 40, "its workers are back")

    def test_alone_it_is_waited_for_and_then_named(self, make_sshd):
        sshd = make_sshd()
        pool = Pool(0, sshd.host(1), ssh_command=sshd.command)
        try:
            sshd.stop()
            support.wait_until(lambda: "nothing listens there" in pool.hosts()[-1].reason)
            end_patience(pool)
            with pytest.raises(PoolBroken, match=r"127\.0\.0\.1") as caught:
                pool.submit(time.sleep, 0).result(50)
                while True:
                    pool.submit(time.sleep, 0.01).result(50)
            assert "nothing listens there" in str(caught.value)
        finally:
            pool.shutdown()

    def test_alone_and_back_in_time_nothing_is_lost(self, make_sshd, held):
        sshd = make_sshd()
        with support.running_pool(0, sshd.host(1), ssh_command=sshd.command) as pool:
            futures = held.submit(pool, 1)
            sshd.stop()
            held.release.touch()
            sshd.start()
            assert len(finished(futures)) == 1


class TestTheClientIsLost:
    @pytest.mark.parametrize("child", ["no child", "a forked child"])
    def test_killed_it_leaves_no_worker_and_no_socket(self, sshd, child):
        """Row 21; a child that the user's program has forked lives on."""
        source = """
            import os, sys, time
            from hosts.ssh_seen import ssh_processes, tunnel
            from pool_client import Pool
            pool = Pool(0, sys.argv[2], ssh_command=sys.argv[3:])
            if sys.argv[1] == "a forked child" and not os.fork():
                time.sleep(1000)
            for pid in pool.run_on_all(os.getpid):
                print(pid)
            print(tunnel(ssh_processes()[0]), flush=True)
            sys.stdin.read()
        """
        arguments = [child, sshd.host(2), *sshd.command]
        with support.started_script(source, *arguments, stdin=-1) as client:
            pids = [int(client.stdout.readline()) for _ in range(2)]
            path = client.stdout.readline().strip()
            assert os.path.exists(path)
            support.kill(client.pid)
            for pid in pids:
                support.wait_until(lambda pid=pid: not support.is_alive(pid), what="workers end")
        support.wait_until(lambda: not os.path.exists(path), what="the socket is removed")
        Pool(1).shutdown()  # sweeps up what the other left here


class TestAHostThatCannotBeHad:
    """Row 39, as the user of a pool sees it."""

    def test_it_is_named_with_the_reason_at_creation(self, sshd):
        with pytest.raises(HostError, match=r"127\.0\.0\.1: nothing listens there"):
            Pool(0, "ssh://127.0.0.1:1/2", ssh_command=sshd.command)

    def test_one_among_others_fails_the_creation_unless_fewer_will_do(self, sshd):
        hosts = [sshd.host(1), "ssh://127.0.0.1:1/2"]
        with pytest.raises(HostError, match="nothing listens there"):
            Pool(0, hosts, ssh_command=sshd.command)
        with support.running_pool(0, hosts, ssh_command=sshd.command, min_workers=1) as pool:
            assert pool.run(abs, -3) == 3

    def test_one_that_never_answers(self, sshd, monkeypatch):
        end_creation_at(monkeypatch, "no answer")
        with silent_port() as port:
            host = f"ssh://127.0.0.1:{port}/1"
            with pytest.raises(HostError, match="no answer through ssh yet"):
                Pool(0, host, ssh_command=sshd.command)

    def test_shut_down_while_it_starts(self, sshd):
        with silent_port() as port:
            pool = Pool(0, f"ssh://127.0.0.1:{port}/1", ssh_command=sshd.command, lazy_create=True)
            errors = []

            def create():
                try:
                    pool.create()
                except Exception as error:
                    errors.append(error)

            creating = threading.Thread(target=create)
            creating.start()
            support.wait_until(ssh_processes)
            pool.kill_workers()
            pool.shutdown()
            creating.join(30)
            assert errors


class TestInitializers:
    """Row 38."""

    @pytest.mark.parametrize(
        ("function", "words"), [(fail, "on purpose"), (exit_now, "exited|ended")]
    )
    def test_one_that_fails(self, bare_sshd, function, words):
        with pytest.raises((PoolBroken, HostError), match=words):
            Pool(0, bare_sshd.host(2), ssh_command=bare_sshd.command, initializer=function)

    def test_one_that_hangs(self, bare_sshd):
        with pytest.raises((PoolBroken, HostError), match=r"127\.0\.0\.1"):
            Pool(
                0,
                bare_sshd.host(1),
                ssh_command=bare_sshd.command,
                initializer=time.sleep,
                initargs=(1000,),
                connect_timeout=3,
            )


class TestWorkers:
    """Rows 1, 2, 4, 5 for workers on ssh hosts."""

    @pytest.mark.parametrize("bare", [False, True], ids=["installed", "bare"])
    def test_a_killed_worker_is_replaced_and_its_task_tried_again(
        self, sshd, bare_sshd, held, bare
    ):
        sshd = bare_sshd if bare else sshd
        with support.running_pool(0, sshd.host(2), ssh_command=sshd.command) as pool:
            futures = held.submit(pool, 2)
            support.kill(held.pids()[0])
            held.wait(3)
            held.release.touch()
            assert len(set(finished(futures))) == 2
            assert len(pool.workers()) == 2

    def test_a_task_that_ends_its_worker_is_blamed_alone(self, sshd, tmp_path):
        log = tmp_path / "log"
        with support.running_pool(0, sshd.host(2), ssh_command=sshd.command) as pool:
            good = [pool.submit(note, str(log), number) for number in range(500)]
            bad = pool.submit(exit_now)
            good += [pool.submit(note, str(log), number) for number in range(500, 1000)]
            with pytest.raises(WorkerLost, match=r"127\.0\.0\.1"):
                bad.result(40)
            assert finished(good) == list(range(1000))
        assert sorted(map(int, log.read_text().split())) == list(range(1000))

    def test_one_past_its_time_is_ended(self, sshd, held):
        with support.running_pool(0, sshd.host(1), ssh_command=sshd.command) as pool:
            future = pool.options(timeout=0.5).submit(hold, str(held.started), str(held.release))
            with pytest.raises(Pool.TimeoutError):
                future.result(40)


@contextlib.contextmanager
def silent_port():
    """A port on which somebody listens who never says a word."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(10)
        yield sock.getsockname()[1]
