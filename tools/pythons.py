"""Find the Python interpreters of this machine that the packages are tested with."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

OLDEST = (3, 11)
EXPECTED = ("3.11", "3.12", "3.13")
"""The versions whose absence is reported; newer ones are tested wherever they are found."""

_PROBE = (
    "import sys;"
    "print(sys.implementation.name, '%d.%d.%d' % sys.version_info[:3], sys.version_info[3])"
)
_PROBE_SECONDS = 20
_NAME = re.compile(r"python3\.(\d+)(\.exe)?")


@dataclass(frozen=True)
class Python:
    """An interpreter that answered.

    Attributes:
        minor: Its version as users name it, such as ``3.12``.
        full: Its version to the last digit, such as ``3.12.1``.
        path: The program.
    """

    minor: str
    full: str
    path: Path

    @property
    def tox_name(self) -> str:
        """The name of tox's environment for it, such as ``py312``."""
        return "py" + self.minor.replace(".", "")


def pyenv_folders(environ: Mapping[str, str]) -> list[Path]:
    """List the folders in which pyenv keeps programs.

    Args:
        environ: Environment variables; PYENV_ROOT, PATH and HOME are looked at.

    Returns:
        The ``bin`` folder of each version from the oldest supported on, newest first.
    """
    roots = []
    if root := environ.get("PYENV_ROOT"):
        roots.append(Path(root))
    # The root of a pyenv that is only on PATH: HOME may be another user's, or empty.
    for entry in environ.get("PATH", "").split(os.pathsep):
        folder = Path(entry)
        if folder.name == "shims" or (folder / "pyenv").exists():
            roots.append(folder.parent)
    if home := environ.get("HOME"):
        roots.append(Path(home, ".pyenv"))
    found: dict[Path, tuple[int, ...]] = {}
    for root_folder in roots:
        for folder in root_folder.glob("versions/*/bin"):
            version = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", folder.parent.name)
            if version:
                numbers = tuple(int(part or 0) for part in version.groups())
                if numbers[:2] >= OLDEST:
                    found.setdefault(folder, numbers)
    return sorted(found, key=lambda folder: found[folder], reverse=True)


def search_path(environ: Mapping[str, str]) -> str:
    """Make a PATH on which tools find every Python.

    pyenv's shims stand first on the PATH of its users and fail for each version that is not
    active, and tools take that for a missing version. So the versions' own folders go before them,
    and the folder of the Python that runs this before those, so that ``python3`` stays what it is.

    Args:
        environ: Environment variables; PATH is extended.

    Returns:
        The new PATH; extending it again changes nothing.
    """
    own = Path(sys.executable).parent
    entries = [
        str(own),
        *map(str, pyenv_folders(environ)),
        *environ.get("PATH", "").split(os.pathsep),
    ]
    return os.pathsep.join(dict.fromkeys(entry for entry in entries if entry))


def probe(path: Path) -> Python | None:
    """Ask a program which Python it is.

    Args:
        path: The program.

    Returns:
        The interpreter; None if the program fails, hangs, or is not a released CPython that is new
        enough.
    """
    try:
        done = subprocess.run(
            [path, "-I", "-c", _PROBE],
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            check=True,
        )
        implementation, full, level = done.stdout.split()
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    numbers = tuple(map(int, full.split(".")))
    if implementation != "cpython" or level != "final" or numbers[:2] < OLDEST:
        return None
    return Python(minor=f"{numbers[0]}.{numbers[1]}", full=full, path=path)


def _candidates(path: str) -> Iterator[Path]:
    """Yield the programs on a PATH that are named after a Python version, in its order."""
    for entry in path.split(os.pathsep):
        folder = Path(entry)
        virtual = (folder.parent / "pyvenv.cfg").exists()
        if folder.is_dir() and not virtual:
            for program in sorted(folder.iterdir()):
                if _NAME.fullmatch(program.name) and shutil.which(program):
                    yield program


def find(path: str) -> list[Python]:
    """Find one interpreter of each version that is tested.

    Args:
        path: Where to look, in the form of PATH.

    Returns:
        The first that answers for each version from 3.11 on, oldest first. Virtual environments
        are passed over: they hold what others installed.
    """
    found: dict[str, Python] = {}
    for program in _candidates(path):
        named = _NAME.fullmatch(program.name)
        if named and f"3.{named[1]}" not in found and (python := probe(program)):
            found.setdefault(python.minor, python)
    return sorted(found.values(), key=lambda python: tuple(map(int, python.full.split("."))))
