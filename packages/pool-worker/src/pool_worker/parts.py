"""A chunk's result that is over ``max_message``, cut into parts that are not. Pure.

The limit is for what one call needs; how many calls share a message is the pool's affair. To run
them again in smaller chunks would be wrong: they have run.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from pool_protocol import Buffer
from pool_protocol.frames import HEADER_SIZE
from pool_protocol.parts import pack_part
from pool_protocol.serializers import pack_separate

#: What a part holds beside its bodies, in bytes, and for each of them.
_FRAME = HEADER_SIZE + len(pack_part(0, 0, pack_separate([])))
_EACH = len(pack_separate([b""], [0])) - len(pack_separate([]))


class Part(NamedTuple):
    """Some of a chunk's values, from item ``first`` on, packed one by one."""

    first: int
    payload: bytes


def cut(
    bodies: Sequence[Buffer],
    failed: Collection[int],
    limit: int,
    refuse: Callable[[int], bytes],
) -> list[Part]:
    """The parts of a chunk's result, each of which makes a frame of ``limit`` bytes at most.

    Args:
        bodies: The packed values, in order.
        failed: The indexes of those that pack errors.
        limit: The largest frame, in bytes.
        refuse: Packs the error in place of a value that needs a frame of so many bytes by itself.
    """
    parts: list[Part] = []
    taken: list[bytes] = []
    errors: list[int] = []
    size = _FRAME
    first = 0
    for index, body in enumerate(bodies):
        error = index in failed
        need = len(body) + _EACH
        if _FRAME + need > limit:
            body, error = refuse(_FRAME + need), True
            need = len(body) + _EACH
        if taken and size + need > limit:
            parts.append(Part(first, pack_separate(taken, errors)))
            taken, errors, size, first = [], [], _FRAME, index
        if error:
            errors.append(len(taken))
        taken.append(bytes(body))
        size += need
    parts.append(Part(first, pack_separate(taken, errors)))
    return parts
