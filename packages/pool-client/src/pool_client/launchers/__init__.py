"""The registry of launchers: one scheme, one file, one line here.

Third parties add schemes through the entry-point group ``pool_client.launchers``: the entry's name
is the scheme, its object is called without arguments and gives a `Launcher`.
"""

from importlib import import_module

from pool_client.launchers.base import Access, HostSpec, Launched, Launcher, Order
from pool_client.launchers.spec import parse

__all__ = ["Access", "HostSpec", "Launched", "Launcher", "Order", "launcher", "parse"]

GROUP = "pool_client.launchers"

#: Scheme: module and class. A pool loads those that it uses.
_LAUNCHERS = {
    "local": ("pool_client.launchers.local", "LocalLauncher"),
    "spawner": ("pool_client.launchers.spawner", "SpawnerLauncher"),
    "ssh": ("pool_client.launchers.ssh", "SshLauncher"),
}


def launcher(scheme: str) -> Launcher:
    """The launcher of a scheme.

    Raises ValueError, naming the known ones, or ImportError where a third party's is broken.
    """
    made: Launcher
    if scheme in _LAUNCHERS:
        module, name = _LAUNCHERS[scheme]
        made = getattr(import_module(module), name)()
        return made
    # Loaded for other schemes alone: it takes longer than everything else here.
    from importlib.metadata import entry_points

    entries = entry_points(group=GROUP)
    for entry in entries:
        if entry.name == scheme:
            try:
                made = entry.load()()
            except Exception as error:
                text = f"{type(error).__name__}: {error}"
                raise ImportError(
                    f"the launcher of {scheme}://, {entry.value}, cannot be had: {text}"
                ) from error
            return made
    known = ", ".join(sorted({*_LAUNCHERS, *(entry.name for entry in entries)}))
    raise ValueError(f"no launcher for the scheme {scheme!r}; known are: {known}")
