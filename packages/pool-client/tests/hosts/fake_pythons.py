"""Programs that stand in for Pythons of other versions, and for an installed pool-worker."""

import shutil
import sys
from pathlib import Path


def program(path: Path, script: str) -> Path:
    """Write an executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def old_python(path: Path, version: str) -> Path:
    """A Python that is too old: it says its version, as the probe wants it, and fails."""
    return program(path, f"echo {version}; exit 1")


def other_python(path: Path, version: str) -> Path:
    """A usable Python of another minor version; run for good, it is this one."""
    return program(
        path,
        f'if [ "$1" = -P ]; then exec {sys.executable} "$@"; fi; echo {version}; exit 2',
    )


def tools(folder: Path) -> Path:
    """A folder for a PATH that has what the search for Python needs, and no Python."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("sh", "sed", "rm"):
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder
