"""How many CPUs a container leaves to its processes. Nothing is read here: the caller does it.

``docker run --cpus 1.5`` does not choose CPUs, so the affinity shows all of the machine's; it lets
the processes of a control group run for 150 ms in each 100 ms, all together. Counted are whole
CPUs, rounded up, as loky does: with 1.5, two workers are never idle for long.
"""

from collections.abc import Callable, Iterator

_GROUPS = "/proc/self/cgroup"
_ROOT = "/sys/fs/cgroup"


def bounded(cpus: int, read: Callable[[str], str]) -> int:
    """What the quotas of this process's control group, and of those above it, leave of its CPUs.

    Args:
        cpus: How many CPUs it may run on.
        read: Gives the text of a file; an empty one where that cannot be read.

    Returns:
        The number of CPUs, at least 1.
    """
    for files in _quotas(read(_GROUPS)):
        cpus = min(cpus, _cpus(" ".join(map(read, files))) or cpus)
    return max(1, cpus)


def _quotas(groups: str) -> Iterator[tuple[str, ...]]:
    """The files that tell a quota and its period, for each group that has a say."""
    for line in filter(None, groups.split("\n")):
        _, controllers, path = line.split(":", 2)
        names: tuple[str, ...] = ("cpu.max",)
        if not controllers:
            root = _ROOT
        elif "cpu" in controllers.split(","):
            root, names = f"{_ROOT}/cpu", ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        else:
            continue
        # In a container the path may be that of the host, and the root is our own group.
        parts = [part for part in path.split("/") if part]
        for depth in range(len(parts), -1, -1):
            folder = "/".join([root, *parts[:depth]])
            yield tuple(f"{folder}/{name}" for name in names)


def _cpus(text: str) -> int:
    """The CPUs of a quota and its period, both in µs; 0: there is no limit."""
    try:
        quota, period = map(int, text.split())
    except ValueError:  # "max", or no such file
        return 0
    return -(-quota // period) if quota > 0 and period > 0 else 0
