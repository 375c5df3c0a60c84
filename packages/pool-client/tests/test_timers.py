"""Timers that end together."""

import asyncio

from pool_client.hosts.timers import Timers


def test_what_is_due_is_called_and_what_was_stopped_is_not() -> None:
    """After the stop nothing is called, and nothing can be added."""

    async def main() -> list[object]:
        called: list[object] = []
        timers = Timers(asyncio.get_running_loop())
        timers.later(0.0, called.append, "first")
        # Comes before the next one, even in a loop that finds both due.
        timers.later(0.01, timers.stop)
        timers.later(0.02, called.append, "never")
        await asyncio.sleep(0.05)
        timers.later(0.0, called.append, "nor this")
        timers.stop()
        await asyncio.sleep(0.01)
        assert not timers._handles
        return called

    assert asyncio.run(main()) == ["first"]


def test_what_was_called_is_forgotten() -> None:
    """A timer that adds another one does not pile them up."""

    async def main() -> None:
        timers = Timers(asyncio.get_running_loop())
        done = asyncio.Event()

        def again(count: int) -> None:
            if count:
                timers.later(0.0, again, count - 1)
            else:
                done.set()

        again(20)
        await asyncio.wait_for(done.wait(), 30)
        assert not timers._handles

    asyncio.run(main())
