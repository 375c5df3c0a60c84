"""Who may send what, and when: the one table.

The rules:

- The *listener* is the client of the pool; the *dialer* is a supervisor or a worker.
- A connection is born HANDSHAKE, becomes OPEN when both sides have proved that they know the
  launch's token, and ends CLOSED. Nothing leaves CLOSED.
- What may travel depends on the role for which the dialer connected, and on the direction.
"""

import enum
from typing import Final

from pool_protocol import messages as m


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
    TASK = 2


TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.HANDSHAKE: frozenset({State.OPEN, State.CLOSED}),
    State.OPEN: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}

_PINGS = frozenset({m.Ping.KIND, m.Pong.KIND})

MAY_SEND: Final[dict[tuple[Role, Side], frozenset[int]]] = {
    (Role.TASK, Side.LISTENER): frozenset(
        {m.TASK, m.Function.KIND, m.Forget.KIND, m.Cancel.KIND, m.Setup.KIND, m.Retire.KIND}
    ),
    (Role.TASK, Side.DIALER): frozenset({m.RESULT, m.Ready.KIND, m.SetupFailed.KIND}),
    (Role.CONTROL, Side.LISTENER): _PINGS
    | {m.Start.KIND, m.Kill.KIND, m.Recall.KIND, m.Watch.KIND, m.Stop.KIND},
    (Role.CONTROL, Side.DIALER): _PINGS | {m.HostReady.KIND, m.Lost.KIND, m.Recalled.KIND},
}
