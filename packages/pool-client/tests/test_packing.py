"""Calls as they are packed for the wire."""

import pickle
import struct
import threading

import pytest
from packing_model import Exits, Interrupted, Silent, Unpicklable, nested

from pool_client.packing import check_size, pack_call, with_limit
from pool_client.scheduling.tasks import Function
from pool_protocol import FrameTooLarge, Packed, PickleType, serializer
from pool_protocol.frames import HEADER_SIZE, LARGE
from pool_protocol.messages import TaskFlag

PICKLE = serializer(PickleType.pickle)


@pytest.fixture
def function():
    return Function(1, "module.work", b"", by_value=False)


def pack(function, *args, timeout=None, limit=None, **kwargs):
    return pack_call(PICKLE, function, args, kwargs, timeout, limit)


def test_positional_arguments_travel_alone(function):
    payload, flags, size = pack(function, 1, "two")
    assert (pickle.loads(payload), flags, size) == ((1, "two"), 0, len(payload))
    assert pickle.loads(pack(function)[0]) == ()


def test_keyword_arguments_travel_beside_them(function):
    payload, flags, _ = pack(function, 1, name=2)
    assert (pickle.loads(payload), flags) == (((1,), {"name": 2}), TaskFlag.KWARGS)


def test_a_limit_comes_first_in_ns(function):
    payload, flags, size = pack(function, 1, timeout=1.5)
    assert flags == TaskFlag.TIMED
    assert struct.unpack_from("<Q", payload) == (1_500_000_000,)
    assert pickle.loads(payload[8:]) == (1,)
    assert size == len(payload)


@pytest.mark.parametrize(
    ("seconds", "nanos"),
    [(1e-12, 1), (1e-9, 1), (3600, 3600 * 10**9), (1e30, 2**63), (float("inf"), 2**63)],
)
def test_any_limit_fits(seconds, nanos):
    assert struct.unpack("<Q", with_limit(b"", seconds)) == (nanos,)


def test_large_arguments_are_remembered_and_not_copied(function):
    data = bytes(10 * LARGE)
    pack(function, data)
    assert function.large
    payload, flags, size = pack(function, data, timeout=1.0)
    assert flags == TaskFlag.TIMED
    assert isinstance(payload, Packed)
    assert any(piece is data for piece in payload.stream)
    assert size == sum(map(len, payload.stream)) > len(data)
    assert len(payload.stream[0]) == 8


def test_buffers_travel_beside_the_stream(function):
    data = pickle.PickleBuffer(bytearray(10 * LARGE))
    payload, _, size = pack(function, data, timeout=1.0)
    assert len(payload.buffers) == 1
    assert size > 10 * LARGE


def test_an_argument_that_cannot_be_pickled_is_named(function):
    with pytest.raises(
        pickle.PicklingError, match=r"argument 1 of type Unpicklable.*module.work.*not me"
    ):
        pack(function, 1, Unpicklable())
    with pytest.raises(pickle.PicklingError, match=r"argument 'lock' of type lock"):
        pack(function, lambda: 1, lock=threading.Lock())
    with pytest.raises(pickle.PicklingError, match="argument 0 of type Silent"):
        pack(function, Silent())
    with pytest.raises(pickle.PicklingError, match="argument 0") as caught:
        pack(function, Exits())
    assert isinstance(caught.value.__cause__, SystemExit)


def test_when_no_argument_alone_is_to_blame(function):
    class Second:
        count = 0

        def __reduce__(self):
            Second.count += 1
            if Second.count < 3:
                raise ValueError("only at first")
            return int, ()

    with pytest.raises(pickle.PicklingError, match=r"the arguments for module\.work"):
        pack(function, Second())


@pytest.mark.parametrize(
    ("value", "error"), [(nested(), RecursionError), (Interrupted(), KeyboardInterrupt)]
)
def test_what_stays_as_it_is(function, value, error):
    with pytest.raises(error):
        pack(function, value)


def test_a_message_over_the_limit_is_refused(function):
    payload, _, size = pack(function, b"x" * 1000)
    assert pack(function, b"x" * 1000, limit=size + HEADER_SIZE)[0] == payload
    with pytest.raises(
        FrameTooLarge, match=f"{size + HEADER_SIZE:,} bytes.*{size + HEADER_SIZE - 1:,} bytes"
    ):
        pack(function, b"x" * 1000, limit=size + HEADER_SIZE - 1)
    check_size(0, HEADER_SIZE)
