"""pool_worker.signals: signals as events."""

import os
import selectors
import signal

from driver import PATIENCE

from pool_worker.signals import Signals


def wait(selector: selectors.BaseSelector) -> None:
    for key, events in selector.select(PATIENCE):
        key.data(events)


def test_they_are_told_and_given_back() -> None:
    came: list[bytes] = []
    before = signal.getsignal(signal.SIGUSR1)
    with selectors.DefaultSelector() as selector:
        caught = Signals(selector, [signal.SIGUSR1, signal.SIGUSR2], came.append)
        assert str(int(signal.SIGUSR1)) in repr(caught)
        os.kill(os.getpid(), signal.SIGUSR1)
        wait(selector)
        assert came == [bytes([signal.SIGUSR1])]
        caught.look()
        os.kill(os.getpid(), signal.SIGUSR2)
        caught.close()
        assert came == [bytes([signal.SIGUSR1]), bytes([signal.SIGUSR2])]
        assert not selector.get_map()
    assert signal.getsignal(signal.SIGUSR1) == before
    assert signal.set_wakeup_fd(-1) == -1


def test_none_is_lost_in_a_flood() -> None:
    """As when a thousand workers end before anybody looks."""
    came: list[bytes] = []
    with selectors.DefaultSelector() as selector:
        caught = Signals(selector, [signal.SIGUSR1, signal.SIGUSR2], came.append)
        for _ in range(5000):
            signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR2)
        wait(selector)
        assert set(b"".join(came)) == {signal.SIGUSR1, signal.SIGUSR2}
        del came[:]
        caught.close()
    assert came == []


def test_a_mask_that_was_inherited() -> None:
    came: list[bytes] = []
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    with selectors.DefaultSelector() as selector:
        caught = Signals(selector, [signal.SIGUSR1], came.append)
        signal.raise_signal(signal.SIGUSR1)
        wait(selector)
        caught.close()
    assert came == [bytes([signal.SIGUSR1])]
