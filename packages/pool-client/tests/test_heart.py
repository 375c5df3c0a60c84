"""Whether a host is still there: questions, answers, and a loop of our own that was asleep."""

import pytest

from pool_client.hosts.heart import INTERVAL, MISSES, Heart


def beats(heart, start, count, step=INTERVAL):
    """Beat so often; the results and the time after."""
    found = [heart.beat(start + index * step) for index in range(count)]
    return found, start + count * step


def test_a_host_that_answers_lives():
    heart = Heart()
    now = 100.0
    for number in range(1, 50):
        assert heart.beat(now)
        assert heart.number == number
        heart.heard()
        heart.answered(number, now + 0.02)
        assert abs(heart.round_trip - 0.02) < 1e-9
        now += INTERVAL


def test_a_silent_host_is_lost_after_some_questions():
    heart = Heart()
    found, _ = beats(heart, 0.0, MISSES + 1)
    assert found == [True] * MISSES + [False]
    assert heart.round_trip is None
    assert "4 missed" in repr(heart)


def test_a_sign_of_life_starts_the_count_anew():
    heart = Heart()
    found, now = beats(heart, 0.0, MISSES)
    assert all(found)
    heart.heard()
    found, _ = beats(heart, now, MISSES + 1)
    assert found == [True] * MISSES + [False]


def test_time_in_which_our_own_loop_slept_does_not_count():
    heart = Heart()
    found, now = beats(heart, 0.0, 50, step=INTERVAL * 2)
    assert all(found)
    found, _ = beats(heart, now - INTERVAL, MISSES)
    assert found == [True] * (MISSES - 1) + [False]


def test_a_little_late_is_in_time():
    found, _ = beats(Heart(), 0.0, MISSES + 1, step=INTERVAL * 1.4)
    assert found[-1] is False


def test_the_least_round_trip_is_forgotten_slowly():
    heart = Heart()
    assert heart.least == 0
    for taken in (0.05, 0.04, 0.4):
        heart.beat(100)
        heart.answered(heart.number, 100 + taken)
        heart.heard()
    assert heart.round_trip == pytest.approx(0.4)
    assert 0.04 < heart.least < 0.05
    for _ in range(100):
        heart.beat(100)
        heart.answered(heart.number, 100.4)
        heart.heard()
    assert heart.least == pytest.approx(0.4)


def test_an_answer_to_an_old_question_says_nothing_about_the_round_trip():
    heart = Heart()
    heart.beat(0.0)
    heart.beat(5.0)
    heart.answered(1, 5.1)
    assert heart.round_trip is None
    heart.answered(2, 5.1)
    assert abs(heart.round_trip - 0.1) < 1e-9
