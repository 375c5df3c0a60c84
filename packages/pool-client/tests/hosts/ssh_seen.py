"""What can be seen of a pool's ssh programs from outside."""

import os
from pathlib import Path

import support


def words(pid: int) -> list[str]:
    """The command line of a process; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def ssh_processes() -> list[int]:
    """The ssh programs that this process has started, without their helpers.

    A server here may be another descendant: sshd runs itself with ``-R`` for each connection.
    """
    found = [process.pid for process in support.descendants(os.getpid()) if process.state != "Z"]
    said = {pid: words(pid) for pid in found}
    return [pid for pid in found if "-R" in said[pid] and Path(said[pid][0]).name != "sshd"]


def tunnel(pid: int) -> Path:
    """The socket on the host, which is this machine, of an ssh program's tunnel."""
    said = words(pid)
    return Path(said[said.index("-R") + 1].partition(":")[0])
