"""The table of who may send what."""

from itertools import product

import pytest

from pool_protocol import messages as m
from pool_protocol.states import MAY_SEND, TRANSITIONS, Role, Side, State


def test_every_state_has_its_transitions_and_nothing_leaves_closed() -> None:
    assert set(TRANSITIONS) == set(State)
    assert TRANSITIONS[State.CLOSED] == frozenset()
    assert all(State.CLOSED in TRANSITIONS[state] for state in (State.HANDSHAKE, State.OPEN))
    assert not any(State.HANDSHAKE in after for after in TRANSITIONS.values())


def test_every_role_and_side_has_its_kinds() -> None:
    assert set(MAY_SEND) == set(product(Role, Side))


def test_every_kind_has_a_class_and_every_class_a_sender() -> None:
    assert frozenset().union(*MAY_SEND.values()) == {m.TASK, m.RESULT, *m.CONTROL}


@pytest.mark.parametrize("role", Role)
def test_only_pings_go_both_ways(role: Role) -> None:
    both = MAY_SEND[role, Side.LISTENER] & MAY_SEND[role, Side.DIALER]
    pings = {m.Ping.KIND, m.Pong.KIND}
    assert both == (pings if role is Role.CONTROL else set())


def test_tasks_never_travel_on_a_control_connection() -> None:
    control = MAY_SEND[Role.CONTROL, Side.LISTENER] | MAY_SEND[Role.CONTROL, Side.DIALER]
    assert not control & {m.TASK, m.RESULT}


def test_peer() -> None:
    assert Side.LISTENER.peer is Side.DIALER
    assert Side.DIALER.peer is Side.LISTENER
