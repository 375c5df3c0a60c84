"""Runs on an ssh host, in whichever Python was found there: starts ``pool-worker --launch``.

Its text is sent (see `bootstrap`), so it uses the standard library alone, and as little of it as
can be. A worker that is installed is preferred; else the client sends the sources, which are run
from memory: nothing is written, so nothing can be left behind. Forked workers inherit them.
"""

import json
import os
import sys
import zlib
from contextlib import suppress
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import CodeType, ModuleType
from typing import Any, NoReturn

#: Where the modules seem to lie: absolute, as paths are, and nowhere.
PLACE = "/<pool-client>/"
_OURS = ("pool_worker", "pool_protocol", "cloudpickle")
#: Seconds for an installed pool-worker to say what it is.
_PATIENCE = 10.0


class Sources:
    """Finds and loads modules among sources that were sent: file name, text."""

    def __init__(self, texts: dict[str, str]) -> None:
        self._texts = texts

    def _file(self, name: str) -> str:
        path = name.replace(".", "/")
        package = f"{path}/__init__.py"
        return package if package in self._texts else f"{path}.py"

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """As importlib asks a finder."""
        file = self._file(name)
        if file not in self._texts:
            return None
        loader: Any = self
        spec = ModuleSpec(name, loader, origin=PLACE + file, is_package=self.is_package(name))
        spec.has_location = True  # modules have a __file__, by which the worker knows its own
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As importlib asks a loader: an ordinary module will do."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """As importlib asks a loader."""
        exec(self.get_code(module.__name__), module.__dict__)

    def get_code(self, name: str) -> CodeType:
        """The module, compiled."""
        file = self._file(name)
        return compile(self._texts[file], PLACE + file, "exec")

    def get_source(self, name: str) -> str:
        """The module's text: tracebacks show its lines."""
        return self._texts[self._file(name)]

    def is_package(self, name: str) -> bool:
        """Does the module hold others?"""
        return self._file(name).endswith("/__init__.py")


def installed(protocol: int) -> bool:
    """Can this Python import a worker that speaks this version of the protocol?"""
    try:
        if find_spec("cloudpickle") is not None and find_spec("pool_worker") is not None:
            import_module("pool_worker.cli")
            spoken: int = import_module("pool_protocol").PROTOCOL_VERSION
            if spoken == protocol:
                return True
    except Exception:
        pass  # a broken one is none
    for name in [name for name in sys.modules if name.partition(".")[0] in _OURS]:
        del sys.modules[name]
    return False


def program(protocol: int) -> str | None:
    """The path of a ``pool-worker`` that speaks this version of the protocol, in its own Python."""
    folders = [*os.environ.get("PATH", "").split(os.pathsep), os.path.expanduser("~/.local/bin")]
    for path in [os.path.join(folder, "pool-worker") for folder in folders]:
        if os.path.isfile(path) and os.access(path, os.X_OK):
            import subprocess  # takes longer to load than all of this

            try:
                said = subprocess.run(
                    [path], stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE
                ).stdout
            except (OSError, subprocess.SubprocessError):
                continue
            spoken = [line.split()[-2:] for line in said.splitlines()]
            if [b"protocol", b"%d" % protocol] in spoken:
                return path
    return None


def receive() -> dict[str, str]:
    """Take the sources from standard input, and not a byte more."""
    length = b""
    while not length.endswith(b"\n"):
        length += _read(1)
    packed = bytearray()
    while len(packed) < int(length):
        packed += _read(int(length) - len(packed))
    texts: dict[str, str] = json.loads(zlib.decompress(packed))
    return texts


def _read(size: int) -> bytes:
    data = os.read(0, min(size, 1 << 16))
    if not data:
        sys.exit("pool-worker: the client has gone")
    return data


def unpack(texts: dict[str, str], folder: str) -> None:
    """Make the sources files in a folder, and let this Python and those it starts find them."""
    for name, text in texts.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    sys.path.insert(0, folder)
    others = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = folder + (os.pathsep + others if others else "")


def run() -> NoReturn:
    """Be pool-worker; ends the process."""
    sys.exit(import_module("pool_worker.cli").main(["--launch"]))


def run_sent(texts: dict[str, str], forks: bool) -> NoReturn:
    """Be the worker that was sent; ``forks``: workers are copies of this process."""
    if forks:
        sys.meta_path.insert(0, Sources(texts))
        run()
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="pool-worker-") as folder:
        unpack(texts, folder)
        run()


def main(mark: str, protocol: int, exact: bool, socket: str, left: list[str]) -> NoReturn:
    """Say what is here, take what is missing, and be pool-worker.

    Args:
        mark: What begins the line that the client waits for.
        protocol: The version of the wire protocol.
        exact: Use this very Python, not another that has a pool-worker.
        socket: Path of the tunnel's socket here. pool-worker removes it at its end; but the client
            may be gone before it has said so.
        left: Paths of the sockets of starts before this one: what was killed then, or did not even
            run, could not remove them.
    """
    for path in left:
        with suppress(OSError):
            os.unlink(path)
    try:
        begin(mark, protocol, exact)
    finally:
        with suppress(OSError):
            os.unlink(socket)


def begin(mark: str, protocol: int, exact: bool) -> NoReturn:
    """All of `main` but the end."""
    here = installed(protocol)
    path = None if here or exact else program(protocol)
    told = {
        "python": sys.version.split()[0],
        "executable": sys.executable,
        "installed": here or path is not None,
    }
    os.write(2, f"{mark}\n".encode())  # what comes after this is ours
    os.write(1, f"\n{mark} ready {json.dumps(told)}\n".encode())
    # Nobody reads the rest of standard output; standard error is kept.
    os.dup2(2, 1)
    if here:
        run()
    if path is not None:
        os.execv(path, [path, "--launch"])
    run_sent(receive(), forks=sys.platform == "linux")
