"""Sync inputs: read in batches, in C, by the thread that takes the results."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from pool_client.mapping.flow import Flow
from pool_client.mapping.policy import READING


class Feed:
    """Reads rows into a flow as far as it allows. ``clock`` gives nanoseconds."""

    def __init__(self, flow: Flow, rows: Iterator[Any], clock: Callable[[], int]) -> None:
        self._flow = flow
        self._rows = rows
        self._clock = clock

    def fill(self, deadline: int | None = None, patient: bool = False) -> None:
        """Read and submit what may be read now.

        Slow inputs hold nothing back: once reading has taken long, it stops where something can be
        taken (where a chunk was read, if not ``patient``). Nothing is read after ``deadline``.
        Raises only what is not an Exception, such as KeyboardInterrupt.
        """
        flow = self._flow
        quota = flow.quota()
        if not quota:
            return
        start = now = self._clock()
        while quota and (deadline is None or now < deadline):
            items, over, error = read(self._rows, quota)
            before, now = now, self._clock()
            if items:
                flow.policy.reading(len(items), now - before)
                flow.submit(items)
            if over:
                flow.end(error)
            elif now - start > READING and (flow.deliverable or not patient):
                return
            quota = flow.quota()


def read(rows: Iterator[Any], count: int) -> tuple[list[Any], bool, Exception | None]:
    """Up to ``count`` items, whether the rows are over, and the error that ended them."""
    items: list[Any] = []
    try:
        # What was read before an error stays in the list.
        items.extend(islice(rows, count))
    except Exception as error:
        return items, True, error
    return items, len(items) < count, None
