"""Whether the kernel has killed something here because memory ran out."""

from collections.abc import Sequence

_ROOT = "/sys/fs/cgroup"


def candidates(groups: str = "/proc/self/cgroup") -> list[str]:
    """Where the counter may be: this process's control group, version 2 or 1; else the kernel's."""
    found = []
    try:
        with open(groups) as file:
            lines = file.read().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found.append(f"{_ROOT}{path.rstrip('/')}/memory.events")
        elif "memory" in controllers.split(","):
            found.append(f"{_ROOT}/memory{path.rstrip('/')}/memory.oom_control")
    # In a container the path is often that of the host, and the root is our own group.
    found += [f"{_ROOT}/memory.events", f"{_ROOT}/memory/memory.oom_control", "/proc/vmstat"]
    return found


def read_counter(path: str) -> int | None:
    """The number after ``oom_kill`` in a file of names and numbers; None if there is none."""
    try:
        with open(path) as file:
            for line in file:
                name, _, number = line.partition(" ")
                if name == "oom_kill":
                    return int(number)
    except (OSError, ValueError):
        pass
    return None


class OutOfMemory:
    """Counts the kills for want of memory, so that each explains one death."""

    def __init__(self, paths: Sequence[str] | None = None) -> None:
        self._path: str | None = None
        self._explained = 0
        for path in candidates() if paths is None else paths:
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
