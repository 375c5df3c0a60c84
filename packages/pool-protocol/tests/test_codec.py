"""Messages survive the wire; hostile ones are refused, with one kind of error."""

import dataclasses
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_protocol import messages as m
from pool_protocol.codec import decode, decode_whole, encode_control
from pool_protocol.errors import FrameTooLarge, RemoteProtocolError
from pool_protocol.frames import LARGE, Buffer, Frame, FrameDecoder, nbytes
from pool_protocol.testing import connected_pair, transfer

ints = st.integers(-(2**63), 2**64 - 1)
VALUES: dict[object, st.SearchStrategy[object]] = {
    int: ints,
    str: st.text(st.characters(codec=None)),  # lone surrogates too: file names have them
    bool: st.booleans(),
    int | None: st.none() | ints,
    list[int]: st.lists(ints, max_size=5),
    Buffer: st.binary(max_size=50),
}
controls: st.SearchStrategy[m.Control] = st.one_of(
    [
        st.builds(cls, **{f.name: VALUES[f.type] for f in dataclasses.fields(cls)})
        for cls in m.CONTROL.values()
    ]
)


def frame_of(data: bytes) -> Frame:
    decoder = FrameDecoder()
    decoder.get_buffer()[: len(data)] = data
    [frame] = decoder.received(len(data))
    return frame


def decode_one(frame: Frame) -> m.Message:
    [message] = decode([frame], {frame[0]})
    return message


def raw_control(kind: int, meta: object, blob: bytes = b"") -> Frame:
    text = meta if isinstance(meta, bytes) else json.dumps(meta).encode()
    return (kind, 0, 0, 0, struct.pack("<I", len(text)) + text + blob, ())


@given(controls)
def test_what_arrives_is_what_was_sent(message: m.Control) -> None:
    frame = frame_of(b"".join(encode_control(message)))
    assert decode_one(frame) == message


@given(
    st.lists(controls | st.just(m.Output(1, 1, 0, bytes(3 * LARGE))), max_size=5),
    st.integers(1, 40),
)
def test_a_piece_of_a_stream(sent: list[m.Control], cut: int) -> None:
    """All that is whole in it is read, whatever its size."""
    frames = [b"".join(encode_control(message)) for message in sent]
    data = b"".join(frames)
    assert decode_whole(data) == sent
    if frames and cut < len(frames[-1]):
        assert decode_whole(memoryview(data)[:-cut]) == sent[:-1]


def test_tasks_and_results_alone_and_mixed() -> None:
    task: Frame = (m.TASK, 1, 2, 3, b"t", ())
    result: Frame = (m.RESULT, 4, 5, 6, b"r", [b"x"])
    [ping] = map(frame_of, map(b"".join, [encode_control(m.Ping(8))]))
    assert decode([task, task], {m.TASK}) == [m.Task(*task)] * 2
    assert decode([result], {m.RESULT}) == [m.Result(*result)]
    mixed = decode([task, ping, result], {m.TASK, m.RESULT, m.Ping.KIND})
    assert mixed == [m.Task(*task), m.Ping(8), m.Result(*result)]
    assert list(map(type, mixed)) == [m.Task, m.Ping, m.Result]
    assert isinstance(mixed[0], m.Task)
    assert (mixed[0].function, mixed[0].id) == (2, 3)
    assert decode([], set()) == []


def test_a_large_blob_is_not_copied_on_its_way_out() -> None:
    blob = bytes(LARGE + 1)
    buffers = encode_control(m.SetupFailed(1, blob))
    assert any(buffer is blob for buffer in buffers)


@pytest.mark.parametrize("size", [3, LARGE + 1])
@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_a_blob_that_can_change_is_copied(kind: type, size: int) -> None:
    area = bytearray(size)
    buffers = encode_control(m.SetupFailed(1, kind(area) if kind is memoryview else area))
    area[:] = b"x" * size
    assert b"".join(buffers).endswith(bytes(size))


def test_limit() -> None:
    size = sum(map(nbytes, encode_control(m.Ping(1))))
    encode_control(m.Ping(1), size)
    with pytest.raises(FrameTooLarge):
        encode_control(m.Ping(1), size - 1)


HOSTILE: list[tuple[type[m.Control], object]] = [
    (m.Ping, {"number": 2**64}),
    (m.Ping, {"number": -(2**63) - 1}),
    (m.Ping, {"number": 10**4000}),
    (m.Ping, b'{"number": ' + b"9" * 5000 + b"}"),
    (m.Ping, {"number": 1.0}),
    (m.Ping, {"number": True}),
    (m.Ping, {"number": None}),
    (m.Ping, {"number": "1"}),
    (m.Ping, {"number": [1]}),
    (m.Ping, b'{"number": NaN}'),
    (m.Ping, b'{"number": 1e999}'),
    (m.Ping, {}),
    (m.Ping, {"number": 1, "more": 2}),
    (m.Ping, {"KIND": 1}),
    (m.Ping, []),
    (m.Ping, None),
    (m.Ping, b""),
    (m.Ping, b"{"),
    (m.Ping, b"\xff\xfe{\x00}\x00"),
    (m.Ping, b'{"number": 1} x'),
    (m.Ping, b"[" * 200_000),
    (m.Ping, b'{"a":' * 200_000),
    (m.Watch, {"on": 1}),
    (m.Watch, {"on": "true"}),
    (m.Start, {"workers": 3}),
    (m.Start, {"workers": [1, "2"]}),
    (m.Start, {"workers": [1, True]}),
    (m.Start, {"workers": [1, None]}),
    (m.Start, {"workers": [[1]]}),
    (m.Start, {"workers": [1.5]}),
    (m.Start, {"workers": [2**64]}),
    (m.Start, {"workers": {"0": 1}}),
    (m.Setup, {"func_pickle": 0, "data_pickle": 0, "worker_loop": 0, "max_message": "none"}),
    (m.SetupFailed, {"pid": 1, "blob": ""}),
]


@pytest.mark.parametrize(("cls", "meta"), HOSTILE)
def test_hostile_json_is_refused(cls: type[m.Control], meta: object) -> None:
    with pytest.raises(RemoteProtocolError, match=cls.__name__):
        decode_one(raw_control(cls.KIND, meta))


@pytest.mark.parametrize("payload", [b"", b"\1", b"\5\0\0\0{}", struct.pack("<I", 2**32 - 1)])
def test_a_cut_message_is_refused(payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="an unreadable Stop"):
        decode_one((m.Stop.KIND, 0, 0, 0, payload, ()))


def test_bytes_after_the_end_are_refused_where_no_blob_belongs() -> None:
    with pytest.raises(RemoteProtocolError, match="after its end"):
        decode_one(raw_control(m.Stop.KIND, {}, b"more"))
    assert decode_one(raw_control(m.SetupFailed.KIND, {"pid": 1}, b"b")) == m.SetupFailed(1, b"b")


@pytest.mark.parametrize("at", [1, 2, 3, 5])
def test_fields_that_only_tasks_have_are_refused(at: int) -> None:
    fields: list[object] = list(raw_control(m.Stop.KIND, {}))
    fields[at] = [b""] if at == 5 else 1
    with pytest.raises(RemoteProtocolError, match="only tasks"):
        decode([tuple(fields)], {m.Stop.KIND})  # type: ignore[list-item]


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="unknown kind of message: 99"):
        decode_one((99, 0, 0, 0, b"", ()))


@given(st.sampled_from(sorted(m.CONTROL)), st.binary(max_size=60))
def test_noise_is_refused(kind: int, noise: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_one((kind, 0, 0, 0, noise, ()))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.data())
def test_any_json_gives_a_message_or_a_remote_error(data: st.DataObject) -> None:
    cls = data.draw(st.sampled_from(list(m.CONTROL.values())))
    names = [f.name for f in dataclasses.fields(cls) if f.name != "blob"]
    meta = {name: data.draw(json_values) for name in names}
    try:
        message = decode_one(raw_control(cls.KIND, meta))
    except RemoteProtocolError:
        return
    assert all(getattr(message, name) == value for name, value in meta.items())


@given(st.data())
def test_flipped_bits_give_a_message_or_a_remote_error(data: st.DataObject) -> None:
    frame = frame_of(b"".join(encode_control(data.draw(controls))))
    payload = bytearray(frame[4])
    bit = data.draw(st.integers(0, 8 * len(payload) - 1))
    payload[bit // 8] ^= 1 << bit % 8
    try:
        decode_one((*frame[:4], payload, ()))
    except RemoteProtocolError:
        return


def test_reading_a_message_unpickles_nothing() -> None:
    """A blob is bytes, whatever they pack."""
    bomb = b"cos\nsystem\n(S'exit 3'\ntR."
    dialer, listener = connected_pair()
    listener.send(m.Setup(0, 0, 0, None, bomb))
    [setup] = transfer(listener, dialer)
    assert isinstance(setup, m.Setup)
    assert setup.blob == bomb
