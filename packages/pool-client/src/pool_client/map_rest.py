"""Maps that were started and never looked at: they are run whole, at the latest at shutdown (PEP 3148)."""

import asyncio
from threading import Lock

from pool_client.mapping.feed import Feed
from pool_client.mapping.flow import Flow, Wake
from pool_client.waiting import Bell, wait_on_loop

#: Seconds between two looks at whether a shutdown has read the rest.
_LOOK = 0.005


class Rest:
    """What is still to be read of one map, as long as its iterator was not advanced."""

    def __init__(self, flow: Flow, feed: Feed, rests: "Rests") -> None:
        self._flow = flow
        self._feed = feed
        self._rests = rests
        self._lock = Lock()
        self._over = False
        rests.add(self)

    def forget(self) -> bool:
        """The iterator is advanced or closed. False if it must wait: the rest is being read."""
        if not self._over:
            if not self._lock.acquire(blocking=False):
                return False
            self._over = True
            self._lock.release()
        self._rests.discard(self)
        return True

    def advance(self) -> None:
        """As forget, but waits."""
        while not self.forget():
            with self._lock:
                pass

    async def advance_async(self) -> None:
        """As advance, on a loop."""
        while not self.forget():
            await asyncio.sleep(_LOOK)

    def run(self) -> None:
        """Read and submit everything, in this thread. Does not wait for the last results."""
        bell = Bell()
        with self._lock:
            while self._read():
                if self._flow.expect(bell.ring, reads=True, takes=False):
                    bell.wait()

    async def run_async(self) -> None:
        """As run, on the running loop."""
        while not self._lock.acquire(blocking=False):
            await asyncio.sleep(_LOOK)
        try:
            while self._read():
                await wait_on_loop(self._expect)
        finally:
            self._lock.release()

    def _expect(self, wake: Wake) -> bool:
        return self._flow.expect(wake, reads=True, takes=False)

    def _read(self) -> bool:
        """Read what may be read now; whether there is more."""
        if self._over:
            return False
        flow = self._flow
        flow.whole = True
        self._feed.fill()
        self._over = flow.ended or flow.closed
        if self._over:
            self._rests.discard(self)
        return not self._over


#: The maps of a pool that are to be run whole at its shutdown.
Rests = set[Rest]
