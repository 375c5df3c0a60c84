"""Memory and processor time of processes, read from /proc (Linux only)."""

import os
import resource
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
MB = 1_000_000


def unshared(pid: int) -> float:
    """Return the memory that only this process has (USS), in MB of 10**6 bytes."""
    private = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean:", "Private_Dirty:")):
            private += int(line.split()[1])
    return private * 1024 / MB


def resident(pid: int | str = "self") -> float:
    """Return the resident memory of a process, in MB of 10**6 bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / MB


def processor_time(pid: int) -> float:
    """Return the seconds that all the threads of a process have spent on a processor."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9


def own_processor_time() -> float:
    """Return the seconds of processor time, user and system, that this process has used."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def raise_descriptor_limit() -> None:
    """Allow this process as many open files as the system lets it have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
