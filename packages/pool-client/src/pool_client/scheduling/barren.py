"""Hosts on which workers die and nothing gets done, while elsewhere things do. Pure.

Deaths alone say nothing about a host: a task that kills every worker does so everywhere. What
tells a broken host apart is that others complete tasks between its deaths, and it does not.
"""

from pool_client.errors import describe_exit
from pool_client.scheduling.roster import Roster
from pool_client.scheduling.tasks import Host, Worker
from pool_protocol.messages import Lost

#: Such deaths in a row until a host is given up.
MAX_BARREN = 5


class Barren:
    """Counts the fruitless deaths of each host; ``roster`` holds the workers that live."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        #: Calls that were done by workers which are gone.
        self._done = 0

    def died(self, worker: Worker, report: Lost, now: int) -> str | None:
        """A worker has ended, and is on the roster no more. Why its host should be given up."""
        host = worker.host
        host.done += worker.done
        self._done += worker.done
        # Workers that die together, of one cause, count once; and a limit is the task's affair.
        if worker.joined < host.died or report.reason == "timeout":
            return None
        host.died = now
        living = self._roster.workers.values()
        here = host.done + sum(other.done for other in living if other.host is host)
        elsewhere = self._done + sum(other.done for other in living) - here
        if here > host.done_here:
            host.barren = 0
        elif elsewhere > host.done_elsewhere:
            host.barren += 1
        host.done_here, host.done_elsewhere = here, elsewhere
        return _reason(host, report) if host.barren >= MAX_BARREN else None


def _reason(host: Host, report: Lost) -> str:
    return (
        f"its workers died {host.barren} times in a row without completing anything, while other "
        f"hosts did; the last one: {describe_exit(report.exitcode, report.reason)}"
    )
