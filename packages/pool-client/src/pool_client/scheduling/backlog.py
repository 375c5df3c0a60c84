"""What was submitted and is in nobody's hands: the queue, broadcasts, and tasks of one slot. Pure.

A broadcast divides the queue: what was submitted after it waits *behind* until it is let through.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence

from pool_client.scheduling.tasks import Broadcast, Host, Task, Worker


class Backlog:
    """Everything that waits."""

    def __init__(self) -> None:
        #: What may be sent now, to anybody.
        self.queue: deque[Task] = deque()
        #: Tasks that belong to one slot, until that slot has an idle worker.
        self.pinned: dict[int, deque[Task]] = {}
        #: Tasks that were lost on a host, and until when, in ns, they look for another one.
        self.away: list[tuple[Task, Host, int]] = []
        self._barriers: deque[Broadcast] = deque()
        self._behind: deque[Task] = deque()

    def __len__(self) -> int:
        pinned = sum(map(len, self.pinned.values())) if self.pinned else 0
        waiting = len(self.queue) + len(self.away) + len(self._behind)
        return waiting + len(self._barriers) + pinned

    @property
    def blocked(self) -> bool:
        """A broadcast is next, once everything before it is done."""
        return bool(self._barriers) and not (self.queue or self.pinned or self.away)

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

    def lower(self, workers: Collection[Worker]) -> int:
        """Let the first broadcast through, and what waited behind it; of how many tasks it is.

        Each of ``workers`` gets one.
        """
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
        return len(in_order)

    def take_pinned(self, slot: int) -> Task:
        """The next task that belongs to a slot."""
        queue = self.pinned[slot]
        task = queue.popleft()
        if not queue:
            del self.pinned[slot]
        return task

    def take_pinned_of(self, holds: Callable[[int], bool], but_not: Collection[int]) -> list[Task]:
        """Everything that belongs to the slots of a host, some of them left out."""
        slots = [slot for slot in self.pinned if holds(slot) and slot not in but_not]
        return [task for slot in slots for task in self.pinned.pop(slot)]

    def give_back(self, slot: int, tasks: Sequence[Task]) -> None:
        """Back to the head of the queue, in order; a broadcast's stay with their slot."""
        for task in reversed(tasks):
            if task.pinned:
                self.pinned.setdefault(slot, deque()).appendleft(task)
            else:
                self.queue.appendleft(task)

    def send_elsewhere(self, slot: int, tasks: Sequence[Task], host: Host, until: int) -> None:
        """What was lost on a host looks for another; a broadcast's tasks stay with their slot."""
        self.give_back(slot, [task for task in tasks if task.pinned])
        self.away += [(task, host, until) for task in tasks if not task.pinned]

    def call_off(self, over: Callable[[Host, int], bool]) -> None:
        """Those whose search is ``over`` go to the head of the queue."""
        back = [task for task, host, until in self.away if over(host, until)]
        if back:
            self.away = [entry for entry in self.away if not over(*entry[1:])]
            self.queue.extendleft(reversed(back))

    def offer(self, host: Host) -> list[tuple[Task, Host, int]]:
        """Put what may go to a host at the head of the queue; see `withdraw_offer`."""
        offered = [entry for entry in self.away if entry[1] is not host]
        self.away = [entry for entry in self.away if entry[1] is host]
        self.queue.extendleft(task for task, _, _ in reversed(offered))
        return offered

    def withdraw_offer(self, offered: Sequence[tuple[Task, Host, int]]) -> None:
        """What was not taken goes on looking."""
        tasks = {id(task): entry for entry in offered for task in entry[:1]}
        left = []
        while self.queue and id(self.queue[0]) in tasks:
            left.append(tasks[id(self.queue.popleft())])
        self.away = left + self.away

    def clear(self) -> list[Task | Broadcast]:
        """Give up everything; what it was."""
        everything: list[Task | Broadcast] = [*self.queue, *self._behind]
        everything += [task for task, _, _ in self.away]
        everything += [task for queue in self.pinned.values() for task in queue]
        everything += self._barriers
        for place in (self.queue, self.away, self._behind, self.pinned, self._barriers):
            place.clear()
        return everything


class _Fence(Task):
    """The place of a broadcast among tasks that wait behind an earlier one."""

    __slots__ = ("broadcast",)

    def __init__(self, broadcast: Broadcast) -> None:
        self.broadcast = broadcast

    def fail(self, error: BaseException) -> None:
        self.broadcast.fail(error)
