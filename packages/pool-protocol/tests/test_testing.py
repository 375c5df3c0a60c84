"""The pair of connections that tests use."""

import pytest

from pool_protocol.messages import Ping, Task
from pool_protocol.states import Role, Side, State
from pool_protocol.testing import LAUNCH, connected_pair, feed, handshaking_pair, transfer


@pytest.mark.parametrize("role", Role)
def test_a_connected_pair(role: Role) -> None:
    dialer, listener = connected_pair(role, worker=4, max_message=10**6)
    assert (dialer.state, listener.state) == (State.OPEN, State.OPEN)
    assert (dialer.side, listener.side) == (Side.DIALER, Side.LISTENER)
    assert dialer.role is listener.role is role
    assert dialer.identity == listener.identity == (LAUNCH, role, 4)
    assert dialer.max_message == listener.max_message == 10**6
    assert dialer.take() == listener.take() == []


def test_a_pair_before_its_handshake() -> None:
    dialer, listener = handshaking_pair()
    assert dialer.state is listener.state is State.HANDSHAKE
    assert listener.take() == []
    assert dialer.take() != []


@pytest.mark.parametrize("split", [None, 1, [1, 2, 30], (5,)])
def test_transfer(split: int | list[int] | None) -> None:
    dialer, listener = connected_pair()
    listener.send_task(1, 2, 0, b"abc")
    listener.send_task(2, 2, 0, b"")
    assert transfer(listener, dialer, split) == [
        Task(1, 0, 2, 1, b"abc", ()),
        Task(1, 0, 2, 2, b"", ()),
    ]
    assert transfer(listener, dialer, split) == []


def test_feed_splits_over_the_buffers_offered() -> None:
    dialer, listener = connected_pair(Role.CONTROL)
    listener.send(Ping(1))
    listener.send(Ping(2))
    [data] = listener.take()
    half = len(data) // 2 + 5
    assert feed(dialer, [data[:half], b"", data[half:]]) == [Ping(1), Ping(2)]
