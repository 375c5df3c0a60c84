"""One host of a pool: its supervisor, and the seats of its workers."""

import itertools
import os

import pytest
import support

from pool_client import Pool, PoolBroken
from pool_client.errors import HostError
from pool_client.host import Seat, backoff


def test_backoff() -> None:
    """The first start is at once; then the waits grow, up to a bound."""
    waits = [backoff(failures) for failures in range(60)]
    assert waits[0] == 0
    assert 0 < waits[1] < waits[2] < waits[3]
    assert all(one <= other for one, other in itertools.pairwise(waits))
    assert waits[-1] == waits[-2] == max(waits)


def test_seat() -> None:
    """A seat shows its number, its slot and how far its worker is."""
    seat = Seat(7, 3, None)
    assert repr(seat) == "<Seat 7 slot 3 ordered>"
    assert seat.stream_ended
    seat.worker = "a worker"
    assert repr(seat) == "<Seat 7 slot 3 a worker>"


def test_seats_of_a_pool() -> None:
    """Each slot has one seat, whose worker is ready and whose stream is open."""
    with Pool(2) as pool:
        (runner,) = pool._core.engine.fleet.runners
        seats = list(runner.seats.values())
        assert sorted(seat.slot for seat in seats) == [0, 1]
        assert sorted(seat.worker.pid for seat in seats) == sorted(support.worker_pids(pool))
        assert not any(seat.stream_ended for seat in seats)


def test_killed_worker_is_replaced_in_its_slot() -> None:
    """Another worker takes the slot of one that was killed; the other one stays."""
    with support.running_pool(2) as pool:
        (runner,) = pool._core.engine.fleet.runners
        first, second = support.worker_pids(pool)
        support.kill(first)
        support.wait_until(lambda: pool.is_ready() and first not in support.worker_pids(pool))
        assert support.worker_pids(pool)[1] == second
        assert sorted(seat.slot for seat in list(runner.seats.values())) == [0, 1]


def test_killed_supervisor_is_replaced() -> None:
    """When the supervisor is killed, another one with new workers goes on with the tasks."""
    with support.running_pool(2) as pool:
        before = support.worker_pids(pool)
        supervisor = pool.run(os.getppid)
        support.kill(supervisor)
        futures = [pool.submit(abs, -number) for number in range(200)]
        assert [future.result(30) for future in futures] == list(range(200))
        support.wait_until(
            lambda: pool.is_ready() and not set(before) & set(support.worker_pids(pool))
        )
        assert pool.run(os.getppid) != supervisor
        support.wait_until(lambda: not any(map(support.is_alive, before)))


def test_worker_that_ends_before_it_is_ready() -> None:
    """A worker that ends in its initializer is told with the host's name and its exit code."""
    with pytest.raises(PoolBroken, match=r"ended before it was ready.*code 23") as caught:
        Pool(1, initializer=os._exit, initargs=(23,))
    assert isinstance(caught.value.__cause__, HostError)
    assert caught.value.__cause__.host == "local"
