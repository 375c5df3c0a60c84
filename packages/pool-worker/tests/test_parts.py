"""pool_worker.parts: what is too large together travels in parts; without I/O."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_protocol.frames import encode
from pool_protocol.messages import RESULT
from pool_protocol.parts import pack_part
from pool_protocol.serializers import unpack_separate
from pool_worker.parts import Part, cut

LIMIT = 1000
REFUSED = b"refused"


def read(bodies: Sequence[bytes], failed: Sequence[int] = (), limit: int = LIMIT) -> list[Part]:
    """Cut, see that each part fits and begins where it says, and that all is there in order."""
    sizes: list[int] = []

    def refuse(size: int) -> bytes:
        sizes.append(size)
        return REFUSED

    parts = cut(bodies, failed, limit, refuse)
    found: list[bytes] = []
    errors: set[int] = set()
    for part in parts:
        encode(RESULT, 0, 0, 0, pack_part(7, *part), limit)
        assert part.first == len(found)
        values, wrong = unpack_separate(part.payload)
        assert values
        errors |= {len(found) + index for index in wrong}
        found += map(bytes, values)
    refused = [index for index, body in enumerate(found) if body != bodies[index]]
    assert all(found[index] == REFUSED for index in refused)
    assert len(found) == len(bodies)
    assert errors == {*failed, *refused}
    assert len(sizes) == len(refused)
    assert all(size > limit for size in sizes)
    return parts


@given(st.data())
def test_any_values_are_all_there(data: st.DataObject) -> None:
    sizes = st.sampled_from([0, 1, 10, 300, 900, 930, 944, 945, 1000, 5000])
    bodies = [b"x" * size for size in data.draw(st.lists(sizes, min_size=1, max_size=12))]
    indexes = st.integers(0, len(bodies) - 1)
    read(bodies, data.draw(st.lists(indexes, unique=True, max_size=len(bodies))))


def test_as_few_parts_as_can_be() -> None:
    assert len(read([b"x" * 100] * 8)) == 1
    assert [part.first for part in read([b"x" * 300] * 7)] == [0, 3, 6]


@pytest.mark.parametrize("failed", [[], [1]])
def test_one_that_is_too_large_alone_takes_nobody_with_it(failed: list[int]) -> None:
    assert len(read([b"a", b"x" * LIMIT, b"b"], failed)) == 1
