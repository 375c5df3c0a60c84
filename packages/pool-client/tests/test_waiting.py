"""Waiting for a wake-up: in a thread, and on a loop."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import support

from pool_client.waiting import Bell, wait_on_loop


def test_a_bell_that_was_rung() -> None:
    """Ringing is remembered, once."""
    bell = Bell()
    bell.ring()
    bell.ring()
    bell.wait()
    begin = time.monotonic()
    bell.wait(0.05)
    assert time.monotonic() - begin >= 0.04


def test_a_bell_rung_by_another_thread() -> None:
    """A waiting thread is woken."""
    bell = Bell()
    timer = threading.Timer(0.05, bell.ring)
    timer.start()
    bell.wait()
    timer.join()


def test_a_signal_that_came_just_before_the_wait_is_seen() -> None:
    """As one that another thread has received, it does not end the wait for a lock by itself."""
    bell = Bell()
    with support.unnoticed_interrupt(), pytest.raises(KeyboardInterrupt):
        while True:
            bell.wait()


def test_nothing_to_wait_for() -> None:
    """If there is nothing to expect, it returns at once."""
    asyncio.run(wait_on_loop(lambda wake: False))


def test_woken_on_the_loop() -> None:
    """The wake-up may come from the loop, more than once."""

    async def main() -> None:
        def expect(wake: Callable[[], None]) -> bool:
            asyncio.get_running_loop().call_soon(wake)
            asyncio.get_running_loop().call_soon(wake)
            return True

        await wait_on_loop(expect)
        await asyncio.sleep(0)

    asyncio.run(main())


def test_woken_by_another_thread() -> None:
    """The wake-up may come from a thread."""
    timers = []

    def expect(wake: Callable[[], None]) -> bool:
        timers.append(threading.Timer(0.05, wake))
        timers[0].start()
        return True

    # The time is not the wait's own: at the end of that it returns as if it had been woken.
    asyncio.run(asyncio.wait_for(wait_on_loop(expect), 30))
    timers[0].join()


def test_woken_after_the_loop_closed() -> None:
    """A wake-up that comes when the loop is gone does nothing."""
    wakes = []

    def expect(wake: Callable[[], None]) -> bool:
        wakes.append(wake)
        return True

    asyncio.run(wait_on_loop(expect, 0.01))
    thread = threading.Thread(target=wakes[0])
    thread.start()
    thread.join()


def test_woken_by_time() -> None:
    """It waits no longer than told."""
    asyncio.run(wait_on_loop(lambda wake: True, 0.01))


def test_woken_in_its_thread_after_the_loop_closed() -> None:
    """The same where a finalizer in the thread of the loop wakes."""
    wakes = []

    def expect(wake: Callable[[], None]) -> bool:
        wakes.append(wake)
        return True

    waiting = wait_on_loop(expect)

    async def main() -> None:
        future: Any = waiting.send(None)
        future.add_done_callback(print)

    asyncio.run(main())
    wakes[0]()
    waiting.close()
