"""Parts of a chunk's result, which is over ``max_message`` as a whole.

Each is a Result with the flag PART and the id 0; its payload opens with the chunk's id and the
index of its first item, and goes on with values that are packed one by one. The rest of the values
follow in the Result of the chunk's own id.
"""

import struct

from pool_protocol.frames import Buffer

_PART = struct.Struct("<QI")


def pack_part(id: int, first: int, separate: bytes) -> bytes:
    """Values of a chunk that come ahead of its result: of which dispatch, from which item on."""
    return _PART.pack(id, first) + separate


def unpack_part(payload: Buffer) -> tuple[int, int, memoryview]:
    """What `pack_part` was given. Raises ValueError when cut short."""
    view = memoryview(payload)
    try:
        id, first = _PART.unpack_from(view)
    except struct.error as error:
        raise ValueError("a part of a chunk is cut short") from error
    return id, first, view[_PART.size :]
