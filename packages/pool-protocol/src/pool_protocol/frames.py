"""Frames: what travels on every authenticated connection.

A frame is a header of 24 bytes and a payload:

    size u64 | kind u8 | flags u8 | parts u16 | aux u32 | id u64     little-endian

``size`` counts the bytes after the header. With ``parts`` = n > 0 the payload opens with
n + 1 lengths (u64 each): the pickle stream, then n out-of-band buffers, which follow in that order.

``FrameDecoder`` never copies a large payload: it hands out the memory into which the next bytes
belong (``get_buffer``), so the kernel writes into the final buffer. Memory for a large buffer is
reserved (``areas``), but the kernel commits it only as bytes arrive, whatever length a header
claims.
"""

import mmap
import struct
import sys
from collections.abc import Sequence
from typing import NamedTuple

from pool_protocol.areas import MAP_OPTIONS, Areas
from pool_protocol.errors import FrameTooLarge, LocalProtocolError, RemoteProtocolError

Buffer = bytes | bytearray | memoryview

HEADER = struct.Struct("<QBBHIQ")
HEADER_SIZE = HEADER.size
MAX_PARTS = 1024

#: Frames above this are received into memory of their own and sent without joining.
LARGE = 64 * 1024
_SMALL_BUFFER = 4 * LARGE


class Packed(NamedTuple):
    """A payload in pieces that are written one after the other without being joined.

    They are read when they are written, not before: nobody may change them until then.
    """

    stream: Sequence[Buffer]
    """The pickle stream, in pieces."""
    buffers: Sequence[Buffer] = ()
    """Out-of-band buffers (PEP 574)."""


#: What a sender gives: a small payload is plain bytes.
Payload = bytes | Packed


#: A received frame: kind, flags, aux, id, payload, buffers. A plain tuple, for there are hundreds
#: of thousands a second; `messages` gives them names. Their memory belongs to the receiver.
Frame = tuple[int, int, int, int, Buffer, Sequence[Buffer]]


def encode(
    kind: int, flags: int, aux: int, id: int, payload: Payload, limit: int | None = None
) -> list[Buffer]:
    """The buffers of one frame, in the order in which they are written.

    Raises FrameTooLarge when the frame is over ``limit`` bytes, its header included.
    """
    if type(payload) is bytes:
        size = len(payload)
        if limit is not None and size + HEADER_SIZE > limit:
            raise FrameTooLarge(too_large(size + HEADER_SIZE, limit))
        header = HEADER.pack(size, kind, flags, 0, aux, id)
        return [header, payload] if size > LARGE else [header + payload]
    assert isinstance(payload, Packed)
    lengths = [sum(map(nbytes, payload.stream)), *map(nbytes, payload.buffers)]
    parts = len(payload.buffers)
    if parts > MAX_PARTS:
        raise LocalProtocolError(f"a payload of {parts} buffers; at most {MAX_PARTS} can be sent")
    table = struct.pack(f"<{len(lengths)}Q", *lengths) if parts else b""
    size = len(table) + sum(lengths)
    if limit is not None and size + HEADER_SIZE > limit:
        raise FrameTooLarge(too_large(size + HEADER_SIZE, limit))
    header = HEADER.pack(size, kind, flags, parts, aux, id)
    return [header + table, *payload.stream, *payload.buffers]


def largest_joined(limit: int | None) -> int:
    """The size of payload up to which frames are joined and received together."""
    return LARGE if limit is None else min(LARGE, limit - HEADER_SIZE)


def too_large(size: int, limit: int) -> str:
    """What is wrong with a frame of ``size`` bytes where ``limit`` is the most."""
    return (
        f"a message of {size:,} bytes is over the limit of {limit:,} bytes; "
        "raise max_message, or send less at once"
    )


def nbytes(buffer: Buffer) -> int:
    """The length of a buffer in bytes, whatever its item size."""
    return buffer.nbytes if isinstance(buffer, memoryview) else len(buffer)


def payload_size(payload: Payload) -> int:
    """The length of a payload in its frame, in bytes: the table of its parts' lengths included.

    With the header's it is what a limit is for: what passes here is not refused when it is sent.
    """
    if type(payload) is bytes:
        return len(payload)
    assert isinstance(payload, Packed)
    table = 8 * (len(payload.buffers) + 1) if payload.buffers else 0
    return table + sum(map(nbytes, payload.stream)) + sum(map(nbytes, payload.buffers))


class _LargeFrame:
    """A frame under reception whose parts lie in memory of their own.

    A part's memory is reserved when the part before it is complete, so a header that lies about
    its parts costs one part at most.
    """

    def __init__(self, header: tuple[int, int, int, int, int, int], memory: Areas) -> None:
        self._memory = memory
        self._size, self._kind, self._flags, parts, self._aux, self._id = header
        self._table: memoryview | None = None
        self._lengths: list[int] = []
        self._areas: list[memoryview] = []
        if parts:
            self._table = self._hole = memoryview(bytearray(8 * (parts + 1)))
        else:
            self._hole = self._memory.reserve(self._size)
            self._areas.append(self._hole)

    def hole(self) -> memoryview:
        """Where the next bytes belong; never empty."""
        return self._hole

    def filled(self, count: int) -> bool:
        """``count`` bytes were written into the hole; True once the frame is whole."""
        rest = self._hole[count:]
        if len(rest):
            self._hole = rest
            return False
        if self._table is not None:
            self._read_table(self._table)
            self._table = None
        while self._lengths:
            area = self._memory.reserve(self._lengths.pop())
            self._areas.append(area)
            if len(area):
                self._hole = area
                return False
        return True

    def _read_table(self, table: memoryview) -> None:
        lengths = struct.unpack(f"<{len(table) // 8}Q", table)
        if len(table) + sum(lengths) != self._size:
            raise RemoteProtocolError("the parts of a frame do not add up to its size")
        self._lengths = list(reversed(lengths))

    def frame(self) -> Frame:
        """The frame, once it is whole."""
        return self._kind, self._flags, self._aux, self._id, self._areas[0], self._areas[1:]


class FrameDecoder:
    """Turns received bytes into frames.

    Use: receive into ``get_buffer()``, then call ``received(count)``; it returns the frames that
    are complete. ``limit`` is the largest frame that is accepted, in bytes; None for no limit.
    ``memory`` is where large parts go.
    """

    def __init__(self, limit: int | None = None, memory: Areas | None = None) -> None:
        self._limit = limit
        self.memory = Areas(0) if memory is None else memory
        self._joined = largest_joined(limit)
        # Mapped, so that a connection on which little comes in commits little memory.
        self._small = mmap.mmap(-1, _SMALL_BUFFER, **MAP_OPTIONS)
        self._view = memoryview(self._small)
        self._end = 0
        #: No frame is complete before the small buffer holds this much.
        self._need = HEADER_SIZE
        self._large: _LargeFrame | None = None

    @property
    def partial(self) -> bool:
        """True in the middle of a frame: an end of file now has cut one off."""
        return self._end > 0 or self._large is not None

    def drop(self) -> None:
        """Nothing more will come: let go of a large frame that was cut off."""
        self._large = None

    def get_buffer(self) -> memoryview:
        """The memory into which the next bytes belong; never empty."""
        if self._large is not None:
            return self._large.hole()
        return self._view[self._end :] if self._end else self._view

    def received(self, count: int) -> list[Frame]:
        """``count`` bytes were written to the start of ``get_buffer()``.

        Raises RemoteProtocolError for a frame that cannot be or is over the limit; the connection
        must be closed then.
        """
        if self._large is not None:
            if not self._large.filled(count):
                return []
            frame = self._large.frame()
            self._large = None
            return [frame]
        end = self._end + count
        if end < self._need:
            self._end = end
            return []
        return self._parse(end)

    def _parse(self, end: int) -> list[Frame]:
        frames: list[Frame] = []
        small, joined, unpack = self._small, self._joined, HEADER.unpack_from
        start = 0
        body = need = HEADER_SIZE
        while body <= end:
            size, kind, flags, parts, aux, id = unpack(small, start)
            stop = body + size
            if size > joined or parts:
                self._check(size, parts)
                large = _LargeFrame((size, kind, flags, parts, aux, id), self.memory)
                start, whole = self._move(large, body, end)
                if not whole:
                    self._large = large
                    break
                frames.append(large.frame())
            elif stop > end:
                need = stop - start
                break
            else:
                frames.append((kind, flags, aux, id, small[body:stop], ()))
                start = stop
            body = start + HEADER_SIZE
        # What is left is the beginning of a small frame: move it to the front.
        rest = end - start
        if start and rest:
            self._view[:rest] = self._view[start:end]
        self._end, self._need = rest, need
        return frames

    def _check(self, size: int, parts: int) -> None:
        if self._limit is not None and size + HEADER_SIZE > self._limit:
            raise RemoteProtocolError(too_large(size + HEADER_SIZE, self._limit))
        if size > sys.maxsize:
            raise RemoteProtocolError(f"a frame claims {size:,} bytes")
        if parts > MAX_PARTS or (parts and size < 8 * (parts + 1)):
            raise RemoteProtocolError(f"a frame claims {parts} parts in {size} bytes")

    def _move(self, large: _LargeFrame, start: int, end: int) -> tuple[int, bool]:
        """Copy what has arrived of a large frame into its own memory."""
        while start < end:
            hole = large.hole()
            count = min(len(hole), end - start)
            hole[:count] = self._view[start : start + count]
            start += count
            if large.filled(count):
                return start, True
        return start, False
