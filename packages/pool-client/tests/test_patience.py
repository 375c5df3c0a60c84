"""Time that others are given, on a clock of the test's own."""

import pytest

from pool_client.patience import Patience


class Clock:
    now = 5000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_time_passes_from_look_to_look(clock):
    patience = Patience(1.0, clock)
    assert not patience.over()
    for _ in range(3):
        clock.now += 0.25
        assert not patience.over()
    assert repr(patience) == "<Patience 0.25 s>"
    clock.now += 0.25
    assert patience.over()
    assert patience.over(), "and for good"


def test_a_standstill_is_one_look(clock):
    patience = Patience(1.25, clock)
    clock.now += 3600
    assert not patience.over()
    clock.now += 3600
    assert not patience.over()
    clock.now += 0.25
    assert patience.over()


def test_without_any_it_is_over_at_once(clock):
    assert Patience(0.0, clock).over()


def test_by_default_it_is_the_real_time():
    patience = Patience(0.001)
    while not patience.over():
        pass
