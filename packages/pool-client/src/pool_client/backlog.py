"""What was submitted and is in nobody's hands: the queue, broadcasts, and tasks of one slot. Pure.

A broadcast divides the queue: what was submitted after it waits *behind* until it is let through.
"""

from collections import deque
from collections.abc import Collection, Iterable, Sequence

from pool_client.tasks import Broadcast, Task, Worker


class Backlog:
    """Everything that waits."""

    def __init__(self) -> None:
        #: What may be sent now, to anybody.
        self.queue: deque[Task] = deque()
        #: Tasks that belong to one slot, until that slot has an idle worker.
        self.pinned: dict[int, deque[Task]] = {}
        self._barriers: deque[Broadcast] = deque()
        self._behind: deque[Task] = deque()

    def __len__(self) -> int:
        pinned = sum(map(len, self.pinned.values())) if self.pinned else 0
        return len(self.queue) + len(self._behind) + len(self._barriers) + pinned

    @property
    def blocked(self) -> bool:
        """A broadcast is next, once everything before it is done."""
        return bool(self._barriers) and not self.queue and not self.pinned

    def add(self, tasks: Iterable[Task]) -> int:
        """New tasks, in order; how many."""
        queue = self._behind if self._barriers else self.queue
        before = len(queue)
        queue.extend(tasks)
        return len(queue) - before

    def add_broadcast(self, broadcast: Broadcast) -> None:
        """One task for each worker, after all that was submitted before and ahead of the rest."""
        if self._barriers:
            self._behind.append(_Fence(broadcast))
        else:
            self._barriers.append(broadcast)

    def lower(self, workers: Collection[Worker]) -> None:
        """Let the first broadcast through, to these workers, and what waited behind it."""
        broadcast = self._barriers.popleft()
        in_order = sorted(workers, key=lambda w: (w.slot, w.id))
        for worker, task in zip(in_order, broadcast.tasks(len(workers)), strict=True):
            self.pinned.setdefault(worker.slot, deque()).append(task)
        while self._behind and not self._barriers:
            task = self._behind.popleft()
            if isinstance(task, _Fence):
                self._barriers.append(task.broadcast)
            else:
                self.queue.append(task)

    def take_pinned(self, slot: int) -> Task:
        """The next task that belongs to a slot."""
        queue = self.pinned[slot]
        task = queue.popleft()
        if not queue:
            del self.pinned[slot]
        return task

    def give_back(self, slot: int, tasks: Sequence[Task]) -> None:
        """Back to the head of the queue, in order; a broadcast's stay with their slot."""
        for task in reversed(tasks):
            if task.pinned:
                self.pinned.setdefault(slot, deque()).appendleft(task)
            else:
                self.queue.appendleft(task)

    def clear(self) -> list[Task | Broadcast]:
        """Give up everything; what it was."""
        everything: list[Task | Broadcast] = [*self.queue, *self._behind]
        everything += [task for queue in self.pinned.values() for task in queue]
        everything += self._barriers
        for place in (self.queue, self._behind, self.pinned, self._barriers):
            place.clear()
        return everything


class _Fence(Task):
    """The place of a broadcast among tasks that wait behind an earlier one."""

    __slots__ = ("broadcast",)

    def __init__(self, broadcast: Broadcast) -> None:
        self.broadcast = broadcast

    def fail(self, error: BaseException) -> None:
        self.broadcast.fail(error)
