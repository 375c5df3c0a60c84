"""Polling: for answers that come soon, and not where it would cost anybody anything."""

import pytest

from pool_protocol.polling import Polling

US = 1000


def test_nothing_is_known_at_first() -> None:
    assert not Polling().worth()


@pytest.mark.parametrize(("last", "worth"), [(30 * US, True), (120 * US, True), (200 * US, False)])
def test_an_answer_that_came_soon_is_polled_for_again(last: int, worth: bool) -> None:
    polling = Polling()
    for _ in range(100):
        polling.answered(last)
        assert polling.worth() is worth


def test_each_answer_counts_anew() -> None:
    polling = Polling()
    for last in (1 * US, 10_000 * US, 1 * US):
        polling.answered(last)
        assert polling.worth() is (last == US)


def test_polling_in_vain_is_rare() -> None:
    """Where every answer would be soon enough, but none comes while it is polled for."""
    polling, polled = Polling(), 0
    for _ in range(330):
        polling.answered(150 * US)
        if polling.worth():
            polled += 1
            polling.in_vain()
    assert polled == 10


def test_a_core_that_others_want_is_left_to_them() -> None:
    polling = Polling()
    polling.answered(US)
    assert polling.worth()
    assert not polling.wanted(400)
    assert polling.worth()
    assert polling.wanted(30 * US)
    assert not any(polling.worth() for _ in range(32))
    assert polling.worth()
