"""Areas: memory is used again once nobody looks at it, and given back when it is not needed."""

import mmap

import pytest

from pool_protocol import areas
from pool_protocol.areas import MAPPED, Areas, mapped
from pool_protocol.errors import RemoteProtocolError

MIB = 1024 * 1024


def owner(view: memoryview) -> object:
    return view.obj


def test_small_memory_is_the_allocators() -> None:
    memory = Areas()
    assert isinstance(memory.reserve(MAPPED - 1).obj, bytearray)
    assert not memory.kept


def test_what_is_free_is_used_again() -> None:
    memory = Areas()
    first = memory.reserve(8 * MIB)
    first[:3] = b"abc"
    area = owner(first)
    assert isinstance(area, mmap.mmap)
    del first
    again = memory.reserve(5 * MIB)
    assert owner(again) is area
    assert len(again) == 5 * MIB
    assert not again.readonly


def test_what_is_looked_at_is_left_alone() -> None:
    memory = Areas()
    first = memory.reserve(8 * MIB)
    part = first[100:200]
    number = first[:8].cast("Q")
    del first
    second = memory.reserve(8 * MIB)
    assert owner(second) is not owner(part)
    del part
    assert owner(memory.reserve(8 * MIB)) not in (owner(number), owner(second))
    area = owner(number)
    del number
    assert owner(memory.reserve(8 * MIB)) is area


@pytest.mark.parametrize(("before", "size"), [(8, 9), (16, 7)])
def test_sizes_that_do_not_fit(before: int, size: int) -> None:
    memory = Areas()
    area = owner(memory.reserve(before * MIB))
    assert owner(memory.reserve(size * MIB)) is not area
    assert len(memory.kept) == 2


def test_areas_are_whole_huge_pages() -> None:
    memory = Areas()
    area = owner(memory.reserve(8 * MIB - 5))
    assert owner(memory.reserve(8 * MIB)) is area


def test_no_more_is_kept_than_allowed() -> None:
    memory = Areas(20 * MIB)
    first = memory.reserve(8 * MIB)
    memory.reserve(12 * MIB)
    assert len(memory.kept) == 2
    third = memory.reserve(5 * MIB)  # the second would be too large for it
    assert [len(area.map) for area in memory.kept] == [12 * MIB, 6 * MIB]
    first[:] = third[:1].tobytes() * len(first)  # it is still the user's
    assert repr(memory) == "<Areas [12582912, 6291456]>"


def test_the_one_that_was_used_last_is_kept() -> None:
    memory = Areas(20 * MIB)
    first = owner(memory.reserve(8 * MIB))
    memory.reserve(12 * MIB)
    view = memory.reserve(8 * MIB)
    assert owner(view) is first
    memory.reserve(5 * MIB)
    assert [len(area.map) for area in memory.kept] == [8 * MIB, 6 * MIB]


def test_no_more_areas_than_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(areas, "_COUNT", 2)
    memory = Areas()
    views = [memory.reserve(4 * MIB) for _ in range(3)]
    assert [area.map for area in memory.kept] == [owner(view) for view in views[1:]]


def test_what_is_too_large_is_not_kept() -> None:
    memory = Areas(8 * MIB)
    assert len(memory.reserve(8 * MIB + 1)) == 8 * MIB + 1
    assert not memory.kept


def test_a_size_at_the_limit_is_not_kept_beyond_it() -> None:
    """Rounded up, it is over the limit: it is handed out and forgotten."""
    memory = Areas(7 * MIB)
    assert len(memory.reserve(7 * MIB)) == 7 * MIB
    assert not memory.kept


def test_tidy_gives_back_what_was_not_used_lately() -> None:
    memory = Areas()
    area = owner(memory.reserve(8 * MIB))
    view = memory.reserve(16 * MIB)
    assert memory.tidy()
    assert owner(memory.reserve(8 * MIB)) is area
    del area
    assert memory.tidy()
    assert [len(area.map) for area in memory.kept] == [8 * MIB]
    assert not memory.tidy()
    assert not memory.kept
    view[:2] = b"ok"


def test_a_system_that_cannot_tell_uses_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Map(mmap.mmap):
        def resize(self, newsize: int) -> None:
            raise SystemError("mmap: resizing not available--no mremap()")

    monkeypatch.setattr(mmap, "mmap", Map)
    memory = Areas()
    area = owner(memory.reserve(8 * MIB))
    assert owner(memory.reserve(8 * MIB)) is not area


def test_without_huge_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    assert len(mapped(5 * MIB)) == 5 * MIB


def test_with_a_kernel_that_refuses_huge_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 9999, raising=False)
    assert len(mapped(5 * MIB)) == 5 * MIB


@pytest.mark.parametrize("size", [1 << 62, 1 << 80])
def test_memory_that_is_not_there(size: int) -> None:
    with pytest.raises(RemoteProtocolError, match="no memory"):
        Areas().reserve(size)
