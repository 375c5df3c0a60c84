"""A Python with nothing of ours installed, as on a host that nobody has prepared."""

import os
import subprocess
import sys
from pathlib import Path


def bare_python(folder: Path) -> Path:
    """Make an environment of this Python's version, without packages; returns its ``python3``."""
    words = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    return folder / "bin" / "python3"


def path_with(*folders: Path) -> str:
    """A PATH of these folders and the system's, whose Python has nothing of ours either."""
    return os.pathsep.join([*map(str, folders), "/usr/bin", "/bin"])
