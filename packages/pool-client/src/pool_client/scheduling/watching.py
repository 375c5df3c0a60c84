"""Which hosts' supervisors watch the time limits of running tasks. Pure."""

from pool_client.scheduling.tasks import Action, Host, Task, WatchHost
from pool_protocol.messages import TaskFlag

#: How long a supervisor goes on watching after the last task that had a limit, in ns: a burst of
#: such tasks, one after the other, shall not switch it on and off.
LINGER_NS = 1_000_000_000
# A plain number: an IntFlag's operators are too slow for every task.
_TIMED = int(TaskFlag.TIMED)


class Watching:
    """Counts the tasks with a limit by host, and says when watching is to begin and to end."""

    def __init__(self, actions: list[Action]) -> None:
        self._actions = actions
        self._hosts: dict[int, Host] = {}

    def __bool__(self) -> bool:
        return bool(self._hosts)

    def sent(self, host: Host, task: Task) -> None:
        """A task goes to a worker of the host."""
        if task.flags & _TIMED:
            host.timed += 1
            if not host.watching:
                host.watching = True
                self._hosts[id(host)] = host
                self._actions.append(WatchHost(host, True))

    def over(self, host: Host, task: Task, now: int) -> None:
        """A task has left the worker's hands."""
        if task.flags & _TIMED:
            host.timed -= 1
            host.last_timed = now

    def tick(self, now: int) -> None:
        """Time has passed."""
        for host in list(self._hosts.values()):
            if not host.timed and now - host.last_timed > LINGER_NS:
                host.watching = False
                del self._hosts[id(host)]
                self._actions.append(WatchHost(host, False))
