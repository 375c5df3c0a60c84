"""What is installed where the client runs: its folders, and what to install elsewhere."""

import contextlib
import functools
import site
import sysconfig
from collections.abc import Mapping, Sequence
from importlib import metadata


def installed_folders() -> list[str]:
    """The folders of the standard library and of installed packages."""
    folders = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    with contextlib.suppress(AttributeError):  # some virtual environments have a site of their own
        folders += site.getsitepackages()
        folders.append(site.getusersitepackages())
    return [folder for folder in dict.fromkeys(folders) if folder]


def requirements(module: str) -> list[str]:
    """What to give to pip, so that a module is had in the version that the client has.

    Args:
        module: Its name; what follows the first dot does not matter.

    Returns:
        Such as ``["numpy==1.26.4"]``; several where a namespace is shared, none where no
        distribution says that it has the module.
    """
    names = _distributions().get(module.partition(".")[0], ())
    return [f"{name}=={metadata.version(name)}" for name in dict.fromkeys(names)]


@functools.lru_cache(maxsize=1)
def _distributions() -> Mapping[str, Sequence[str]]:
    # Slow, and the same for as long as the process imports from the same folders.
    return metadata.packages_distributions()
