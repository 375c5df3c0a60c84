"""Maps that were started and never looked at: run whole, at the latest at shutdown (PEP 3148)."""

import asyncio
from collections import deque
from threading import Lock

from pool_client.futures import let_go
from pool_client.mapping.feed import Feed
from pool_client.mapping.flow import Flow, Wake, wake_up
from pool_client.waiting import Bell, wait_on_loop


class Rest:
    """What is still to be read of one map, as long as its iterator was not advanced.

    It is in ``rests`` for as long as ``run`` has something to do.
    """

    def __init__(self, flow: Flow, feed: Feed, rests: "Rests") -> None:
        self._flow = flow
        self._feed = feed
        self._rests = rests
        self._lock = Lock()
        self._waiting: deque[Wake] = deque()
        self._over = False
        rests.add(self)

    def forget(self) -> bool:
        """The iterator is advanced or closed. False if it must wait: the rest is being read."""
        if not self._over and not self._flow.closed:
            if not self._lock.acquire(blocking=False):
                return False
            self._over = True
            self._release()
        self._rests.discard(self)
        return True

    def advance(self) -> None:
        """As forget, but waits."""
        while not self.forget():
            try:
                with self._lock:
                    pass
            finally:
                self._wake()  # whoever came meanwhile

    async def advance_async(self) -> None:
        """As advance, on a loop."""
        while not self.forget():
            await wait_on_loop(self._expect_release)

    def run(self) -> None:
        """Read and submit everything, in this thread. Does not wait for the last results."""
        bell = Bell()
        try:
            with self._lock:
                while self._read():
                    if self._expect_room(bell.ring):
                        let_go()
                        bell.wait()
        finally:
            self._wake()

    async def run_async(self) -> None:
        """As run, on the running loop."""
        while not self._lock.acquire(blocking=False):
            await wait_on_loop(self._expect_release)
        try:
            while self._read():
                await asyncio.sleep(0)  # there may be room for more slow inputs at once
                await wait_on_loop(self._expect_room)
        finally:
            self._release()

    def _read(self) -> bool:
        """Read what may be read now; whether there is more."""
        if not self._over:
            # Nobody takes results, so nothing is held back for their sake, nor for a time limit.
            self._flow.whole = True
            self._feed.fill()
            self._over = self._flow.ended or self._flow.closed
            if self._over:
                self._rests.discard(self)
        return not self._over

    def _expect_room(self, wake: Wake) -> bool:
        return not self._flow.quota() and self._flow.expect(wake, reads=True, takes=False)

    def _expect_release(self, wake: Wake) -> bool:
        self._waiting.append(wake)
        return self._lock.locked()

    def _release(self) -> None:
        self._lock.release()
        self._wake()

    def _wake(self) -> None:
        while wake_up(self._waiting):
            pass


#: The maps of a pool that are to be run whole at its shutdown.
Rests = set[Rest]
