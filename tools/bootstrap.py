"""Let ``python3 noxfile.py`` work with a bare Python: make an environment with nox, run nox there.

Only the standard library may be imported here.
"""

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.pythons import search_path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".venv-nox"
REQUIREMENTS = ("nox>=2024.10.9", "tox>=4.22", "tox-uv>=1.13", "uv>=0.5")

USAGE = """usage: python3 noxfile.py COMMAND [ARGUMENT ...]

  demo     set everything up and run the main job: examples/demo.py
  check    set everything up and run every check
  bench    measure this pool against others
  cluster  build and start the cluster of containers; cluster down ends it
  SESSION  run one session of nox, such as lint, with ARGUMENTs after its name passed to it
  -OPTION  anything that begins with a dash goes to nox as it is: -l lists the sessions
"""

# Names of pip's settings and of the variables through which uv takes the same.
_UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
}
_READY = "POOL_CHECKS_ENVIRONMENT"


def program(folder: Path) -> Path:
    """Return the Python of a virtual environment.

    Args:
        folder: The environment.

    Returns:
        The path of its interpreter, whether or not it exists.
    """
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"


def ensure_environment(folder: Path = FOLDER) -> Path:
    """Make the virtual environment of nox unless it is there and complete.

    Args:
        folder: Where it belongs.

    Returns:
        The path of its interpreter.

    Raises:
        SystemExit: If this Python cannot make one, or the packages cannot be had.
    """
    python = program(folder)
    stamp = folder / "complete.txt"
    wanted = "\n".join([sys.version, sys.base_prefix, str(folder), *REQUIREMENTS])
    if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    print(f"making {folder.name} with nox, tox and uv", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        venv.create(folder, with_pip=True, symlinks=os.name != "nt")
    except (ImportError, OSError, subprocess.SubprocessError) as error:
        raise SystemExit(
            f"{sys.executable} cannot make a virtual environment ({error}); on Debian and Ubuntu "
            "the package python3-venv is missing"
        ) from error
    install = [str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS]
    if code := subprocess.call(install):
        raise SystemExit(f"pip could not install {', '.join(REQUIREMENTS)} (exit code {code})")
    stamp.write_text(wanted, encoding="utf-8")
    return python


def uv_settings(listing: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Translate pip's settings for uv, which reads none of them.

    Args:
        listing: What ``pip config list`` prints.
        environ: Environment variables; what they already say is left alone.

    Returns:
        Environment variables to add.
    """
    found: dict[str, str] = {}
    for line in listing.splitlines():
        key, _, value = line.partition("=")
        name = _UV_NAMES.get(key.rpartition(".")[2])
        words = value.strip().strip("'\"").replace("\\n", " ").split()
        if name == "UV_FIND_LINKS":
            # uv stops at a folder that does not exist; pip goes on.
            words = [word for word in words if "://" in word or Path(word).is_dir()]
        if name is None or not words or name in environ:
            continue
        separator = "," if name == "UV_FIND_LINKS" else " "
        found[name] = separator.join(words)
    return found


def environment(environ: Mapping[str, str], python: str = sys.executable) -> dict[str, str]:
    """Return the environment variables under which sessions run.

    Args:
        environ: Those of this process.
        python: An interpreter with pip, whose settings count.

    Returns:
        What to add or replace; nothing if that was done already.
    """
    if _READY in environ:
        return {}
    listing = subprocess.run(
        [python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    # A Python that uv would fetch by itself is none that this machine has.
    own = {"PATH": search_path(environ), "UV_PYTHON_DOWNLOADS": "never", _READY: "1"}
    return {**uv_settings(listing, environ), **own}


def command(python: str, arguments: Sequence[str]) -> list[str]:
    """Translate the script's arguments into a command.

    Args:
        python: The interpreter of nox's environment.
        arguments: The command line without the script's name.

    Returns:
        The command to run in the repository's root.
    """
    nox = [python, "-m", "nox"]
    first, *rest = arguments
    if first == "check":
        return [python, "-m", "tools.check", *rest]
    if first.startswith("-"):
        return [*nox, *arguments]
    rest = rest[1:] if rest[:1] == ["--"] else rest
    return [*nox, "--session", first, *(["--", *rest] if rest else [])]


def main(arguments: Sequence[str]) -> int:
    """Run the script.

    Args:
        arguments: The command line without the script's name.

    Returns:
        The exit code of what was run; 2 without arguments.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="", file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    python = ensure_environment()
    environ = {**os.environ, **environment(os.environ, str(python))}
    # Of this environment, tools take the programs, and nothing takes its settings.
    environ["PATH"] = f"{python.parent}{os.pathsep}{environ['PATH']}"
    environ.pop("PYTHONPATH", None)
    try:
        return subprocess.call(command(str(python), arguments), cwd=ROOT, env=environ)
    except KeyboardInterrupt:
        return 130
