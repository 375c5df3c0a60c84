"""pool_protocol.parts: what is too large together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_protocol.parts import pack_part, unpack_part


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.binary(max_size=20))
def test_parts_of_a_chunk_say_whose_they_are(id: int, first: int, values: bytes) -> None:
    packed = pack_part(id, first, values)
    assert unpack_part(packed) == (id, first, values)
    with pytest.raises(ValueError, match="a part of a chunk is cut short"):
        unpack_part(packed[:11])
