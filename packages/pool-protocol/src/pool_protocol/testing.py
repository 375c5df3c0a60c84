"""Two ends of a connection without a socket, for tests of this package and of those that use it.

    dialer, listener = connected_pair(Role.TASK)
    listener.send_task(id=1, function=1, flags=0, payload=b"…")
    [task] = transfer(listener, dialer)

Nothing here waits, and nothing is random but the nonces.
"""

from collections.abc import Iterable, Sequence
from itertools import cycle

from pool_protocol.connection import Connection
from pool_protocol.frames import Buffer
from pool_protocol.handshake import DialerHandshake, Identity, ListenerHandshake
from pool_protocol.messages import Message
from pool_protocol.states import Role

#: What the pairs made here use.
TOKEN = bytes(range(32))
LAUNCH = b"testing!"


def handshaking_pair(
    role: Role = Role.TASK, worker: int = 1, max_message: int | None = None
) -> tuple[Connection, Connection]:
    """A dialer and a listener that have not exchanged anything yet."""
    identity = Identity(LAUNCH, role, worker)
    dialer = Connection(DialerHandshake(identity, TOKEN), max_message)
    listener = Connection(ListenerHandshake({LAUNCH: TOKEN}.get), max_message)
    return dialer, listener


def connected_pair(
    role: Role = Role.TASK, worker: int = 1, max_message: int | None = None
) -> tuple[Connection, Connection]:
    """A dialer and a listener after their handshake; ``max_message`` (bytes) holds for both."""
    dialer, listener = handshaking_pair(role, worker, max_message)
    for source, target in ((dialer, listener), (listener, dialer), (dialer, listener)):
        transfer(source, target)
    return dialer, listener


def transfer(
    source: Connection, target: Connection, split: int | Sequence[int] | None = None
) -> list[Message]:
    """Carry over all that ``source`` has to write; the messages that arrive at ``target``.

    ``split`` is as for ``feed``. Raises what ``target.received`` raises.
    """
    return feed(target, source.take(), split)


def feed(
    target: Connection, buffers: Iterable[Buffer], split: int | Sequence[int] | None = None
) -> list[Message]:
    """Let ``target`` receive bytes, as a socket would; the messages that arrive.

    ``split`` is the size of the pieces in bytes, or the sizes, used over and over; without it,
    each piece fills the buffer that ``target`` offers. Raises what ``target.received`` raises.
    """
    sizes = cycle([split] if isinstance(split, int) else split or [1 << 62])
    messages: list[Message] = []
    for buffer in buffers:
        rest = memoryview(buffer)
        while len(rest):
            hole = target.get_buffer()
            count = min(len(hole), len(rest), next(sizes))
            hole[:count] = rest[:count]
            rest = rest[count:]
            messages += target.received(count)
    return messages
