"""This machine: ``pool-worker`` as a child process."""

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from typing import Any

from pool_client.errors import HostError, describe_exit
from pool_client.launchers.base import HostSpec, Launched, Order
from pool_client.launchers.bootstrap import PACKAGES
from pool_client.patience import Patience

#: What the interpreter runs: ``-m pool_worker``, which it also finds in the folders that are named
#: after the first argument. Not in front: a random.py there must not shadow the standard library's.
_PROGRAM = (
    "import runpy, sys; sys.path += sys.argv[2:]; del sys.argv[2:]; "
    "runpy.run_module('pool_worker', run_name='__main__', alter_sys=True)"
)

#: How much of the standard error is kept, in bytes.
_TAIL = 8192
#: Seconds for the program to end after it was told to, before it is killed.
_PATIENCE = 5.0


class LocalLauncher:
    """Starts ``pool-worker`` with this interpreter."""

    local = True

    async def launch(self, spec: HostSpec, order: Order) -> Launched:
        """Start the program; it also ends when this process does, whoever holds its pipes."""
        if spec.options:
            raise HostError(spec.name, "local workers take no options: they run this Python")
        stderr = _standard_error()
        settings = {**order.settings, "client_pid": os.getpid(), "stderr": stderr}
        # -P: nor must one in the working directory.
        command = [sys.executable, *_options(), "-P", "-c", _PROGRAM, "--launch", *_folders()]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=None if _is_stream(1) else subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(stderr,),
                start_new_session=True,
            )
        except OSError as error:
            raise HostError(spec.name, f"cannot start {command[0]}: {error}") from error
        finally:
            os.close(stderr)
        return _Child(process, settings)


def _options() -> list[str]:
    """The interpreter's own options, such as -O and -W, that tasks should meet too.

    What -v says would fill the pipe of the standard error, which is seldom read.
    """
    options: list[str] = getattr(subprocess, "_args_from_interpreter_flags", list)()
    return [option for option in options if not option.startswith("-v")]


def _folders() -> list[str]:
    """Where this process has found the program, which may be on a path of its own making."""
    specs = [find_spec(package) for package in PACKAGES]
    places = [place for spec in specs if spec for place in spec.submodule_search_locations or ()]
    return list(dict.fromkeys(map(os.path.dirname, places)))


def _is_stream(descriptor: int) -> bool:
    """False if it is closed, or has been taken for a file that no other program is to inherit."""
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False


def _standard_error() -> int:
    """A copy of this process's, or of nowhere, whose number is not that of a standard stream."""
    with open(os.devnull, "wb") as null:
        source = 2 if _is_stream(2) else null.fileno()
        return fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, 3)


class _Child:
    """The running program."""

    def __init__(self, process: "subprocess.Popen[bytes]", settings: dict[str, Any]) -> None:
        assert process.stdin is not None and process.stderr is not None
        self._process = process
        self._stdin = process.stdin
        self._stderr = process.stderr
        self._tail = b""
        os.set_blocking(self._stderr.fileno(), False)
        with contextlib.suppress(OSError):  # it has ended already; ``ended`` says why
            self._stdin.write(json.dumps(settings).encode() + b"\n")
            self._stdin.flush()

    def ended(self) -> str | None:
        """How the program ended; None while it runs."""
        code = self._process.poll()
        return None if code is None else f"pool-worker has ended: {describe_exit(code)}"

    def errors(self) -> str:
        """The tail of its standard error so far."""
        with contextlib.suppress(OSError, ValueError):
            while data := os.read(self._stderr.fileno(), 65536):
                self._tail = (self._tail + data)[-_TAIL:]
        return self._tail.decode(errors="replace").strip()

    def hang_up(self) -> None:
        """Close its standard input: it ends, and everything that it started."""
        with contextlib.suppress(OSError):
            self._stdin.close()

    def kill(self) -> None:
        """End it by force; its workers die with it."""
        self._process.kill()

    def close(self) -> None:
        """Let go of the pipes and reap the program, which is about to end or has ended."""
        self.hang_up()
        patience = Patience(_PATIENCE)
        while self._process.poll() is None and not patience.over():
            time.sleep(0.002)
        if self._process.poll() is None:
            self.kill()
            self._process.wait()
        self._stderr.close()

    def abandon(self) -> None:
        """Close the pipes in a forked child; the program is the parent's."""
        for pipe in (self._stdin, self._stderr):
            with contextlib.suppress(OSError):
                pipe.close()
        # Popen would otherwise try to reap a process that is not this one's child.
        self._process.returncode = 0
