"""The registry of launchers: one scheme, one file, one line here.

Third parties add schemes through the entry-point group ``pool_client.launchers``: the entry's name
is the scheme, its object is called without arguments and gives a `Launcher`.
"""

from importlib.metadata import entry_points

from pool_client.launchers.base import HostSpec, Launched, Launcher
from pool_client.launchers.local import LocalLauncher
from pool_client.launchers.spec import parse

__all__ = ["HostSpec", "Launched", "Launcher", "launcher", "parse"]

GROUP = "pool_client.launchers"

_LAUNCHERS: dict[str, type[Launcher]] = {
    "local": LocalLauncher,
}


def launcher(scheme: str) -> Launcher:
    """The launcher of a scheme. Raises ValueError, naming the known ones."""
    if scheme in _LAUNCHERS:
        return _LAUNCHERS[scheme]()
    entries = entry_points(group=GROUP)
    for entry in entries:
        if entry.name == scheme:
            made: Launcher = entry.load()()
            return made
    known = ", ".join(sorted({*_LAUNCHERS, *(entry.name for entry in entries)}))
    raise ValueError(f"no launcher for the scheme {scheme!r}; known are: {known}")
