"""Sync inputs: read in batches, in C, by the thread that takes the results."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from pool_client.mapping.chunking import READING
from pool_client.mapping.flow import Flow


class Feed:
    """Reads rows into a flow as far as it allows.

    ``clock`` gives nanoseconds; nothing is read after ``deadline`` on it.
    """

    def __init__(
        self,
        flow: Flow,
        rows: Iterator[Any],
        clock: Callable[[], int],
        deadline: int | None = None,
    ) -> None:
        self._flow = flow
        self._rows = rows
        self._clock = clock
        self._deadline = deadline

    def fill(self, started: bool = True) -> None:
        """Read and submit what may be read now.

        Slow inputs hold nothing back: once reading has taken long, it stops as soon as something
        can be taken. When the map is not ``started`` yet, it stops in any case, and the deadline
        does not count; nor does it for a map that is read ``whole``, which stops in any case too.
        Raises only what is not an Exception, such as KeyboardInterrupt.
        """
        flow = self._flow
        size, count = flow.plan()
        if not count:
            return
        policy, clock = flow.policy, self._clock
        deadline = self._deadline if started and not flow.whole else None
        start = now = clock()
        while count and (deadline is None or now < deadline):
            wanted = size * policy.batch(size, count, flow.unread is not None)
            items, over, error = read(self._rows, wanted)
            before, now = now, clock()
            if items:
                policy.reading(len(items), now - before)
                for place in range(0, len(items), size):
                    flow.submit(items[place : place + size] if wanted > size else items)
            if over:
                flow.end(error)
            elif now - start > READING and (flow.deliverable or flow.whole or not started):
                return
            size, count = flow.plan()


def read(rows: Iterator[Any], count: int) -> tuple[list[Any], bool, Exception | None]:
    """Up to ``count`` items, whether the rows are over, and the error that ended them."""
    items: list[Any] = []
    try:
        # What was read before an error stays in the list.
        items.extend(islice(rows, count))
    except Exception as error:
        return items, True, error
    return items, len(items) < count, None
