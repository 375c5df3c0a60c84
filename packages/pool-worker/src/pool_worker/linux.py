"""What Linux offers and Python does not: prctl; and the few facts that are read from /proc.

Elsewhere the functions do nothing and say so.
"""

import os
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

LINUX = sys.platform == "linux"

if LINUX:
    import ctypes

    _libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> bool:
    return LINUX and _libc.prctl(option, value, 0, 0, 0) == 0


def die_with_parent(signal_number: int) -> bool:
    """Let the kernel send this process a signal when its parent ends. False: cannot be done.

    Afterwards look at ``os.getppid()``: the parent may have ended before.
    """
    return _prctl(_PR_SET_PDEATHSIG, signal_number)


def adopt_orphans() -> bool:
    """Make this process the parent of what its descendants leave behind. False: cannot be done."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def children() -> list[int]:
    """The process ids of this process's children, zombies included; empty if it is not known."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def state_and_session(pid: int) -> tuple[str, int]:
    """The state letter and the session of a process; ``("", 0)`` if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name, in parentheses, may contain anything, also spaces and parentheses.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return "", 0
    return fields[0].decode(), int(fields[3])
