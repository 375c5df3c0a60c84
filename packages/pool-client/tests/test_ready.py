"""pool.ready: waited for by any loop and any thread."""

import asyncio
import threading

import pytest

from pool_client.ready import Ready


@pytest.fixture
def ready():
    return Ready()


def test_it_is_set_and_cleared(ready):
    assert not ready.is_set()
    assert repr(ready) == "<Ready unset>"
    ready.set()
    ready.set()
    assert ready.is_set()
    assert repr(ready) == "<Ready set>"
    ready.clear()
    assert not ready.is_set()


def test_waiting_for_what_is_there_takes_no_time(ready):
    ready.set()
    assert asyncio.run(ready.wait()) is True


def test_waiters_on_several_loops_are_woken_from_a_thread(ready):
    waiting = threading.Barrier(4)
    results = []

    async def wait_twice():
        both = [asyncio.create_task(ready.wait()) for _ in range(2)]
        await asyncio.sleep(0)
        await asyncio.to_thread(waiting.wait, 30)
        return await asyncio.wait_for(asyncio.gather(*both), 20)

    threads = [
        threading.Thread(target=lambda: results.append(asyncio.run(wait_twice()))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    waiting.wait(30)
    assert not results
    ready.set()
    for thread in threads:
        thread.join(30)
    assert results == [[True, True]] * 3


def test_a_waiter_that_gave_up_is_passed_over(ready):
    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ready.wait(), 0.001)
        assert not ready._waiters, "who asks again and again leaves nothing behind"
        other = asyncio.create_task(ready.wait())
        await asyncio.sleep(0)
        ready.set()
        assert await asyncio.wait_for(other, 20)

    asyncio.run(main())


def test_a_loop_that_is_closed_is_passed_over(ready):
    loop = asyncio.new_event_loop()
    task = loop.create_task(ready.wait())
    loop.run_until_complete(asyncio.sleep(0))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
    ready.set()
    assert ready.is_set()


def test_after_a_replacement_it_can_be_waited_for_again(ready):
    async def main():
        for _ in range(3):
            ready.clear()
            task = asyncio.create_task(ready.wait())
            await asyncio.sleep(0)
            assert not task.done()
            ready.set()
            assert await asyncio.wait_for(task, 20)

    asyncio.run(main())


def test_setting_and_waiting_at_the_same_moment():
    async def main():
        for _ in range(200):
            ready = Ready()
            thread = threading.Thread(target=ready.set)
            thread.start()
            assert await asyncio.wait_for(ready.wait(), 20)
            thread.join()

    asyncio.run(main())


def test_who_waits_for_what_will_never_be_is_told_why(ready):
    async def main():
        waiter = asyncio.create_task(ready.wait())
        cancelled = asyncio.create_task(ready.wait())
        await asyncio.sleep(0)
        cancelled.cancel()
        ready.give_up(ValueError("no host"))
        with pytest.raises(ValueError, match="no host"):
            await asyncio.wait_for(waiter, 20)

    ready.set()
    ready.clear()
    asyncio.run(main())
    ready.give_up(RuntimeError("it was shut down"))
    with pytest.raises(ValueError, match="no host"):
        asyncio.run(ready.wait())
    assert not ready.is_set()
