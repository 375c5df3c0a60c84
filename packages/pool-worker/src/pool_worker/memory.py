"""Whether the kernel has killed something here because memory ran out."""

from collections.abc import Sequence

_ROOT = "/sys/fs/cgroup"


def control_groups(groups: str = "/proc/self/cgroup") -> list[tuple[int, str, str]]:
    """This process's control groups that govern memory: version, where mounted, path in there."""
    found = []
    try:
        # A group's name is bytes of any kind, as that of a file is.
        with open(groups, errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found.append((2, _ROOT, path))
        elif "memory" in controllers.split(","):
            found.append((1, f"{_ROOT}/memory", path))
    return found


def candidates(groups: str = "/proc/self/cgroup") -> list[str]:
    """Where the counter may be: this process's control group, version 2 or 1; else the kernel's."""
    names = {1: "memory.oom_control", 2: "memory.events"}
    found = [
        f"{root}{path.rstrip('/')}/{names[version]}"
        for version, root, path in control_groups(groups)
    ]
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
