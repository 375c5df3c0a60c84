"""Whether the kernel has killed something here because memory ran out."""

from collections.abc import Sequence
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def _candidates() -> list[Path]:
    """Where the counter may be: this process's control group, version 2 or 1; else the kernel's."""
    found = []
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found.append(_ROOT / path.lstrip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            found.append(_ROOT / "memory" / path.lstrip("/") / "memory.oom_control")
    # In a container the path is often that of the host, and the root is our own group.
    found.append(_ROOT / "memory.events")
    found.append(_ROOT / "memory" / "memory.oom_control")
    found.append(Path("/proc/vmstat"))
    return found


def read_counter(path: Path) -> int | None:
    """The number after ``oom_kill`` in a file of names and numbers; None if there is none."""
    try:
        for line in path.read_text().splitlines():
            name, _, number = line.partition(" ")
            if name == "oom_kill":
                return int(number)
    except (OSError, ValueError):
        pass
    return None


class OutOfMemory:
    """Counts the kills for want of memory, so that each explains one death."""

    def __init__(self, candidates: Sequence[Path] | None = None) -> None:
        self._path: Path | None = None
        self._explained = 0
        for path in _candidates() if candidates is None else candidates:
            count = read_counter(path)
            if count is not None:
                self._path, self._explained = path, count
                return

    def killed(self) -> bool:
        """True if there was a kill that has not explained a death yet."""
        count = read_counter(self._path) if self._path is not None else None
        if count is None or count <= self._explained:
            return False
        self._explained += 1
        return True
