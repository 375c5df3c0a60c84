"""Who may send what, and when: the one table.

The rules:

- The *listener* is the client of the pool; the *dialer* is a supervisor or a worker. For SPAWN,
  and there alone, the listener is a spawner and the dialer a client.
- A connection is born HANDSHAKE, becomes OPEN when both sides have proved that they know the
  launch's token, and ends CLOSED. Nothing leaves CLOSED.
- What may travel depends on the role for which the dialer connected, and on the direction.
"""

import enum
from typing import Final

from pool_protocol.messages import (
    RESULT,
    TASK,
    Cancel,
    Control,
    Forget,
    Function,
    HostReady,
    Join,
    Kill,
    Leaving,
    Lost,
    Output,
    OutputTaken,
    Ping,
    Pong,
    Ready,
    Recall,
    Recalled,
    Reply,
    Request,
    Retire,
    Setup,
    SetupFailed,
    Spawn,
    Spawned,
    SpawnEnded,
    SpawnQueued,
    Start,
    Stop,
    Watch,
    Welcome,
)


class State(enum.Enum):
    """Where a connection stands."""

    HANDSHAKE = "handshake"
    OPEN = "open"
    CLOSED = "closed"


class Side(enum.Enum):
    """Which end of a connection this is."""

    LISTENER = "listener"
    DIALER = "dialer"

    @property
    def peer(self) -> "Side":
        """The other end."""
        return Side.DIALER if self is Side.LISTENER else Side.LISTENER


class Role(enum.IntEnum):
    """What a dialer connects for; it is part of what the handshake signs."""

    CONTROL = 1
    """A supervisor, for orders and reports."""
    TASK = 2
    """A worker, for its tasks."""
    SERVICE = 3
    """A worker, to ask the client for something: the user's modules."""
    JOIN = 4
    """A supervisor that was started by hand, for its settings."""
    SPAWN = 5
    """A client at a spawner."""


TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.HANDSHAKE: frozenset({State.OPEN, State.CLOSED}),
    State.OPEN: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}


def _kinds(*messages: type[Control]) -> frozenset[int]:
    return frozenset(message.KIND for message in messages)


MAY_SEND: Final[dict[tuple[Role, Side], frozenset[int]]] = {
    (Role.TASK, Side.LISTENER): _kinds(Function, Forget, Cancel, Setup, Retire) | {TASK},
    (Role.TASK, Side.DIALER): _kinds(Ready, SetupFailed) | {RESULT},
    (Role.CONTROL, Side.LISTENER): _kinds(
        *(Ping, Pong, Start, Kill, Recall, Watch, Stop, OutputTaken)
    ),
    (Role.CONTROL, Side.DIALER): _kinds(Ping, Pong, HostReady, Lost, Recalled, Output, Leaving),
    (Role.SERVICE, Side.LISTENER): _kinds(Reply),
    (Role.SERVICE, Side.DIALER): _kinds(Request),
    (Role.JOIN, Side.LISTENER): _kinds(Welcome),
    (Role.JOIN, Side.DIALER): _kinds(Join),
    (Role.SPAWN, Side.LISTENER): _kinds(SpawnQueued, Spawned, SpawnEnded),
    (Role.SPAWN, Side.DIALER): _kinds(Spawn, Stop),
}
