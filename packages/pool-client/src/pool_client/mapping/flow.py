"""The state of one map.

Threads: one *reader* at a time reads inputs and submits chunks, one *taker* at a time takes what
was delivered (for sync inputs they are the same), deliveries come from any thread, and a finalizer
may close the map in the middle of any of them. So there are no locks here: every counter has one
writer, and the rest are single operations on deques and sets, which are atomic.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from pool_client.mapping.chunking import DEPTH, TARGET, Policy
from pool_client.mapping.seam import ChunkHandle, Chunks, Delivery

Wake = Callable[[], None]


def wake_up(waiting: deque[Wake]) -> bool:
    """Wake one of those that wait, from any thread; False: nobody does.

    Whoever takes a wake-up out calls it. So of two that come at once, neither can remove the
    wake-up of a waiter that the other has woken and that waits again by now.
    """
    try:
        wake = waiting.pop()
    except IndexError:
        return False
    wake()
    return True


class Part:
    """A chunk that was submitted."""

    __slots__ = ("count", "delivery", "flow", "handle")

    def __init__(self, flow: "Flow", count: int) -> None:
        self.flow = flow
        self.count = count
        self.delivery: Delivery | None = None
        self.handle: ChunkHandle | None = None

    def done(self, delivery: Delivery) -> None:
        """The chunk is finished. Called by the engine, from any thread."""
        flow = self.flow
        self.delivery = delivery
        self.handle = None  # which refers to this part: no circle
        if flow.closed:
            return
        if not flow.ordered and not flow.abandoned:
            flow.ready.append(self)
        flow.arrived.append(self)
        if flow.wake_taker and flow.worth_waking(self):
            wake_up(flow.wake_taker)
        if flow.wake_reader:
            wake_up(flow.wake_reader)

    def cancel(self) -> None:
        """Withdraw the chunk, if it was not sent."""
        if (handle := self.handle) is not None:
            self.handle = None
            handle.cancel()


class Flow:
    """What was read, what is out, what can be taken.

    ``length`` is the number of items in all, where it is known. ``error`` is what ends the map
    after the results of everything that was read. ``whole``: whatever is not taken, read on.
    ``expired``: read no more.
    """

    def __init__(
        self, chunks: Chunks, policy: Policy, ordered: bool = True, length: int | None = None
    ) -> None:
        self._chunks = chunks
        self.policy = policy
        self.ordered = ordered
        self._length = length
        self.parts: deque[Part] = deque()
        self._loose: set[Part] = set()
        self.ready: deque[Part] = deque()
        self.arrived: deque[Part] = deque()
        self.read = 0
        self.taken = 0
        self.unfinished = 0
        self.ended = False
        self.closed = False
        self.abandoned = False
        self.whole = False
        self.expired = False
        self.hungry = False
        self.error: BaseException | None = None
        self.wake_taker: deque[Wake] = deque(maxlen=1)
        self.wake_reader: deque[Wake] = deque(maxlen=1)
        self._enough = 1

    def __repr__(self) -> str:
        state = "closed" if self.closed else "ended" if self.ended else "reading"
        return (
            f"<Flow {state}: {self.read} read, {self.taken} taken, "
            f"{self.unfinished} chunks out, {self.policy!r}>"
        )

    # -- the reader's side

    def quota(self) -> int:
        """Items that the next chunk should have; 0: nothing more may be read now."""
        size, count = self.plan()
        return size if count else 0

    def plan(self) -> tuple[int, int]:
        """The size of the next chunks, and how many of them may be read now."""
        if self.arrived:
            self._absorb()
        if self.ended or self.closed or self.expired:
            return 0, 0
        workers = self._chunks.workers
        policy = self.policy
        delay = self._chunks.delay
        count = policy.depth(workers, delay) - self.unfinished
        if count <= 0:
            return 0, 0
        size = policy.size(workers, self.unread)
        if not self.whole:
            count = min(count, (policy.ahead(workers, delay) - self.read + self.taken) // size)
        return size, max(count, 0)

    @property
    def unread(self) -> int | None:
        """How many items are left to be read, where that is known; at least 1."""
        return None if self._length is None else max(self._length - self.read, 1)

    def limits(self) -> tuple[int, int]:
        """How many items may be read ahead, and how many can soon be submitted."""
        workers = self._chunks.workers
        policy = self.policy
        ahead = policy.ahead(workers, self._chunks.delay)
        return ahead, max(2 * policy.size(workers), DEPTH * workers)

    def _absorb(self) -> None:
        arrived, policy = self.arrived, self.policy
        chunks = items = nanos = nbytes = largest = 0
        while arrived:
            part = arrived.popleft()
            chunks += 1
            delivery, count = part.delivery, part.count
            assert delivery is not None
            if self.abandoned:
                part.delivery = None
            if delivery.nanos > TARGET:
                policy.overlong(count, delivery.nanos, delivery.nbytes)
                continue
            items += count
            nanos += delivery.nanos
            nbytes += delivery.nbytes
            largest = max(largest, count)
        self.unfinished -= chunks
        if items:
            policy.finished(items, nanos, nbytes, largest)

    def submit(self, items: list[Any]) -> None:
        """Send items as one chunk. An error of the engine's ends the inputs at this place."""
        if self.ended:
            return
        count = len(items)
        part = Part(self, count)
        self.read += count
        self.unfinished += 1
        self._keep(part)
        try:
            handle = self._chunks.submit_chunk(items, part.done)
        except BaseException as error:
            self._discard(part)
            self.unfinished -= 1
            self.end(error)
            if not isinstance(error, Exception):
                raise
            return
        self.policy.packed(count, handle.nbytes)
        part.handle = handle
        if part.delivery is not None:
            part.handle = None
        if self.closed:
            # Closed in the meantime, perhaps without having seen this chunk.
            part.cancel()

    def _keep(self, part: Part) -> None:
        if self.abandoned:
            return
        if self.ordered:
            self.parts.append(part)
        else:
            self._loose.add(part)

    def _discard(self, part: Part) -> None:
        if self.ordered and self.parts:
            self.parts.pop()
        self._loose.discard(part)

    def end(self, error: BaseException | None = None) -> None:
        """The inputs are exhausted, or fail with this error at this place."""
        if not self.ended:
            self.error = error
            self.ended = True
            self.ring()

    def ring(self) -> None:
        """Wake the taker, if it waits."""
        wake_up(self.wake_taker)

    def expect_room(self, wake: Wake) -> bool:
        """Have ``wake`` called once when more may be read; False: look again now."""
        self.wake_reader.append(wake)
        if self.arrived or self.quota() or self.closed or self.ended:
            self.wake_reader.clear()
            return False
        return True

    # -- the taker's side

    @property
    def deliverable(self) -> bool:
        """Whether something can be taken now."""
        if not self.ordered:
            return bool(self.ready)
        try:
            return self.parts[0].delivery is not None
        except IndexError:  # nothing is out, or closed in the meantime
            return False

    @property
    def finished(self) -> bool:
        """Whether everything was read and taken."""
        return self.ended and not self.parts and not self._loose

    def take(self) -> Part | None:
        """The next finished chunk, or None."""
        try:
            if self.ordered:
                return None if self.parts[0].delivery is None else self.parts.popleft()
            part = self.ready.popleft()
        except IndexError:  # nothing is there, or closed in the meantime
            return None
        self._loose.discard(part)
        return part

    def count_taken(self, count: int) -> None:
        """So many results were taken for good; more may be read for them."""
        self.taken += count
        wake_up(self.wake_reader)

    def expect(self, wake: Wake, reads: bool, takes: bool = True) -> bool:
        """Have ``wake`` called once when there is something to do; False: look again now.

        ``reads``: the caller submits what it reads, so it also has something to do when half of
        what is out was finished. ``takes``: results that can be taken are something to do. Rows
        that a pump asks for always are: only whoever has a stash is asked.
        """
        enough = max(1, self.unfinished // 2) if reads and not self.ended else 0
        self._enough = enough if takes else -enough
        self.wake_taker.append(wake)
        if (
            (takes and (self.deliverable or self.finished))
            or (enough and len(self.arrived) >= enough)
            or self.hungry
            or self.closed
        ):
            self.wake_taker.clear()
            return False
        return True

    def worth_waking(self, part: Part) -> bool:
        """Whether this delivery gives a waiting taker something to do."""
        enough = self._enough
        if enough and len(self.arrived) >= abs(enough):
            return True
        if enough < 0:
            return False
        if not self.ordered:
            return True
        try:
            return self.parts[0] is part
        except IndexError:  # closed in the meantime
            return True

    # -- the end

    def close(self) -> None:
        """Nobody wants the rest: cancel what was not sent. From any thread, more than once."""
        self.closed = True
        for part in [*self.parts, *self._loose]:
            part.cancel()
        self._drop()
        self.ring()
        wake_up(self.wake_reader)

    def abandon(self) -> None:
        """Nobody can take the results any more, but the inputs are to be run."""
        self.abandoned = True
        self._drop()

    def _drop(self) -> None:
        self.parts.clear()
        self._loose.clear()
        self.ready.clear()
