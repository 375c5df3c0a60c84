"""Frames: in whatever pieces they arrive, they arrive whole; lies cost no memory."""

import gc
import mmap
import struct
import sys
import tracemalloc
import weakref
from collections.abc import Sequence
from itertools import cycle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool_protocol.areas import Areas
from pool_protocol.errors import FrameTooLarge, LocalProtocolError, RemoteProtocolError
from pool_protocol.frames import (
    HEADER,
    HEADER_SIZE,
    LARGE,
    MAX_PARTS,
    Buffer,
    Frame,
    FrameDecoder,
    Packed,
    Payload,
    encode,
    nbytes,
    payload_size,
)

BIG = 5 * 1024 * 1024  # is mapped


def feed(decoder: FrameDecoder, data: bytes, sizes: Sequence[int] = (1 << 30,)) -> list[Frame]:
    rest, pieces, out = memoryview(data), cycle(sizes), []
    while len(rest):
        hole = decoder.get_buffer()
        assert len(hole) > 0
        count = min(len(hole), len(rest), next(pieces))
        hole[:count] = rest[:count]
        rest = rest[count:]
        out += decoder.received(count)
    return out


def wire(payload: Payload, kind: int = 1, flags: int = 0, aux: int = 0, id: int = 0) -> bytes:
    return b"".join(encode(kind, flags, aux, id, payload))


def plain(frame: Frame) -> tuple[object, ...]:
    kind, flags, aux, id, payload, buffers = frame
    return kind, flags, aux, id, bytes(payload), [bytes(buffer) for buffer in buffers]


def header(size: int, parts: int = 0) -> bytes:
    return HEADER.pack(size, 1, 0, parts, 0, 0)


def pattern(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


sizes_near_limits = st.one_of(
    st.integers(0, 300),
    st.sampled_from([LARGE - 1, LARGE, LARGE + 1, 4 * LARGE - HEADER_SIZE, 4 * LARGE, 300_000]),
)
payloads = st.one_of(
    sizes_near_limits.map(pattern),
    st.builds(
        Packed,
        st.lists(sizes_near_limits.map(pattern), max_size=3),
        st.lists(sizes_near_limits.map(pattern), max_size=4),
    ),
)
u64 = st.integers(0, 2**64 - 1)
some_frames = st.lists(
    st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**32 - 1), u64, payloads),
    max_size=6,
)
splits = st.lists(
    st.one_of(st.integers(1, 40), st.integers(1, 100_000)), min_size=1, max_size=10
).filter(lambda pieces: sum(pieces) >= 200 * len(pieces))


@settings(deadline=None, max_examples=60)
@given(some_frames, splits)
def test_what_arrives_is_what_was_sent(
    sent: list[tuple[int, int, int, int, Payload]], sizes: list[int]
) -> None:
    expected = []
    for kind, flags, aux, id, payload in sent:
        stream = payload if isinstance(payload, bytes) else b"".join(payload.stream)
        buffers = [] if isinstance(payload, bytes) else list(payload.buffers)
        expected.append((kind, flags, aux, id, stream, buffers))
    data = b"".join(b"".join(encode(*fields)) for fields in sent)
    decoder = FrameDecoder()
    assert [plain(frame) for frame in feed(decoder, data, sizes)] == expected
    assert not decoder.partial
    assert len(decoder.get_buffer()) == 4 * LARGE


@pytest.mark.parametrize("payload", [b"", b"abc", Packed([b"ab"], [b"c", b"", b"def"])])
def test_byte_by_byte(payload: Payload) -> None:
    decoder = FrameDecoder()
    data = wire(payload, id=9)
    arrived = []
    for at in range(len(data)):
        assert decoder.partial is (at > 0)
        arrived += feed(decoder, data[at : at + 1])
        assert bool(arrived) is (at + 1 == len(data))
    assert not decoder.partial


@pytest.mark.parametrize(
    ("stream", "buffers"),
    [([], [b""]), ([b""], [b"", b""]), ([b"x"], [b""]), ([], [b"", pattern(BIG), b""])],
)
def test_parts_of_no_length(stream: list[bytes], buffers: list[bytes]) -> None:
    decoder = FrameDecoder()
    data = wire(Packed(stream, buffers)) + wire(b"next", id=2)
    first, second = feed(decoder, data)
    assert plain(first)[4:] == (b"".join(stream), buffers)
    assert second[3:5] == (2, b"next")


def test_the_largest_number_of_parts() -> None:
    buffers = [bytes([n % 256]) for n in range(MAX_PARTS)]
    [frame] = feed(FrameDecoder(), wire(Packed([b"s"], buffers)))
    assert plain(frame)[5] == buffers
    with pytest.raises(LocalProtocolError, match="1025 buffers"):
        encode(1, 0, 0, 0, Packed([b""], [b""] * (MAX_PARTS + 1)))


def test_a_small_payload_is_one_buffer_and_a_large_one_is_not_copied() -> None:
    assert len(encode(1, 0, 0, 0, bytes(LARGE))) == 1
    payload = bytes(LARGE + 1)
    assert encode(1, 0, 0, 0, payload)[1] is payload
    stream, array = bytes(LARGE), memoryview(bytearray(LARGE))
    assert encode(1, 0, 0, 0, Packed([stream], [array]))[1:] == [stream, array]


@pytest.mark.parametrize("buffers", [(), (b"ab",), (b"ab", bytearray(LARGE), b"")])
def test_what_is_within_the_limit_by_its_size_can_be_sent(buffers: tuple[Buffer, ...]) -> None:
    """Whoever looks at the size beforehand must not be refused afterwards."""
    payload = Packed([b"stream"], buffers)
    size = payload_size(payload) + HEADER_SIZE
    assert sum(map(nbytes, encode(1, 0, 0, 0, payload, size))) == size
    with pytest.raises(FrameTooLarge):
        encode(1, 0, 0, 0, payload, size - 1)


def test_sizes() -> None:
    words = memoryview(bytes(80)).cast("Q")
    assert (len(words), nbytes(words), nbytes(b"abc"), nbytes(bytearray(5))) == (10, 80, 3, 5)
    assert payload_size(b"abc") == 3
    assert payload_size(Packed([b"ab", b"c"])) == 3
    assert payload_size(Packed([b"ab", b"c"], [words])) == 83 + 2 * 8, "with the table of lengths"
    assert payload_size(Packed([b"ab"], [words, b"d"])) == 83 + 3 * 8
    [frame] = feed(FrameDecoder(), wire(Packed([b"ab"], [words])))
    assert nbytes(frame[5][0]) == 80


# -- limits


@pytest.mark.parametrize("payload", [bytes(76), bytes(LARGE), Packed([bytes(20)], [bytes(40)])])
def test_one_byte_over_the_limit(payload: Payload) -> None:
    data = wire(payload)
    encode(1, 0, 0, 0, payload, limit=len(data))
    with pytest.raises(FrameTooLarge, match=r"max_message") as info:
        encode(1, 0, 0, 0, payload, limit=len(data) - 1)
    assert f"{len(data):,} bytes is over the limit of {len(data) - 1:,}" in str(info.value)
    assert len(feed(FrameDecoder(len(data)), data)) == 1
    with pytest.raises(RemoteProtocolError, match="over the limit"):
        feed(FrameDecoder(len(data) - 1), data)


@pytest.mark.parametrize("limit", [0, 1, 23, 24, 100])
def test_a_limit_holds_as_soon_as_the_header_is_there(limit: int) -> None:
    decoder = FrameDecoder(limit)
    assert feed(decoder, header(100)[:-1]) == []
    with pytest.raises(RemoteProtocolError, match="over the limit"):
        feed(decoder, header(100)[-1:])


def test_a_header_alone_is_within_a_limit_of_its_size() -> None:
    assert len(feed(FrameDecoder(HEADER_SIZE), wire(b""))) == 1


# -- lies


@pytest.mark.parametrize("size", [2**63, 2**64 - 1, 2**62, 2**63 - 1, 2**47])
def test_a_length_that_cannot_be(size: int) -> None:
    with pytest.raises(RemoteProtocolError, match="no memory" if size < 2**63 else "claims"):
        feed(FrameDecoder(), header(size))


@pytest.mark.parametrize(
    ("size", "parts"), [(0, 1), (15, 1), (8 * 1025 - 1, 1024), (2**40, 1025), (2**62, 65535)]
)
def test_parts_that_cannot_be(size: int, parts: int) -> None:
    with pytest.raises(RemoteProtocolError, match="parts"):
        feed(FrameDecoder(), header(size, parts))


@pytest.mark.parametrize(
    "lengths", [(0, 0), (5, 4), (11, 0), (0, 2**64 - 1), (2**64 - 1, 11), (2**63, 2**63)]
)
def test_lengths_that_do_not_add_up(lengths: tuple[int, int]) -> None:
    table = struct.pack("<2Q", *lengths)
    decoder = FrameDecoder()
    with pytest.raises(RemoteProtocolError, match="do not add up"):
        feed(decoder, header(len(table) + 10, 1) + table)
    assert len(decoder.get_buffer()) > 0


def test_a_part_that_cannot_be() -> None:
    table = struct.pack("<2Q", 2**61, 2**61)
    with pytest.raises(RemoteProtocolError, match="no memory"):
        feed(FrameDecoder(), header(2**62 + 16, 1) + table)


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_is_committed_before_bytes_arrive() -> None:
    claim = 1 << 30
    table = struct.pack("<11Q", *[claim] * 11)
    before = resident()
    one, many = FrameDecoder(), FrameDecoder()
    feed(one, header(claim))
    feed(many, header(len(table) + 11 * claim, 10) + table)
    assert one.partial
    assert many.partial
    assert resident() - before < 64 * 1024 * 1024


def test_a_lie_about_many_parts_below_the_mapped_size_costs_one_part() -> None:
    part = 4 * 1024 * 1024 - 1
    count = MAX_PARTS + 1
    table = struct.pack(f"<{count}Q", *[part] * count)
    decoder = FrameDecoder()
    tracemalloc.start()
    try:
        feed(decoder, header(len(table) + count * part, MAX_PARTS) + table)
        assert tracemalloc.get_traced_memory()[1] < 3 * part
    finally:
        tracemalloc.stop()


# -- memory


@pytest.mark.parametrize("size", [LARGE + 1, 1024 * 1024, BIG])
def test_a_large_payload_is_received_where_it_stays(size: int) -> None:
    """But for what came with the header, nothing is copied, whatever the size."""
    decoder = FrameDecoder()
    assert feed(decoder, header(size)) == []
    hole = decoder.get_buffer()
    assert len(hole) == size
    hole[:] = pattern(size)
    [frame] = decoder.received(size)
    assert isinstance(frame[4], memoryview)
    hole[5] = 77
    assert frame[4][5] == 77


def test_an_array_is_received_where_it_stays() -> None:
    decoder = FrameDecoder()
    array = pattern(BIG)
    data = wire(Packed([b"stream"], [array]))
    feed(decoder, data[: -len(array)])
    hole = decoder.get_buffer()
    assert len(hole) == BIG
    hole[:] = array
    [frame] = decoder.received(BIG)
    assert frame[5][0] == array
    assert frame[5][0].obj is hole.obj  # type: ignore[union-attr]


def shared_mappings() -> int:
    with open("/proc/self/maps") as file:
        return sum("/dev/zero" in line for line in file)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_all_memory_is_private_to_the_process() -> None:
    """Shared memory would be changed by a child that a task forks."""
    before = shared_mappings()
    decoder = FrameDecoder()
    feed(decoder, header(BIG))
    assert isinstance(decoder.get_buffer().obj, mmap.mmap)
    assert shared_mappings() == before


def test_the_memory_of_a_large_frame_belongs_to_its_receiver() -> None:
    decoder = FrameDecoder()
    frames_ = feed(decoder, wire(bytes(BIG)))
    area = frames_[0][4].obj  # type: ignore[union-attr]
    gone = weakref.ref(area)
    del area, frames_
    gc.collect()
    assert gone() is None
    assert not decoder.partial


def test_payloads_stay_when_the_buffer_is_used_again() -> None:
    decoder = FrameDecoder()
    [first] = feed(decoder, wire(b"first"))
    [second] = feed(decoder, wire(b"SECOND"))
    assert (first[4], second[4]) == (b"first", b"SECOND")


def test_large_frames_share_the_memory_that_is_free() -> None:
    decoder = FrameDecoder(memory=Areas())
    [first] = feed(decoder, wire(bytes(BIG)))
    [second] = feed(decoder, wire(Packed([b"x"], [b"y" * BIG])))
    assert first[4].obj is not second[5][0].obj  # type: ignore[union-attr]
    assert bytes(first[4]) == bytes(BIG)
    area = first[4].obj  # type: ignore[union-attr]
    del first
    [third] = feed(decoder, wire(b"z" * BIG))
    assert third[4].obj is area  # type: ignore[union-attr]
    assert (bytes(second[5][0]), bytes(third[4])) == (b"y" * BIG, b"z" * BIG)


# -- noise


def drain(decoder: FrameDecoder, data: bytes, sizes: Sequence[int]) -> list[Frame]:
    try:
        return feed(decoder, data, sizes)
    except RemoteProtocolError:
        return []


@settings(deadline=None)
@given(st.binary(max_size=400), splits)
def test_noise_gives_frames_or_a_remote_error(data: bytes, sizes: list[int]) -> None:
    drain(FrameDecoder(), data, sizes)
    drain(FrameDecoder(1000), data, sizes)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_flipped_bits_give_frames_or_a_remote_error(data: st.DataObject) -> None:
    raw = bytearray(wire(b"abc") + wire(Packed([b"xyz"], [b"12345", b""])) + wire(b""))
    for bit in data.draw(st.lists(st.integers(0, 8 * len(raw) - 1), min_size=1, max_size=3)):
        raw[bit // 8] ^= 1 << bit % 8
    drain(FrameDecoder(), bytes(raw), [data.draw(st.integers(1, len(raw)))])


@given(st.integers(0, 300), st.sampled_from([b"abc", Packed([b"xyz"], [b"12345"])]))
def test_a_truncated_frame_is_partial(cut: int, payload: Payload) -> None:
    raw = wire(payload)
    cut %= len(raw)
    decoder = FrameDecoder()
    assert feed(decoder, raw[:cut]) == []
    assert decoder.partial is (cut > 0)
