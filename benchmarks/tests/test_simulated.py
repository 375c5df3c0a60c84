"""Simulated workers do what real ones do, as far as the benchmark needs it."""

from importlib.metadata import entry_points

from benchmarks.peers import AsyncPoolPeer, Loop
from benchmarks.simulated import Launcher, registered
from benchmarks.tasks import closure, increment


def test_the_launcher_is_known_only_while_it_is_registered() -> None:
    with registered():
        [entry] = entry_points(group="pool_client.launchers", name="simulated")
        assert entry.load() is Launcher
    assert not entry_points(group="pool_client.launchers", name="simulated")


def test_they_run_tasks_and_end_with_the_pool() -> None:
    with registered():
        peer = AsyncPoolPeer(Loop(), 0, hosts=["simulated://one/3", "simulated://two/3"])
    assert peer.pool.total_workers() == 6
    assert peer.singles(increment, 1000) == 1000 * 1001 // 2
    assert peer.singles(closure(), 1000) == 1000 * 1001 // 2
    peer.close()
    assert peer.pool.total_workers() == 0
