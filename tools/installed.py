"""Look at one package where its wheel was installed alone; run by the interpreter of that place.

Usage: ``python -I installed.py PACKAGE``. Only the standard library is imported here.
"""

import importlib
import subprocess
import sys
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path

SECONDS = 60

PROGRAMS: dict[str, list[str]] = {"pool-worker": [], "pool-spawner": ["--help"]}
"""Arguments with which each package's program ends at once, and with 0."""


def find_faults(package: str) -> list[str]:
    """Import a package and run its program.

    Args:
        package: The name of its distribution, such as ``pool-worker``.

    Returns:
        A line for each thing that is not as it should be.
    """
    name = package.replace("-", "_")
    module = importlib.import_module(name)
    metadata = distribution(package)
    faults = []
    if module.__version__ != metadata.version:
        faults.append(f"{name}.__version__ is {module.__version__}, not {metadata.version}")
    if not files(name).joinpath("py.typed").is_file():
        faults.append(f"{name} ships no py.typed")
    shipped = [str(path) for path in metadata.files or []]
    if not any(path.endswith("LICENSE") for path in shipped):
        faults.append(f"{package} ships no LICENSE")
    if strays := sorted(
        {path.split("/")[0] for path in shipped} - _expected(name, metadata.version)
    ):
        faults.append(f"{package} installs more than itself: {', '.join(strays)}")
    if package in PROGRAMS:
        program = Path(sys.executable).parent / package
        for way in ([str(program)], [sys.executable, "-I", "-m", name]):
            command = [*way, *PROGRAMS[package]]
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=SECONDS, check=False
            )
            if done.returncode:
                output = (done.stdout + done.stderr).strip()
                faults.append(f"{' '.join(command)} exits {done.returncode}: {output}")
    return faults


def _expected(name: str, version: str) -> set[str]:
    """Return the top-level names that a wheel may install, the folder of its program included."""
    return {name, f"{name}-{version}.dist-info", ".."}


def main(package: str) -> int:
    """Print what is wrong with a package.

    Args:
        package: The name of its distribution.

    Returns:
        0 if nothing is, else 1.
    """
    faults = find_faults(package)
    for fault in faults:
        print(fault, file=sys.stderr)
    if not faults:
        print(f"{package} {distribution(package).version} is whole")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
