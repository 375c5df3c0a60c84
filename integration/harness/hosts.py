"""The seam between the tests and what their hosts are made of: containers, or loopback."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from harness.agent import Agent

Value = TypeVar("Value")


class Host(Protocol):
    """A machine on which workers run, or what stands for one."""

    name: str

    @property
    def pool_name(self) -> str:
        """The name that the pool gives it."""

    def spec(self, workers: int | str, options: str = "") -> str:
        """Return the host string for so many workers; options follow a question mark."""

    def stop(self) -> None:
        """End at once what lets clients in, and everything that it started."""

    def start(self) -> None:
        """Start it again."""

    def cut(self) -> None:
        """End the sessions of an ssh host."""

    def processes(self) -> list[str]:
        """Return the command lines of all processes there."""

    def read(self, path: str) -> str:
        """Return the text of a file there; nothing if there is none."""


class Cluster(Protocol):
    """Hosts, and a place for clients."""

    log: str
    """The path of a file, on each host, in which tasks note that they ran."""

    @property
    def hosts(self) -> Mapping[str, Host]:
        """The hosts, by the names of their services."""

    def notes(self) -> list[str]:
        """Return the texts that tasks left in these files: each file's once."""

    def agent(self) -> Agent:
        """Start a client, which has no pool yet."""

    def run(self, *command: str) -> str:
        """Run a command where the client runs, and return what it prints."""

    def options(self) -> dict[str, Any]:
        """Return what `Pool` needs to reach the hosts."""


def wait_for(what: str, probe: Callable[[], Value], timeout: float = 120.0) -> Value:
    """Wait until a probe returns something true, and return that.

    Args:
        what: What is waited for, for the error.
        probe: What is asked every tenth of a second.
        timeout: Seconds.

    Raises:
        AssertionError: If it does not in time, with what the probe returned last.
    """
    end = time.monotonic() + timeout
    while not (value := probe()):
        assert time.monotonic() < end, f"{what}: not within {timeout:g} s, but {value!r}"
        time.sleep(0.1)
    return value


def create_pool(agent: Agent, cluster: Cluster, *specs: str, workers: int = 2, **more: Any) -> None:
    """Have a client make a pool.

    Args:
        agent: The client.
        cluster: Where the hosts are.
        specs: Host strings; all hosts of the cluster if there are none.
        workers: How many each host gets then.
        more: Other arguments of the pool; it has no local workers unless they say so.
    """
    hosts = list(specs) or [host.spec(workers) for host in cluster.hosts.values()]
    given = {"num_workers": 0, "connect_timeout": 120, **cluster.options(), **more}
    agent.ask("create", **given, hosts=hosts)


class Residue:
    """The processes that were on the hosts before a client came.

    Args:
        cluster: Whose hosts.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._hosts = cluster.hosts
        self._before = {name: self._count(name) for name in self._hosts}

    def _count(self, name: str) -> Counter[str]:
        lines = self._hosts[name].processes()
        # The ssh server itself was there; its title changes.
        return Counter(line for line in lines if "sshd_config" not in line)

    def now(self) -> dict[str, Counter[str]]:
        """Return, for each host that has any, what was not there before."""
        counts = {name: self._count(name) - self._before[name] for name in self._hosts}
        return {name: count for name, count in counts.items() if count}

    def wait_until_gone(self, timeout: float = 30.0) -> None:
        """Wait until nothing is there that was not there before."""
        end = time.monotonic() + timeout
        while left := self.now():
            assert time.monotonic() < end, f"still there after {timeout:g} s: {left}"
            time.sleep(0.1)


def executions(cluster: Cluster) -> Counter[str]:
    """Count, from the files on all hosts, how often each task ran."""
    return Counter(line.split()[0] for text in cluster.notes() for line in text.splitlines())
