"""Who gets in, and that nobody else does."""

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_protocol.connection import Connection
from pool_protocol.errors import (
    AuthenticationError,
    LocalProtocolError,
    PoolError,
    RemoteProtocolError,
    VersionMismatch,
)
from pool_protocol.handshake import (
    PROTOCOL_VERSION,
    DialerHandshake,
    Identity,
    ListenerHandshake,
    _mac,
    mismatch_text,
)
from pool_protocol.states import Role, State
from pool_protocol.testing import LAUNCH, TOKEN, feed, handshaking_pair, transfer

IDENTITY = Identity(LAUNCH, Role.TASK, 7)
HELLO_SIZE = ListenerHandshake(lambda launch: None).needed
VERSION_AT, ROLE_AT = 8, 10


def listener(token: bytes | None = TOKEN, version: int = PROTOCOL_VERSION) -> Connection:
    return Connection(ListenerHandshake(lambda launch: token, version))


def dialer(token: bytes = TOKEN, version: int = PROTOCOL_VERSION) -> Connection:
    return Connection(DialerHandshake(IDENTITY, token, version))


def written(connection: Connection) -> bytes:
    return b"".join(connection.take())


@pytest.mark.parametrize("split", [1, 7, None])
@pytest.mark.parametrize("role", Role)
def test_both_sides_open(role: Role, split: int | None) -> None:
    a, b = handshaking_pair(role, worker=3)
    assert transfer(a, b, split) == []
    assert transfer(b, a, split) == []
    assert (a.state, b.state) == (State.OPEN, State.HANDSHAKE)
    assert transfer(a, b, split) == []
    assert b.state is State.OPEN
    assert a.identity == b.identity == Identity(LAUNCH, role, 3)


def test_the_structures_are_small() -> None:
    a, b = dialer(), listener()
    sizes = []
    for source, target in ((a, b), (b, a), (a, b)):
        data = written(source)
        sizes.append(len(data))
        feed(target, [data])
    assert max(sizes) < 100


def test_before_it_is_authenticated_a_peer_cannot_make_us_hold_more() -> None:
    b = listener()
    assert len(b.get_buffer()) == HELLO_SIZE
    feed(b, [written(dialer())])
    assert len(b.get_buffer()) == 32


@pytest.mark.parametrize("token", [b"another token", b"", None])
def test_a_dialer_notices_a_listener_without_the_token(token: bytes | None) -> None:
    a, b = dialer(), listener(token)
    if token:
        transfer(a, b)
        with pytest.raises(AuthenticationError, match="token"):
            transfer(b, a)
    else:
        with pytest.raises(AuthenticationError, match="unknown launch"):
            transfer(a, b)
        with pytest.raises(AuthenticationError, match="does not know this launch"):
            transfer(b, a)
    assert a.state is State.CLOSED
    assert a.take() == []


def test_an_empty_token_opens_nothing() -> None:
    with pytest.raises(AuthenticationError):
        transfer(dialer(b""), listener(b""))


@pytest.mark.parametrize("wrong", [bytes(32), b"\xff" * 32])
def test_a_listener_refuses_a_wrong_proof(wrong: bytes) -> None:
    b = listener()
    feed(b, [written(dialer())])
    with pytest.raises(AuthenticationError, match="token"):
        feed(b, [wrong])
    assert b.state is State.CLOSED


def test_a_dialer_with_another_token_cannot_prove_anything() -> None:
    """Even one that does not care about the listener's proof, as an attacker would not."""
    victim = listener()
    rogue = DialerHandshake(IDENTITY, b"guess")
    feed(victim, [rogue.opening])
    challenge = written(victim)
    forged = _mac(b"guess", b"listener", rogue.opening, challenge[12:44])
    proof = rogue.receive(challenge[:44] + forged)
    with pytest.raises(AuthenticationError):
        feed(victim, [proof])


def test_a_replayed_dialer_is_refused() -> None:
    a, b = dialer(), listener()
    hello = written(a)
    feed(b, [hello])
    transfer(b, a)
    proof = written(a)
    feed(b, [proof])
    assert b.state is State.OPEN
    again = listener()
    feed(again, [hello])
    with pytest.raises(AuthenticationError):
        feed(again, [proof])


def test_a_replayed_listener_is_refused() -> None:
    a, b = dialer(), listener()
    transfer(a, b)
    challenge = written(b)
    feed(a, [challenge])
    assert a.state is State.OPEN
    other = dialer()
    with pytest.raises(AuthenticationError):
        feed(other, [challenge])


def test_a_reflected_proof_is_refused() -> None:
    """The listener's own proof, sent back to it as the dialer's."""
    a, b = dialer(), listener()
    transfer(a, b)
    mac = written(b)[-32:]
    with pytest.raises(AuthenticationError):
        feed(b, [mac])


def test_a_reflected_hello_is_refused() -> None:
    a = dialer()
    hello = written(a)
    with pytest.raises(PoolError):
        feed(a, [hello + bytes(len(a.get_buffer()) - len(hello))])
    assert a.state is State.CLOSED


def test_the_role_is_signed() -> None:
    a, b = dialer(), listener()
    hello = bytearray(written(a))
    assert hello[ROLE_AT] == Role.TASK
    hello[ROLE_AT] = Role.CONTROL
    feed(b, [hello])
    with pytest.raises(AuthenticationError):
        transfer(b, a)


@pytest.mark.parametrize("role", [0, 6, 255])
def test_an_unknown_role_is_refused(role: int) -> None:
    a, b = dialer(), listener()
    hello = bytearray(written(a))
    hello[ROLE_AT] = role
    with pytest.raises(AuthenticationError, match="role"):
        feed(b, [hello])
    with pytest.raises(AuthenticationError):
        transfer(b, a)


@given(st.integers(0, HELLO_SIZE * 8 - 1))
def test_no_bit_of_the_hello_can_be_changed(bit: int) -> None:
    a, b = dialer(), listener()
    hello = bytearray(written(a))
    hello[bit // 8] ^= 1 << bit % 8
    with pytest.raises(PoolError):
        feed(b, [hello])
        transfer(b, a)
        transfer(a, b)
    assert b.state is not State.OPEN


def test_no_bit_of_the_challenge_or_of_the_proof_can_be_changed() -> None:
    for bit in range(76 * 8):
        a, b = dialer(), listener()
        transfer(a, b)
        challenge = bytearray(written(b))
        if bit // 8 == 11:
            continue  # padding
        challenge[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PoolError):
            feed(a, [challenge])
        assert a.state is State.CLOSED
    for bit in range(32 * 8):
        a, b = dialer(), listener()
        transfer(a, b)
        transfer(b, a)
        proof = bytearray(written(a))
        proof[bit // 8] ^= 1 << bit % 8
        with pytest.raises(AuthenticationError):
            feed(b, [proof])


@pytest.mark.parametrize(("ours", "theirs"), [(1, 2), (3, 1)])
def test_another_version_is_named_on_both_sides(ours: int, theirs: int) -> None:
    a, b = dialer(version=ours), listener(version=theirs)
    with pytest.raises(VersionMismatch) as at_listener:
        transfer(a, b)
    with pytest.raises(VersionMismatch) as at_dialer:
        transfer(b, a)
    assert str(at_listener.value) == mismatch_text(theirs, ours)
    assert str(at_dialer.value) == mismatch_text(ours, theirs)
    for text in (str(at_listener.value), str(at_dialer.value)):
        assert f"version {ours}" in text
        assert f"version {theirs}" in text
        assert "install" in text
    assert a.state is b.state is State.CLOSED


def test_a_listener_of_another_version_that_accepts_is_refused() -> None:
    a, b = dialer(), listener()
    transfer(a, b)
    challenge = bytearray(written(b))
    struct.pack_into("<H", challenge, VERSION_AT, 9)
    with pytest.raises(VersionMismatch, match="version 9"):
        feed(a, [challenge])


STRANGERS = [
    b"GET / HTTP/1.1\r\nHost: example\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\x80\x05\x95",
    b"pool",
    b"\0" * 100,
    b"poolwirX",
]


@pytest.mark.parametrize("data", STRANGERS)
@pytest.mark.parametrize("split", [1, None])
@pytest.mark.parametrize("connect", [dialer, listener])
def test_a_stranger_is_refused_at_its_first_wrong_byte(
    connect: Callable[[], Connection], split: int | None, data: bytes
) -> None:
    connection = connect()
    written(connection)
    if data == b"pool":
        assert feed(connection, [data], split) == []
        assert connection.state is State.HANDSHAKE
        assert connection.partial
        return
    with pytest.raises(RemoteProtocolError, match="does not speak this protocol"):
        feed(connection, [data], split)
    assert connection.state is State.CLOSED
    assert connection.take() == []


@given(st.binary(min_size=1, max_size=300), st.lists(st.integers(1, 40), min_size=1))
def test_random_bytes_open_nothing(data: bytes, split: list[int]) -> None:
    for connection in (dialer(), listener()):
        try:
            feed(connection, [data], split)
        except PoolError:
            assert connection.state is State.CLOSED
        else:
            assert connection.state is State.HANDSHAKE


def test_nothing_can_be_sent_before_the_handshake_is_over() -> None:
    for connection in (dialer(), listener()):
        with pytest.raises(LocalProtocolError, match="when handshake"):
            connection.send_task(1, 1, 0, b"")
        with pytest.raises(LocalProtocolError, match="when handshake"):
            connection.send_result(1, 1, 0, b"")


def test_a_listener_accepts_bytes_sent_right_after_the_proof() -> None:
    a, b = handshaking_pair()
    transfer(a, b)
    transfer(b, a)
    a.send_result(5, 0, 0, b"early")
    [message] = transfer(a, b)
    assert message.payload == b"early"  # type: ignore[union-attr]
