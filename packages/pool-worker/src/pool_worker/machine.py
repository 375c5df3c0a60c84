"""What this host offers to its processes: CPUs and memory."""

import os
from collections.abc import Sequence

from pool_protocol import quota
from pool_worker.memory import control_groups

#: A limit of version 1 that means none is about 2**63.
_NO_LIMIT = 1 << 60


def cpus() -> int:
    """How many CPUs this process may use; of those it may run on, a quota can leave a part."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return quota.bounded(usable or 1, _text)


def memory(limits: Sequence[str] | None = None, meminfo: str = "/proc/meminfo") -> int:
    """Bytes of memory that this process and its children may use; 0: unknown.

    Args:
        limits: Files with a limit each; None: those of this process's control group.
        meminfo: Where the kernel tells how much there is.
    """
    known = [_total(meminfo), *map(_limit, limit_files() if limits is None else limits)]
    return min((size for size in known if size), default=0)


def limit_files(groups: str = "/proc/self/cgroup") -> list[str]:
    """Where the limits of this process's control group, and of those above it, may be."""
    names = {1: "memory.limit_in_bytes", 2: "memory.max"}
    found = []
    for version, root, path in control_groups(groups):
        parts = path.strip("/").split("/") if path.strip("/") else []
        for depth in range(len(parts), -1, -1):
            found.append("/".join([root, *parts[:depth], names[version]]))
    return found


def _text(path: str) -> str:
    try:
        # A group's name is bytes of any kind, as that of a file is.
        with open(path, errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _limit(path: str) -> int:
    try:
        with open(path) as file:
            size = int(file.read())
    except (OSError, ValueError):  # not there, or "max"
        return 0
    return size if size < _NO_LIMIT else 0


def _total(path: str) -> int:
    try:
        with open(path) as file:
            for line in file:
                if line.startswith("MemTotal:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return 0
