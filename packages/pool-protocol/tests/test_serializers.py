"""Values are packed and read back; large ones without a copy where that is possible."""

import copyreg
import pickle
import sys
from collections import ChainMap
from types import ModuleType
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_protocol import PickleType, SerializerMissing, serializer
from pool_protocol.frames import LARGE, MAX_PARTS, Packed, Payload, nbytes, payload_size
from pool_protocol.messages import Task
from pool_protocol.serializers import (
    Serializer,
    is_plain,
    pack_separate,
    unpack_separate,
)
from pool_protocol.states import Role
from pool_protocol.testing import connected_pair, transfer

PICKLE = serializer(PickleType.pickle)


class Array:
    """As an array of numbers is pickled: its memory goes out of band."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return Array, (pickle.PickleBuffer(self.data),)


def across(payload: Payload, kind: Serializer = PICKLE) -> Any:
    """The value after a journey over a connection."""
    dialer, listener = connected_pair(Role.TASK)
    listener.send_task(1, 1, 0, payload)
    [task] = transfer(listener, dialer)
    assert isinstance(task, Task)
    return kind.unpack(task.payload, task.buffers)


atoms = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary()
)
values = st.recursive(
    atoms, lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(atoms, inner)
)


@given(values, st.booleans())
def test_what_is_read_is_what_was_packed(value: object, streamed: bool) -> None:
    assert across(PICKLE.pack(value, streamed)) == value


def test_a_small_value_is_plain_bytes() -> None:
    assert isinstance(PICKLE.pack((1, "two")), bytes)
    assert isinstance(PICKLE.pack((1, bytes(2 * LARGE))), bytes)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("writable", [False, True])
def test_a_large_buffer_travels_beside_the_stream(streamed: bool, writable: bool) -> None:
    data = bytearray(LARGE) if writable else bytes(LARGE)
    payload = PICKLE.pack([Array(data), Array(bytearray(LARGE - 1))], streamed)
    assert isinstance(payload, Packed)
    assert list(map(nbytes, payload.buffers)) == [LARGE]
    assert payload.buffers[0].obj is data  # type: ignore[union-attr]
    large, small = across(payload)
    assert large.data == data
    assert small.data == bytes(LARGE - 1)
    assert memoryview(large.data).readonly is not writable


@pytest.mark.parametrize("streamed", [False, True])
def test_small_buffers_stay_in_the_stream_and_are_pickled_once(streamed: bool) -> None:
    payload = PICKLE.pack([Array(b"ab")] * 3000, streamed)
    assert isinstance(payload, Packed) is streamed
    assert payload == payload if not isinstance(payload, Packed) else not payload.buffers
    assert [array.data for array in across(payload)] == [b"ab"] * 3000


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("make", [bytes, bytearray])
def test_more_buffers_than_a_frame_has_parts(streamed: bool, make: type) -> None:
    data = make(LARGE)
    payload = PICKLE.pack([Array(memoryview(data)) for _ in range(MAX_PARTS + 2)], streamed)
    assert isinstance(payload, Packed)
    assert len(payload.buffers) == MAX_PARTS
    assert payload_size(payload) >= (MAX_PARTS + 2) * LARGE
    buffers = [memoryview(buffer) for buffer in payload.buffers]
    value = PICKLE.unpack(b"".join(payload.stream), buffers)
    assert [nbytes(array.data) for array in value] == [LARGE] * (MAX_PARTS + 2)


def test_streamed_bytes_are_not_copied() -> None:
    blob = bytes(1 << 20)
    payload = PICKLE.pack(("a", blob, "b"), streamed=True)
    assert isinstance(payload, Packed)
    assert any(piece is blob for piece in payload.stream)
    assert across(payload) == ("a", blob, "b")


def test_streamed_memory_that_can_change_is_copied() -> None:
    area = bytearray(1 << 20)
    payload = PICKLE.pack(area, streamed=True)
    area[:] = b"x" * len(area)
    assert across(payload) == bytes(1 << 20)


def test_an_array_that_is_not_contiguous() -> None:
    view = memoryview(bytes(2 * LARGE))[::2]
    with pytest.raises(pickle.PicklingError, match="contiguous"):
        PICKLE.pack(Array(view))


def test_numpy_arrays() -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(100_000, dtype="f8").reshape(100, 1000)
    for value in (array, array.T, array[::2], array[:2, :2]):
        for streamed in (False, True):
            arrived = across(PICKLE.pack(value, streamed))
            assert (arrived == value).all()
            assert arrived.flags.writeable
    payload = PICKLE.pack(array)
    assert isinstance(payload, Packed)
    assert numpy.shares_memory(numpy.frombuffer(payload.buffers[0]), array)


@pytest.mark.parametrize("kind", PickleType)
def test_every_kind_packs_a_closure(kind: PickleType) -> None:
    pytest.importorskip("cloudpickle" if kind is PickleType.pickle else kind.name)
    chosen = serializer(kind)
    number = 5
    payload = chosen.pack(lambda: number + 1)
    assert across(payload, chosen)() == 6
    assert across(chosen.pack(bytes(LARGE), streamed=True), chosen) == bytes(LARGE)


@pytest.mark.parametrize(
    ("kind", "hint"),
    [(PickleType.dill, "pip install dill (or the extra"), (PickleType.cloudpickle, "pip install")],
)
def test_a_missing_serializer_says_what_to_install(
    kind: PickleType, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, kind.name, None)
    with pytest.raises(SerializerMissing) as info:
        serializer(kind)
    assert hint in str(info.value)
    assert kind.name in str(info.value)


class FakeSerializer(ModuleType):
    """Stands for a serializer that may not be installed where the tests run."""

    class Pickler(pickle.Pickler):
        """As cloudpickle's, but for what it does with functions."""

        dispatch_table: ClassVar[Any] = ChainMap(copyreg.dispatch_table)

    loads = staticmethod(pickle.loads)

    @staticmethod
    def dumps(value: object, protocol: int, recurse: bool = True, **more: Any) -> bytes:
        assert recurse
        return pickle.dumps(value, protocol, **more)


@pytest.mark.parametrize("kind", [PickleType.dill, PickleType.cloudpickle])
def test_how_serializers_are_called(kind: PickleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, kind.name, FakeSerializer(kind.name))
    chosen = serializer(kind)
    assert across(chosen.pack([1, 2]), chosen) == [1, 2]


class Refused:
    """Cannot be pickled."""

    error: BaseException = TypeError("not me")

    def __reduce__(self) -> str:
        raise self.error


@pytest.fixture
def cloudpickled(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The values that were left to cloudpickle, which packs them as 'by value'."""
    seen: list[object] = []

    class Cloudpickle(FakeSerializer):
        class Pickler(FakeSerializer.Pickler):
            def __init__(self, file: Any, *args: Any, **more: Any) -> None:
                self.file = file

            def dump(self, value: object) -> None:
                seen.append(value)
                self.file.write(pickle.dumps("by value", 5))

    monkeypatch.setitem(sys.modules, "cloudpickle", Cloudpickle("cloudpickle"))
    return seen


MAIN = "__main__"  # the pickle of a class names its module by such a string


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "value",
    [
        [MAIN, "f"],
        [MAIN, bytes(3 * LARGE)],
        [bytes(3 * LARGE), MAIN],
        [bytes(2 * LARGE), MAIN, bytes(2 * LARGE)],
        [*range(LARGE), MAIN, *range(LARGE)],
        ["x" * LARGE, bytearray(LARGE), *range(LARGE), MAIN, *range(LARGE)],
        [*range(LARGE), "__mp_main__", *range(LARGE)],
        [Array(bytes(LARGE)), MAIN],
        Refused(),
    ],
    ids=[
        "alone",
        "first",
        "last",
        "between large data",
        "in the middle",
        "after large data",
        "of multiprocessing",
        "beside a buffer",
        "refused",
    ],
)
def test_what_names_main_or_is_refused_goes_by_value(
    value: object, streamed: bool, cloudpickled: list[object]
) -> None:
    assert across(PICKLE.pack(value, streamed)) == "by value"
    assert cloudpickled == [value]


@pytest.mark.parametrize("name", ["f", "increment"])
def test_the_shortest_pickles_that_name_main_are_seen(
    name: str, monkeypatch: pytest.MonkeyPatch, cloudpickled: list[object]
) -> None:
    value = type(name, (), {"__module__": MAIN})
    monkeypatch.setattr(sys.modules[MAIN], name, value, raising=False)
    assert pickle.loads(pickle.dumps(value, 5)) is value
    assert across(PICKLE.pack(value)) == "by value"
    assert cloudpickled == [value]


@pytest.mark.parametrize("make", [bytes, bytearray, bytes.decode])
def test_large_data_is_not_searched(make: Any, cloudpickled: list[object]) -> None:
    large = make(bytes(LARGE) + MAIN.encode() + bytes(LARGE))
    value = [1, large, 2, [large, large], *range(LARGE)]
    assert across(PICKLE.pack(value)) == across(PICKLE.pack(value, streamed=True)) == value
    assert cloudpickled == []


@pytest.mark.parametrize("value", [1, bytes(3 * LARGE), "main", [1, "x" * 3 * LARGE, 2]])
def test_what_pickle_does_well_is_left_to_it(value: object, cloudpickled: list[object]) -> None:
    assert across(PICKLE.pack(value)) == across(PICKLE.pack(value, streamed=True)) == value
    assert cloudpickled == []


def test_without_cloudpickle_a_string_is_just_a_string(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    assert across(PICKLE.pack([MAIN, "f"])) == [MAIN, "f"]


def test_what_nobody_can_pickle_raises_the_first_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", FakeSerializer("cloudpickle"))
    with pytest.raises(TypeError, match="not me") as info:
        PICKLE.pack(Refused())
    assert info.value.__suppress_context__


@pytest.mark.parametrize("error", [RecursionError("deep"), MemoryError("full")])
def test_what_no_serializer_helps_against(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, cloudpickled: list[object]
) -> None:
    monkeypatch.setattr(Refused, "error", error)
    with pytest.raises(type(error)):
        PICKLE.pack(Refused())
    assert cloudpickled == []


@pytest.mark.parametrize("kind", PickleType)
def test_loads_is_unpack_without_buffers(kind: PickleType, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind is not PickleType.pickle:
        monkeypatch.setitem(sys.modules, kind.name, FakeSerializer(kind.name))
    assert serializer(kind).loads(memoryview(pickle.dumps([1, "a"], 5))) == [1, "a"]


def test_an_unknown_kind() -> None:
    with pytest.raises(ValueError, match="17"):
        serializer(17)  # type: ignore[arg-type]


# -- many values in one payload


class Odd(int):
    """A subclass: its pickling may fail."""


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ([], True),
        ([1, 2.0, 3j, "s", b"b", True, None, bytearray(b"x")], True),
        ([(1, [2]), {3}, frozenset({4})], True),
        ([[[1]]], True),
        ([[[[1]]]], True),
        ([[[[[1]]]]], False),
        ([Odd(1)], False),
        ([[Odd(1)]], False),
        ([{"a": 1}], False),
        ([object()], False),
    ],
)
def test_plain(value: list[object], plain: bool) -> None:
    assert is_plain(value) is plain
    assert is_plain(iter(value)) is plain


@given(st.lists(st.binary(max_size=20), max_size=20), st.data())
def test_separate_bodies(bodies: list[bytes], data: st.DataObject) -> None:
    indexes = st.integers(0, max(0, len(bodies) - 1))
    failed = data.draw(st.lists(indexes, unique=True, max_size=len(bodies)))
    read, failures = unpack_separate(pack_separate(bodies, failed))
    assert list(map(bytes, read)) == bodies
    assert failures == set(failed)


@given(st.binary(max_size=60))
def test_noise_is_a_value_error(noise: bytes) -> None:
    try:
        unpack_separate(noise)
    except ValueError:
        return


@given(st.lists(st.binary(max_size=5), min_size=1, max_size=5), st.integers(0, 1000))
def test_a_cut_chunk_is_a_value_error(bodies: list[bytes], cut: int) -> None:
    packed = pack_separate(bodies)
    with pytest.raises(ValueError, match="a chunk"):
        unpack_separate(packed[: cut % len(packed)])
    with pytest.raises(ValueError, match="do not add up"):
        unpack_separate(packed + b"x")


def test_a_hostile_count_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="a chunk"):
        unpack_separate(b"\xff" * 64)
