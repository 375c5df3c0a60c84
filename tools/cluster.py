"""The cluster of containers: build what it needs, start it, end it.

``python3 noxfile.py cluster [wheels | images | up | down]``; each of the first three does those
before it too, and ``up`` is the default. What exists with the same content is not built again.
The images have the same names for every clone of this repository: whoever uses them holds a lock.
"""

import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.bootstrap import ROOT
from tools.needs import docker_answers
from tools.reports import PACKAGES

DOCKER = ROOT / "docker"
WHEELS = DOCKER / "wheels"
THIRD_PARTY = ("cloudpickle", "cryptography", "pip")
"""What the containers install besides our packages; they reach no registry."""

PYTHONS = ("3.11", "3.13")
PLATFORMS = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")

BASES = {
    "POOL_BASE_IMAGE": ("python:3.13-slim", "trixie"),
    "POOL_OLD_BASE_IMAGE": ("python:3.11-slim", "bookworm"),
}
"""Variable of docker-compose.yml: the image that it stands for, and the Debian to build instead."""

LOCK = Path(tempfile.gettempdir(), "pool-cluster.lock")
"""Locked by those that build images, shared by those that use them."""

_STAMP = ".content"
_TRIES = 10
_ASK_SECONDS = 60
_LOCK_SECONDS = 1800
_PULL_SECONDS = 180
_BUILD_SECONDS = 900


def fingerprint(paths: Iterable[Path], *more: str) -> str:
    """Return a hash of the names and contents of files.

    Args:
        paths: Files, and folders of which every file counts.
        more: Other things that count.

    Returns:
        It, as text.
    """
    found = hashlib.sha256("\0".join(more).encode())
    for path in sorted(paths):
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in inside:
            if file.is_file() and "__pycache__" not in file.parts:
                name = file.relative_to(ROOT) if file.is_relative_to(ROOT) else file.name
                content = hashlib.sha256(file.read_bytes()).hexdigest()
                found.update(f"\n{name} {file.stat().st_mode & 0o111} {content}".encode())
    return found.hexdigest()


def build_wheels(folder: Path = WHEELS) -> None:
    """Build our wheels, and fetch those of others for the containers' Pythons.

    Args:
        folder: Where they go; it is left alone if it holds the same already.
    """
    if wheels_are_ours(folder):
        return
    content = _content_of_wheels()
    print(f"building wheels into {folder}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for package in PACKAGES:
        _run(["uv", "build", "--quiet", "--wheel", "--out-dir", str(folder), f"packages/{package}"])
    for python in PYTHONS:
        _run(download_command(folder, python))
    (folder / _STAMP).write_text(content, encoding="utf-8")


def wheels_are_ours(folder: Path = WHEELS) -> bool:
    """Tell whether a folder has the wheels of this clone as it is.

    Args:
        folder: Where they would be.
    """
    stamp = folder / _STAMP
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == _content_of_wheels()


def _content_of_wheels() -> str:
    """Return the fingerprint of what wheels are made of."""
    parts = ("src", "pyproject.toml", "README.md")
    sources = [ROOT / "packages" / package / part for package in PACKAGES for part in parts]
    return fingerprint(sources, *THIRD_PARTY, *PYTHONS)


def download_command(folder: Path, python: str) -> list[str]:
    """Return the command that fetches other people's wheels for one version of Python.

    Args:
        folder: Where to.
        python: Such as ``3.11``.
    """
    machine = platform.machine()
    return [
        *[sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder)],
        *["--only-binary=:all:", "--implementation=cp", f"--python-version={python}"],
        *[f"--platform={name}_{machine}" for name in PLATFORMS],
        *THIRD_PARTY,
    ]


def compose_command() -> list[str]:
    """Return the Compose of this machine: the plugin, else the program of old.

    Raises:
        SystemExit: If there is none.
    """
    if _succeeds(["docker", "compose", "version"]):
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    raise SystemExit("Docker's Compose is missing: apt-get install docker-compose, or the plugin")


def why_not() -> str:
    """Say why there can be no cluster here, and what to do; nothing if there can."""
    if os.name == "nt":
        return "The cluster is built and tested on Linux and macOS"
    if not docker_answers():
        return "Docker does not answer: install and start it (apt-get install docker.io)"
    try:
        compose_command()
    except SystemExit as error:
        return str(error)
    return ""


@contextlib.contextmanager
def images() -> Iterator[None]:
    """Have the images of this clone, and let nobody replace them within the block.

    Raises:
        SystemExit: If they cannot be built.
    """
    compose = compose_command()
    with _open_lock() as lock:
        _lock(lock)
        content = content_here()
        for _ in range(_TRIES):
            if content and _have_content(compose, content):
                break
            _lock(lock, alone=True)
            content = build_images(compose)
            # Before this lock another clone may build its own.
            _lock(lock)
        else:
            raise SystemExit("the images of the cluster are replaced again and again")
        yield


@contextlib.contextmanager
def _open_lock() -> Iterator[int]:
    """Open the file that is locked; to close it is to unlock it."""
    try:
        lock = os.open(LOCK, os.O_RDONLY)  # whoever made it: another user perhaps
    except FileNotFoundError:
        lock = os.open(LOCK, os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        yield lock
    finally:
        os.close(lock)


def _lock(lock: int, *, alone: bool = False) -> None:
    """Lock, together with others or alone, and say so if that takes waiting."""
    import fcntl  # which Windows has not, where the other sessions run

    how = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    begin = time.monotonic()
    told = False
    while True:
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(lock, how | fcntl.LOCK_NB)
        if not told:
            print("waiting for another build or test of the cluster on this machine", flush=True)
            told = True
        if time.monotonic() - begin > _LOCK_SECONDS:
            raise SystemExit(f"{LOCK} is locked for {_LOCK_SECONDS:g} s: what holds it hangs")
        time.sleep(0.1)


def base_images(environ: Mapping[str, str]) -> dict[str, str]:
    """Find the images to build on: those named, those here, those of a registry, our own.

    Args:
        environ: Environment variables, which may name them.

    Returns:
        The variables of docker-compose.yml.

    Raises:
        SystemExit: If one can neither be had nor built.
    """
    with ThreadPoolExecutor(len(BASES)) as pool:
        found = pool.map(
            lambda name: _found_base(environ, name) or _base_image(*BASES[name]), BASES
        )
        return dict(zip(BASES, found, strict=True))


def _found_base(environ: Mapping[str, str], name: str) -> str:
    """Return the image to build on if it was named, or is here; else nothing."""
    if named := environ.get(name):
        return named
    usual, suite = BASES[name]
    for image in (f"pool-base:{suite}", usual):
        if _succeeds(["docker", "image", "inspect", image]):
            return image
    return ""


def _base_image(usual: str, suite: str) -> str:
    """Return the name of an image that exists, once it was pulled or built."""
    own = f"pool-base:{suite}"
    if _succeeds(["docker", "pull", "--quiet", usual], _PULL_SECONDS):
        return usual
    print(f"{usual} cannot be had: building {own} from Debian packages, a minute", flush=True)
    _run([str(DOCKER / "base-image.sh"), suite, own])
    return own


def image_names(compose: Sequence[str]) -> list[str]:
    """Return the names of the images in docker-compose.yml.

    Args:
        compose: The command of Compose.
    """
    done = subprocess.run(
        [*compose, "config"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=_ASK_SECONDS,
        check=True,
    )
    words = (line.split() for line in done.stdout.splitlines())
    return sorted({pair[1] for pair in words if len(pair) == 2 and pair[0] == "image:"})


def content_of_images(bases: Mapping[str, str]) -> str:
    """Return what stands in the label of images that are built from this clone.

    Args:
        bases: The images that they are built on, as `base_images` returns them.
    """
    files = [path for path in DOCKER.iterdir() if path.name != "base-image.sh"]
    ids = [_image(base, "{{.Id}}") for base in bases.values()]
    return fingerprint([*files, ROOT / "docker-compose.yml"], *ids)


def content_here() -> str:
    """Return what the images must be made of; nothing if something is missing for them."""
    bases = {name: _found_base(os.environ, name) for name in BASES}
    return content_of_images(bases) if wheels_are_ours() and all(bases.values()) else ""


def _have_content(compose: Sequence[str], content: str) -> bool:
    """Tell whether all images are there, and are made of this."""
    label = '{{index .Config.Labels "pool.content"}}'
    return all(_image(name, label) == content for name in image_names(compose))


def build_images(compose: Sequence[str]) -> str:
    """Build the images, and the wheels before, as far as they are not what they should be.

    Args:
        compose: The command of Compose.

    Returns:
        What they are made of.
    """
    build_wheels()
    bases = base_images(os.environ)
    content = content_of_images(bases)
    if _have_content(compose, content):
        return content
    print("building the images of the cluster", flush=True)
    # The plugin does both by itself.
    options = ["--parallel", "--force-rm"] if compose[0] == "docker-compose" else []
    try:
        _run([*compose, "build", *options], {**bases, "POOL_CONTENT": content})
    finally:
        # What the new images replaced, and the stages that they were made from.
        prune = ["docker", "image", "prune", "--force", "--filter", "label=pool.cluster"]
        _succeeds(prune, _BUILD_SECONDS)
    return content


def _image(name: str, template: str) -> str:
    """Return something about an image; nothing if there is none."""
    command = ["docker", "image", "inspect", "--format", template, name]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_ASK_SECONDS, check=False
    )
    return done.stdout.strip()


def _succeeds(command: Sequence[str], seconds: float = 30) -> bool:
    """Tell whether a command exists, ends in time and succeeds."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=seconds, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def _run(command: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
    """Run a command in the repository's root; what fails ends the program with its output."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **(environ or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_BUILD_SECONDS,
        check=False,
    )
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        raise SystemExit(f"failed with exit code {done.returncode}: {' '.join(command)}")


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments say.

    Args:
        arguments: One of wheels, images, up, down; up if there is none.

    Returns:
        0; 2 for other arguments.
    """
    action = arguments[0] if arguments else "up"
    if action not in ("wheels", "images", "up", "down") or len(arguments) > 1:
        print("usage: python3 noxfile.py cluster [wheels | images | up | down]", file=sys.stderr)
        return 2
    if action == "down":
        return subprocess.call([*compose_command(), "down", "--volumes"], cwd=ROOT)
    if action == "wheels":
        build_wheels()
        return 0
    with images():
        if action == "images":
            return 0
        compose = compose_command()
        ready = [*compose, "exec", "-T", "client", "python", "ready.py"]
        start = [*compose, "up", "--detach"]
        return subprocess.call(start, cwd=ROOT) or subprocess.call(ready, cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
