"""pool_worker.page: the words and the area, from both sides."""

from collections.abc import Iterator

import pytest

from pool_worker.page import (
    AREA,
    DONE,
    END,
    ITEM,
    LIMIT_NS,
    SIZE,
    SKIP_FROM,
    SKIP_TO,
    START_NS,
    STARTED,
    Page,
    Pages,
    Words,
)


@pytest.fixture
def pages() -> Iterator[Pages]:
    pages = Pages()
    yield pages
    pages.close()


def words(**values: int) -> Words:
    return Words._make([0] * 8)._replace(**values)


def test_both_sides_see_the_same(pages: Pages) -> None:
    slots = [pages.take(), pages.take()]
    page = Page(pages.fd, slots[1])
    for index in (STARTED, ITEM, START_NS, LIMIT_NS, DONE):
        page.words[index] = 100 + index
    page.map[AREA : AREA + 5] = b"frame"
    page.words[END] = AREA + 5
    pages.mark(slots[1], 1, 2**63)
    seen = pages.read(slots[1])
    assert seen == (100, 101, 102, 103, 1, 2**63, 106, AREA + 5)
    assert (page.words[SKIP_FROM], page.words[SKIP_TO]) == (1, 2**63)
    assert pages.gathered(slots[1], seen) == b"frame"
    assert pages.read(slots[0]) == words()
    assert pages.gathered(slots[0], words()) == b""


def test_a_slot_is_clean_when_it_is_used_again(pages: Pages) -> None:
    slot = pages.take()
    Page(pages.fd, slot).words[STARTED] = 5
    pages.give_back(slot)
    assert pages.take() == slot
    assert pages.read(slot) == words()
    assert pages.take() != slot


def test_a_nonsensical_end_does_no_harm(pages: Pages) -> None:
    slot = pages.take()
    assert len(pages.gathered(slot, words(end=2**63))) == SIZE - AREA
    assert pages.gathered(slot, words(end=3)) == b""


@pytest.mark.parametrize(
    ("seen", "running", "last_started"),
    [
        (words(), 0, 0),
        (words(started=5), 5, 5),
        (words(started=5, done=5), 0, 5),
        (words(started=6, done=5), 6, 6),
        # 6 was taken back while 5 ran; the worker has just stepped on it.
        (words(started=6, skip_from=5, skip_to=9), 0, 5),
        (words(started=5, skip_from=5, skip_to=9), 5, 5),
        (words(started=10, skip_from=5, skip_to=9), 10, 10),
        (words(skip_from=0, skip_to=9), 0, 0),
    ],
)
def test_blame(seen: Words, running: int, last_started: int) -> None:
    assert seen.running == running
    assert seen.last_started == last_started


def test_overdue() -> None:
    assert not words(start_ns=0).overdue(10**18)
    assert not words(start_ns=100, limit_ns=50).overdue(150)
    assert words(start_ns=100, limit_ns=50).overdue(151)


def test_without_memfd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.memfd_create", raising=False)
    pages = Pages()
    page = Page(pages.fd, pages.take())
    page.words[STARTED] = 3
    assert pages.read(0).started == 3
    pages.close()
