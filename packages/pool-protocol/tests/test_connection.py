"""The whole protocol of a connection: what arrives is what was sent, and the rules hold."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pool_protocol import messages as m
from pool_protocol.areas import Areas
from pool_protocol.connection import LEAST_CONTROL, Connection
from pool_protocol.errors import FrameTooLarge, LocalProtocolError, RemoteProtocolError
from pool_protocol.frames import HEADER, HEADER_SIZE, LARGE, Buffer, Packed, Payload, encode, nbytes
from pool_protocol.states import MAY_SEND, Role, Side, State
from pool_protocol.testing import connected_pair, feed, handshaking_pair, transfer

EXAMPLES: dict[object, Any] = {
    int: 1,
    str: "text",
    bool: True,
    int | None: None,
    list[int]: [1, 2],
    Buffer: b"blob",
}


def example(kind: int) -> m.Control:
    cls = m.CONTROL[kind]
    return cls(**{f.name: EXAMPLES[f.type] for f in dataclasses.fields(cls)})


def send_any(connection: Connection, kind: int, id: int = 1, payload: Payload = b"p") -> None:
    if kind == m.TASK:
        connection.send_task(id, 2, 3, payload)
    elif kind == m.RESULT:
        connection.send_result(id, 2, 3, payload)
    else:
        connection.send(example(kind))


def content(message: m.Message) -> object:
    """A message as it can be compared, whatever kinds of buffers hold it."""
    if isinstance(message, m.Task | m.Result):
        return (
            type(message),
            *message[:4],
            bytes(message.payload),
            [bytes(buffer) for buffer in message.buffers],
        )
    return message


ALL_KINDS = sorted({m.TASK, m.RESULT, *m.CONTROL})


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("role", Role)
def test_the_table_of_kinds_holds_on_both_sides(role: Role, side: Side, kind: int) -> None:
    pair = dict(zip((Side.DIALER, Side.LISTENER), connected_pair(role), strict=True))
    sender, receiver = pair[side], pair[side.peer]
    if kind in MAY_SEND[role, side]:
        send_any(sender, kind)
        [message] = transfer(sender, receiver)
        assert getattr(message, "KIND", kind) == kind
        return
    with pytest.raises(LocalProtocolError, match=f"kind {kind} may not be sent by the"):
        send_any(sender, kind)
    assert sender.take() == []
    assert sender.state is State.OPEN
    with pytest.raises(RemoteProtocolError, match=f"may not send kind {kind}"):
        feed(receiver, encode(kind, 0, 0, 0, b""))
    assert receiver.state is State.CLOSED


def test_an_unknown_kind_closes() -> None:
    dialer, _ = connected_pair()
    with pytest.raises(RemoteProtocolError, match="may not send kind 200"):
        feed(dialer, encode(200, 0, 0, 0, b""))


def test_an_unreadable_message_closes() -> None:
    dialer, listener = connected_pair()
    with pytest.raises(RemoteProtocolError, match="unreadable Forget"):
        feed(dialer, encode(m.Forget.KIND, 0, 0, 0, b"x"))
    assert dialer.state is State.CLOSED
    assert listener.state is State.OPEN


# -- the states


@pytest.mark.parametrize("kind", [m.TASK, m.Setup.KIND])
def test_nothing_is_sent_or_received_after_the_end(kind: int) -> None:
    dialer, listener = connected_pair()
    send_any(listener, kind)
    listener.close()
    listener.close()
    with pytest.raises(LocalProtocolError, match="when closed"):
        send_any(listener, kind)
    with pytest.raises(LocalProtocolError, match="closed connection"):
        listener.received(0)
    assert len(transfer(listener, dialer)) == 1, "what was queued before can still be written"
    dialer.close()
    with pytest.raises(LocalProtocolError, match="when closed"):
        dialer.send_result(1, 1, 0, b"")


def test_a_connection_does_not_open_again() -> None:
    dialer, _ = connected_pair()
    with pytest.raises(LocalProtocolError, match="cannot go"):
        dialer._move(State.OPEN)
        dialer._move(State.OPEN)


def test_closing_during_the_handshake() -> None:
    dialer, _ = handshaking_pair()
    dialer.close()
    assert dialer.state is State.CLOSED


def test_the_role_is_known_from_the_hello_on() -> None:
    dialer, listener = handshaking_pair(Role.CONTROL)
    assert dialer.role is Role.CONTROL
    assert listener.identity is None
    with pytest.raises(LocalProtocolError, match="has not said"):
        _ = listener.role
    transfer(dialer, listener)
    assert listener.role is Role.CONTROL
    assert listener.state is State.HANDSHAKE


def test_partial() -> None:
    dialer, listener = handshaking_pair()
    [hello] = dialer.take()
    feed(listener, [hello[:5]])
    assert listener.partial
    feed(listener, [hello[5:]])
    assert not listener.partial
    dialer, listener = connected_pair()
    listener.send_task(1, 1, 0, b"abc")
    [data] = listener.take()
    feed(dialer, [data[:-1]])
    assert dialer.partial
    feed(dialer, [data[-1:]])
    assert not dialer.partial


def test_repr() -> None:
    dialer, listener = handshaking_pair(worker=12)
    assert "dialer handshake" in repr(dialer)
    assert "worker=12" in repr(dialer)
    assert "listener handshake None" in repr(listener)


# -- sending


def test_small_frames_are_joined_and_large_ones_are_not_copied() -> None:
    dialer, listener = connected_pair()
    large, array = bytes(LARGE + 1), memoryview(bytearray(2 * LARGE))
    for payload in (b"one", b"two", large, b"three", Packed([b"s"], [array, b"", b"tail"]), b"4"):
        listener.send_task(1, 1, 0, payload)
    buffers = listener.take()
    assert [nbytes(buffer) > LARGE for buffer in buffers] == [False, True, False, True, False]
    assert buffers[1] is large
    assert buffers[3].obj is array.obj  # type: ignore[union-attr]
    messages = feed(dialer, buffers)
    assert [bytes(x.payload) for x in messages if isinstance(x, m.Task)] == [
        b"one",
        b"two",
        large,
        b"three",
        b"s",
        b"4",
    ]


def test_large_buffers_are_taken_as_flat_bytes() -> None:
    _, listener = connected_pair()
    matrix = memoryview(bytearray(LARGE * 8)).cast("Q", (8, LARGE // 8))
    listener.send_task(1, 1, 0, Packed([b""], [matrix]))
    buffer = listener.take()[-1]
    assert (len(buffer), buffer[0]) == (LARGE * 8, 0)


def test_service_times_are_cut_off() -> None:
    dialer, listener = connected_pair()
    dialer.send_result(2**64 - 1, 10**12, 0, b"")
    dialer.send_result(0, 10**12, 0, bytes(LARGE + 1))
    small, large = transfer(dialer, listener)
    assert isinstance(small, m.Result)
    assert isinstance(large, m.Result)
    assert (small.id, small.nanos, large.nanos) == (2**64 - 1, 2**32 - 1, 2**32 - 1)


@pytest.mark.parametrize("size", [0, 100, LARGE + 100])
@pytest.mark.parametrize("packed", [False, True])
def test_one_byte_over_max_message(packed: bool, size: int) -> None:
    def payload(size: int) -> Payload:
        return Packed([bytes(size)]) if packed else bytes(size)

    dialer, listener = connected_pair(max_message=size + HEADER_SIZE)
    for send in (listener.send_task, dialer.send_result):
        with pytest.raises(FrameTooLarge):
            send(1, 1, 0, payload(size + 1))
    assert listener.take() == dialer.take() == []
    listener.send_task(1, 1, 0, payload(size))
    [task] = transfer(listener, dialer)
    assert isinstance(task, m.Task)
    assert len(task.payload) == size
    with pytest.raises(FrameTooLarge):
        listener.send(m.Function(1, "n" * size, False, "3.11", bytes(30)))
    assert listener.take() == []
    with pytest.raises(RemoteProtocolError, match="over the limit"):
        feed(dialer, encode(m.TASK, 0, 0, 1, bytes(size + 1)))
    assert dialer.state is State.CLOSED


@pytest.mark.parametrize("limit", [1024, LEAST_CONTROL + 1])
def test_a_small_limit_is_for_the_users_data(limit: int) -> None:
    """Not for what the two sides of a control connection tell each other by themselves."""
    dialer, listener = connected_pair(Role.CONTROL, max_message=limit)
    most = max(limit, LEAST_CONTROL)
    lost = m.Lost(1, 2, -9, 3, 4, "killed", bytes(most - 500))
    orders = m.Start(list(range(10**6, 10**6 + 10_000)))
    dialer.send(lost)
    listener.send(orders)
    assert (transfer(dialer, listener), transfer(listener, dialer)) == ([lost], [orders])
    with pytest.raises(FrameTooLarge):
        dialer.send(m.Output(1, 1, 0, bytes(most)))
    with pytest.raises(RemoteProtocolError, match="over the limit"):
        feed(listener, encode(m.Output.KIND, 0, 0, 0, bytes(most)))


# -- noise after the handshake


def survive(connection: Connection, data: Buffer, split: int | list[int] | None = None) -> None:
    try:
        feed(connection, [data], split)
    except RemoteProtocolError:
        assert connection.state is State.CLOSED
    else:
        assert connection.state is State.OPEN


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: example\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n" * 3,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 5,
        b"\xff" * 200,
        HEADER.pack(2**63, m.TASK, 0, 0, 0, 0),
        HEADER.pack(2**63, m.Ping.KIND, 0, 5, 0, 0),
    ],
)
def test_strange_bytes_close(role: Role, data: bytes) -> None:
    for connection in connected_pair(role):
        with pytest.raises(RemoteProtocolError):
            feed(connection, [data])
        assert connection.state is State.CLOSED


@pytest.mark.parametrize("role", Role)
@given(data=st.data())
def test_changed_bytes_give_messages_or_a_remote_error(role: Role, data: st.DataObject) -> None:
    dialer, listener = connected_pair(role)
    pair = ((dialer, listener), (listener, dialer))
    sender, receiver = data.draw(st.sampled_from(pair))
    for kind in sorted(MAY_SEND[role, sender.side]):
        send_any(sender, kind)
    raw = bytearray(b"".join(sender.take()))
    how = data.draw(st.sampled_from(["flip", "cut", "insert", "swap"]))
    at = data.draw(st.integers(0, len(raw) - 1))
    if how == "flip":
        raw[at] ^= data.draw(st.integers(1, 255))
    elif how == "cut":
        del raw[at : at + data.draw(st.integers(1, 30))]
    elif how == "insert":
        raw[at:at] = data.draw(st.binary(min_size=1, max_size=30))
    else:
        raw = raw[at:] + raw[:at]
    survive(receiver, raw, data.draw(st.lists(st.integers(1, 100), min_size=1, max_size=4)))


# -- the two sides as a machine

payloads = st.one_of(
    st.binary(max_size=30),
    st.integers(LARGE - 1, LARGE + 1).map(bytes),
    st.builds(
        Packed,
        st.lists(st.binary(max_size=10), max_size=3),
        st.lists(st.binary(max_size=10) | st.integers(LARGE, 5 * LARGE).map(bytes), max_size=3),
    ),
)
sides = st.sampled_from(Side)


class Pair(RuleBasedStateMachine):
    """Bytes travel in any pieces; what arrives is what was sent, in order, in each direction."""

    @initialize(role=st.sampled_from(Role))
    def connect(self, role: Role) -> None:
        dialer, listener = handshaking_pair(role)
        self.role = role
        self.ends = {Side.DIALER: dialer, Side.LISTENER: listener}
        self.wire = {side: bytearray() for side in Side}  # by the side that wrote
        self.sent: dict[Side, list[object]] = {side: [] for side in Side}
        self.arrived: dict[Side, list[object]] = {side: [] for side in Side}

    def is_open(self, side: Side) -> bool:
        return self.ends[side].state is State.OPEN

    @rule(side=sides, id=st.integers(0, 2**64 - 1), flags=st.integers(0, 255), payload=payloads)
    def send_payload(self, side: Side, id: int, flags: int, payload: Payload) -> None:
        kind, cls = (m.TASK, m.Task) if side is Side.LISTENER else (m.RESULT, m.Result)
        end = self.ends[side]
        send = end.send_task if side is Side.LISTENER else end.send_result
        if not self.is_open(side) or self.role is not Role.TASK:
            with pytest.raises(LocalProtocolError):
                send(id, 5, flags, payload)
            return
        send(id, 5, flags, payload)
        stream, buffers = (payload, []) if isinstance(payload, bytes) else payload
        data = stream if isinstance(stream, bytes) else b"".join(stream)
        self.sent[side].append((cls, kind, flags, 5, id, data, list(buffers)))

    @rule(side=sides, kind=st.sampled_from(sorted(m.CONTROL)))
    def send_control(self, side: Side, kind: int) -> None:
        message = example(kind)
        if not self.is_open(side) or kind not in MAY_SEND[self.role, side]:
            with pytest.raises(LocalProtocolError):
                self.ends[side].send(message)
            return
        self.ends[side].send(message)
        self.sent[side].append(message)

    @rule(side=sides)
    def write(self, side: Side) -> None:
        for buffer in self.ends[side].take():
            assert nbytes(buffer) > 0
            self.wire[side] += buffer

    @rule(
        side=sides,
        split=st.lists(st.integers(1, 50) | st.integers(1, 500_000), min_size=1, max_size=5),
    )
    def deliver(self, side: Side, split: list[int]) -> None:
        """Some of what ``side`` wrote arrives at the other end."""
        target = self.ends[side.peer]
        for size in split:
            data = self.wire[side][:size]
            del self.wire[side][:size]
            if target.state is State.CLOSED:
                continue  # nobody reads any more
            self.arrived[side] += map(content, feed(target, [data]))

    @precondition(lambda self: all(end.state is State.OPEN for end in self.ends.values()))
    @rule(side=sides)
    def close(self, side: Side) -> None:
        self.ends[side].close()

    @rule(side=sides)
    def read_after_the_end(self, side: Side) -> None:
        if self.ends[side].state is State.CLOSED:
            with pytest.raises(LocalProtocolError):
                self.ends[side].received(0)

    @invariant()
    def what_arrived_was_sent_in_this_order(self) -> None:
        for side in Side:
            assert self.arrived[side] == self.sent[side][: len(self.arrived[side])]

    def teardown(self) -> None:
        """The rest arrives, and then nothing is missing, unless somebody closed."""
        if not hasattr(self, "ends"):
            return
        for _ in range(3):
            for side in Side:
                self.write(side)
                self.deliver(side, [len(self.wire[side]) + 1])
        for side in Side:
            if self.is_open(side.peer):
                assert self.arrived[side] == self.sent[side]
                assert not self.ends[side.peer].partial


TestPair = Pair.TestCase
TestPair.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)


@pytest.mark.parametrize("before", [True, False])
def test_large_parts_come_into_the_memory_that_was_given(before: bool) -> None:
    """Given before the handshake or after it."""
    memory = Areas()
    dialer, listener = handshaking_pair()
    if before:
        listener.receive_into(memory)
    for source, target in ((dialer, listener), (listener, dialer), (dialer, listener)):
        transfer(source, target)
    if not before:
        listener.receive_into(memory)
    dialer.send_result(1, 2, 0, bytes(5_000_000))
    [result] = transfer(dialer, listener)
    assert isinstance(result, m.Result) and isinstance(result.payload, memoryview)
    assert [area.map for area in memory.kept] == [result.payload.obj]
