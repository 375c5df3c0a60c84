"""Serializers by name, and how values are packed into payloads.

Pickle protocol 5 throughout. Buffers that pickle hands out (PEP 574: NumPy arrays, bytearrays in
PickleBuffer, …) travel beside the stream without a copy once they are worth it. Many values can be
packed in one pickle only if none of them can fail on its own: see ``is_plain``.
"""

import pickle
import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, Protocol

from pool_protocol.by_value import dumps as dumps_by_value
from pool_protocol.by_value import pickler as pickler_by_value
from pool_protocol.choices import PickleType
from pool_protocol.errors import SerializerMissing
from pool_protocol.frames import LARGE, MAX_PARTS, Buffer, Packed, Payload

PROTOCOL = 5
#: The end of ``__main__`` and of ``__mp_main__``, the same in a child that multiprocessing spawns.
_MAIN = b"_main__"
#: Opcodes that a length follows: the bytes of it. Large bytes and text stand outside of frames.
_LENGTHS = {
    pickle.FRAME[0]: 8,
    pickle.BINBYTES[0]: 4,
    pickle.BINUNICODE[0]: 4,
    pickle.BINBYTES8[0]: 8,
    pickle.BINUNICODE8[0]: 8,
    pickle.BYTEARRAY8[0]: 8,
}
#: What stands outside of frames besides: the size of each, in bytes.
_SHORT = {pickle.PROTO[0]: 2, pickle.MEMOIZE[0]: 1}


class Serializer(Protocol):
    """Packs one value, and reads it back."""

    def pack(self, value: object, streamed: bool = False) -> Payload:
        """``streamed``: large bytes are expected, so do not copy them into one buffer."""

    def unpack(self, payload: Buffer, buffers: Sequence[Buffer] = ()) -> Any:
        """The value of a payload."""

    def loads(self, payload: Buffer, /) -> Any:
        """As `unpack`, for a payload without buffers; to be called a million times."""


class _Pieces:
    """A file for a pickler; large bytes objects come through without a copy."""

    def __init__(self) -> None:
        self.pieces: list[Buffer] = []

    def write(self, data: Any) -> int:
        # A PickleBuffer or memoryview may be released after the call; bytes cannot change.
        piece = data if type(data) is bytes else bytes(data)
        self.pieces.append(piece)
        return len(piece)


class _OutOfBand(list[memoryview]):
    """The buffers that travel beside the stream: called by the pickler with each it meets."""

    __slots__ = ()

    def __call__(self, buffer: pickle.PickleBuffer) -> bool:
        """True for a buffer that belongs into the stream."""
        raw = buffer.raw()
        if raw.nbytes < LARGE or len(self) == MAX_PARTS:
            return True
        self.append(raw)
        return False


class _Buffers:
    """A serializer with the interface of pickle: ``dumps``, ``loads``, ``Pickler``."""

    def __init__(
        self,
        dumps: Callable[..., bytes],
        pickler: Callable[..., Any],
        loads: Callable[..., Any] = pickle.loads,
    ) -> None:
        self._dumps = dumps
        self._pickler = pickler
        self.loads = loads

    def pack(self, value: object, streamed: bool = False) -> Payload:
        if not streamed:
            found = _OutOfBand()
            data = self._dumps(value, PROTOCOL, buffer_callback=found)
            return Packed([data], found) if found else data
        file, buffers = _Pieces(), _OutOfBand()
        self._pickler(file, PROTOCOL, buffer_callback=buffers).dump(value)
        return Packed(file.pieces, buffers)

    def unpack(self, payload: Buffer, buffers: Sequence[Buffer] = ()) -> Any:
        return self.loads(payload, buffers=buffers)


#: No pickle that names something of ``__main__`` is shorter, in bytes: version 2, frame 9, module
#: 11, name 4 (of one letter), what brings it 2, end 1. To search the small ones would be a quarter
#: of the cost of packing them.
_LEAST_MAIN = 29


class _Pickle(_Buffers):
    """pickle; cloudpickle takes over for what pickle would leave unreadable elsewhere.

    pickle names classes and functions by their module, and the other side's ``__main__`` is another
    program; cloudpickle sends those of ``__main__``, and local ones, by value.
    """

    def __init__(self) -> None:
        super().__init__(pickle.dumps, pickle.Pickler)

    def pack(self, value: object, streamed: bool = False) -> Payload:
        try:
            if not streamed:
                buffers = _OutOfBand()
                data = pickle.dumps(value, PROTOCOL, buffer_callback=buffers)
                size = len(data)
                # The usual case, written out: it runs for every task.
                if not buffers and (size < _LEAST_MAIN or (size <= LARGE and data.find(_MAIN) < 0)):
                    return data
                packed: Payload = Packed([data], buffers) if buffers else data
            else:
                packed = _Buffers.pack(self, value, True)
        except (RecursionError, MemoryError):
            raise
        except Exception as refusal:
            try:
                return self._by_value(value, streamed)
            except Exception:
                raise refusal from None
        if not _names_main(packed.stream if isinstance(packed, Packed) else [packed]):
            return packed
        try:
            return self._by_value(value, streamed)
        except Exception:
            return packed  # what names __main__ may be a mere string

    def _by_value(self, value: object, streamed: bool) -> Payload:
        return serializer(PickleType.cloudpickle).pack(value, streamed)


def _names_main(pieces: Iterable[Any]) -> bool:
    """Whether a pickle seems to name ``__main__``; large bytes and text in it are not searched."""
    at = 0
    for piece in pieces:
        while at < len(piece):
            start, end = _part(piece, at)
            if piece.find(_MAIN, start, end) >= 0:
                return True
            at = end
        at -= len(piece)  # large bytes may be a piece of their own
    return False


def _part(piece: Any, at: int) -> tuple[int, int]:
    """The part of a pickle that begins here: from where to search it, and its end."""
    code = piece[at]
    if code in _SHORT:
        end = at + _SHORT[code]
        return end, end
    if code not in _LENGTHS:  # too little for a frame
        return at, len(piece)
    start = at + 1 + _LENGTHS[code]
    end = start + int.from_bytes(piece[at + 1 : start], "little")
    return (start if code == pickle.FRAME[0] else end), end


class _Dill:
    """dill: no out-of-band buffers; ``recurse`` so that only globals that are used travel."""

    def __init__(self, dill: Any) -> None:
        self._dill = dill

    def pack(self, value: object, streamed: bool = False) -> Payload:
        data: bytes = self._dill.dumps(value, protocol=PROTOCOL, recurse=True)
        return data

    def unpack(self, payload: Buffer, buffers: Sequence[Buffer] = ()) -> Any:
        return self.loads(payload)

    def loads(self, payload: Buffer) -> Any:
        return self._dill.loads(bytes(payload))


def serializer(kind: PickleType) -> Serializer:
    """The serializer of a kind. Raises SerializerMissing, saying what to install."""
    kind = PickleType(kind)
    if kind is PickleType.pickle:
        return _Pickle()
    try:
        if kind is PickleType.dill:
            import dill

            return _Dill(dill)

        by_value = pickler_by_value()
    except ImportError as error:
        raise SerializerMissing(
            f"{kind.name} is not installed: pip install {kind.name}"
            + (" (or the extra 'dill' of this package)" if kind is PickleType.dill else "")
        ) from error
    return _Buffers(dumps_by_value, by_value)


# -- many values in one payload

#: Types of which every value can be pickled.
ATOMS = frozenset({int, float, complex, str, bytes, bool, type(None), bytearray})
_CONTAINERS = frozenset({tuple, list, set, frozenset})
_PLAIN_DEPTH = 4
_COUNTS = struct.Struct("<II")


def is_plain(values: Iterable[Any]) -> bool:
    """True if no value can fail to be pickled or unpickled: nothing but atoms, nested shallowly."""
    for _ in range(_PLAIN_DEPTH):
        values = list(values)
        types = set(map(type, values)) - ATOMS
        if not types:
            return True
        if not types <= _CONTAINERS:
            return False
        values = chain.from_iterable(v for v in values if type(v) in _CONTAINERS)
    return False


def pack_separate(bodies: Sequence[bytes], failed: Sequence[int] = ()) -> bytes:
    """Bodies that are read one by one; ``failed`` are the indexes of those that pack errors."""
    lengths = struct.pack(f"<{len(failed)}I{len(bodies)}Q", *failed, *map(len, bodies))
    return b"".join([_COUNTS.pack(len(bodies), len(failed)), lengths, *bodies])


def unpack_separate(payload: Buffer) -> tuple[list[memoryview], frozenset[int]]:
    """The bodies and the indexes of those that pack errors. Raises ValueError when cut short."""
    view = memoryview(payload)
    try:
        count, failures = _COUNTS.unpack_from(view)
        table = struct.Struct(f"<{failures}I{count}Q")
        numbers = table.unpack_from(view, _COUNTS.size)
    except struct.error as error:
        raise ValueError("a chunk is cut short") from error
    start = _COUNTS.size + table.size
    bodies = []
    for length in numbers[failures:]:
        bodies.append(view[start : start + length])
        start += length
    if start != len(view):
        raise ValueError("a chunk's parts do not add up to its size")
    return bodies, frozenset(numbers[:failures])
