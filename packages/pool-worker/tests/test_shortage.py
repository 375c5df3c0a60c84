"""pool_worker.shortage: no memory to send with, for a moment or for good."""

import errno

import pytest

from pool_worker import shortage
from pool_worker.shortage import Shortage

SHORT = OSError(errno.ENOBUFS, "no buffer space")


class Clock:
    """In the place of the module ``time``."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(shortage, "time", clock)
    return clock


@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.ENOMEM])
def test_it_is_waited_for(clock: Clock, number: int) -> None:
    Shortage().wait(OSError(number, "none"))
    assert clock.now > 1000


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ECONNRESET, None])
def test_another_error_is_not(clock: Clock, number: int | None) -> None:
    with pytest.raises(OSError) as caught:
        Shortage().wait(OSError(number, "gone"))
    assert caught.value.errno == number and clock.now == 1000


def test_for_good(clock: Clock) -> None:
    short = Shortage()
    with pytest.raises(OSError) as caught:
        while clock.now < 2000:
            short.wait(SHORT)
    assert caught.value is SHORT
    assert 1009 < clock.now < 1011


def test_each_time_counts_anew(clock: Clock) -> None:
    short = Shortage()
    while clock.now < 1100:
        short.wait(SHORT)
        clock.now += 5
        short.over()
