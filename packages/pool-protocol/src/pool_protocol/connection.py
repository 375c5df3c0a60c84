"""One connection without its socket: bytes in, messages out; messages in, buffers out.

    connection = Connection(DialerHandshake(identity, token))
    write(connection.take())                      # the opening
    count = receive_into(connection.get_buffer())
    for message in connection.received(count): …
    connection.send(message); write(connection.take())

Whoever owns the socket also owns the clock: deadlines are not known here.
"""

from collections.abc import Iterable
from operator import itemgetter

from pool_protocol.areas import Areas
from pool_protocol.codec import decode, encode_control
from pool_protocol.errors import LocalProtocolError, PoolError, RemoteProtocolError
from pool_protocol.frames import (
    HEADER,
    LARGE,
    Buffer,
    FrameDecoder,
    Payload,
    encode,
    largest_joined,
    nbytes,
)
from pool_protocol.handshake import DialerHandshake, Identity, ListenerHandshake
from pool_protocol.messages import RESULT, TASK, Control, Message
from pool_protocol.states import MAY_SEND, TRANSITIONS, Role, Side, State

#: What a control connection takes in any case, in bytes. The user's limit is for his data; what
#: supervisor and client tell each other (lines that were printed, what lay in the page of a worker
#: that died, orders for a thousand workers) is bounded by itself, below this.
LEAST_CONTROL = 1 << 18

_CLOSED = State.CLOSED
_MAX_NANOS = 0xFFFFFFFF
_kind_of = itemgetter(0)
_pack_header = HEADER.pack


class Connection:
    """The protocol of one connection, seen from one side.

    ``max_message`` is the largest frame that is sent or accepted, in bytes, its header of 24 bytes
    included; None for no limit. On a control connection it is at least `LEAST_CONTROL`.
    """

    def __init__(
        self, handshake: DialerHandshake | ListenerHandshake, max_message: int | None = None
    ) -> None:
        self.side = Side.DIALER if isinstance(handshake, DialerHandshake) else Side.LISTENER
        self.state = State.HANDSHAKE
        self.max_message = max_message
        self._memory: Areas | None = None
        self._handshake = handshake
        self._early = bytearray()
        self._early_view = memoryview(bytearray(handshake.needed))
        self._decoder: FrameDecoder | None = None
        self._joined = largest_joined(max_message)
        #: What waits to be written: first ``_out``, then ``_small``, which is still to be joined.
        self._out: list[Buffer] = []
        self._small: list[Buffer] = [handshake.opening]
        self._may_send: frozenset[int] = frozenset()
        self._may_receive: frozenset[int] = frozenset()

    def __repr__(self) -> str:
        return f"<Connection {self.side.value} {self.state.value} {self.identity}>"

    @property
    def identity(self) -> Identity | None:
        """Who the dialer says it is; proved once the state is OPEN."""
        return self._handshake.identity

    @property
    def role(self) -> Role:
        """What the connection is for."""
        identity = self.identity
        if identity is None:
            raise LocalProtocolError("the dialer has not said its role yet")
        return identity.role

    @property
    def partial(self) -> bool:
        """True when an end of file now would cut a message off."""
        return bool(self._early) if self._decoder is None else self._decoder.partial

    # -- receiving

    def receive_into(self, memory: Areas) -> None:
        """Large parts that begin to come in from now on go there."""
        self._memory = memory
        if self._decoder is not None:
            self._decoder.memory = memory

    def get_buffer(self) -> memoryview:
        """The memory into which the next bytes belong; never empty."""
        if self._decoder is not None:
            return self._decoder.get_buffer()
        return self._early_view[: self._handshake.needed - len(self._early)]

    def received(self, count: int) -> list[Message]:
        """``count`` bytes were written into ``get_buffer()``; the messages that are complete.

        Raises a PoolError when the peer breaks a rule. The state is then CLOSED: write what
        ``take`` still gives, which tells the peer why, and close the socket.
        """
        if self.state is _CLOSED:
            raise LocalProtocolError("bytes for a closed connection")
        try:
            if self._decoder is None:
                self._receive_early(count)
                return []
            frames = self._decoder.received(count)
            kinds = set(map(_kind_of, frames))
            if not kinds <= self._may_receive:
                strange = min(kinds - self._may_receive)
                raise RemoteProtocolError(f"the peer may not send kind {strange} here")
            return decode(frames, kinds)
        except PoolError:
            self._move(State.CLOSED)
            raise

    def _receive_early(self, count: int) -> None:
        self._early += self._early_view[:count]
        data = bytes(self._early)
        if len(data) < self._handshake.needed:
            self._handshake.check_start(data)
            return
        self._early.clear()
        try:
            self._small.append(self._handshake.receive(data))
        except PoolError:
            self._small.append(self._handshake.refusal)
            raise
        if not self._handshake.needed:
            self._open()

    def _open(self) -> None:
        self._move(State.OPEN)
        if self.max_message is not None and self.role is Role.CONTROL:
            self.max_message = max(self.max_message, LEAST_CONTROL)
        self._decoder = FrameDecoder(self.max_message, self._memory)
        self._may_send = MAY_SEND[self.role, self.side]
        self._may_receive = MAY_SEND[self.role, self.side.peer]

    def close(self) -> None:
        """No more of this connection: an end of file, an error, or our own wish.

        Afterwards nothing can be sent; what was queued before can still be taken.
        """
        if self.state is not State.CLOSED:
            self._move(State.CLOSED)

    def _move(self, state: State) -> None:
        if state not in TRANSITIONS[self.state]:
            raise LocalProtocolError(f"a connection cannot go from {self.state} to {state}")
        self.state = state
        if state is _CLOSED:
            self._may_send = self._may_receive = frozenset()
            if self._decoder is not None:
                self._decoder.drop()

    # -- sending

    def send(self, message: Control) -> None:
        """Queue a control message. Raises FrameTooLarge, with nothing queued."""
        if message.KIND not in self._may_send:
            raise self._illegal(message.KIND)
        self._queue(encode_control(message, self.max_message))

    def send_task(self, id: int, function: int, flags: int, payload: Payload) -> None:
        """Queue a Task. Raises FrameTooLarge, with nothing queued."""
        if TASK not in self._may_send:
            raise self._illegal(TASK)
        if type(payload) is bytes and (size := len(payload)) <= self._joined:
            self._small.append(_pack_header(size, TASK, flags, 0, function, id) + payload)
        else:
            self._queue(encode(TASK, flags, function, id, payload, self.max_message))

    def send_result(self, id: int, nanos: int, flags: int, payload: Payload) -> None:
        """Queue a Result; ``nanos`` is cut off at 4.29 s. Raises FrameTooLarge."""
        if RESULT not in self._may_send:
            raise self._illegal(RESULT)
        if nanos > _MAX_NANOS:
            nanos = _MAX_NANOS
        if type(payload) is bytes and (size := len(payload)) <= self._joined:
            self._small.append(_pack_header(size, RESULT, flags, 0, nanos, id) + payload)
        else:
            self._queue(encode(RESULT, flags, nanos, id, payload, self.max_message))

    def _illegal(self, kind: int) -> LocalProtocolError:
        return LocalProtocolError(
            f"kind {kind} may not be sent by the {self.side.value} when {self.state.value}"
        )

    def _queue(self, buffers: Iterable[Buffer]) -> None:
        for buffer in buffers:
            if nbytes(buffer) <= LARGE:
                self._small.append(buffer)
            else:
                self._join_small()
                self._out.append(flat(buffer))

    def _join_small(self) -> None:
        """One system call then carries many small frames."""
        joined = b"".join(self._small)
        self._small.clear()
        if joined:
            self._out.append(joined)

    def take(self) -> list[Buffer]:
        """What is to be written now, in this order; no buffer is empty, and each is flat bytes."""
        self._join_small()
        out, self._out = self._out, []
        return out


def flat(buffer: Buffer) -> Buffer:
    """A buffer whose indexes count bytes, so that what was written can be cut off."""
    return buffer.cast("B") if isinstance(buffer, memoryview) else buffer
