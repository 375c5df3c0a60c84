"""This machine: ``pool-worker`` as a child process."""

import contextlib
import json
import os
import subprocess
import sys
import time
from typing import Any

from pool_client.errors import HostError
from pool_client.launchers.base import HostSpec, Launched

#: How much of the standard error is kept, in bytes.
_TAIL = 8192
#: Seconds for the program to end after it was told to, before it is killed.
_PATIENCE = 5.0


class LocalLauncher:
    """Starts ``pool-worker`` with this interpreter."""

    def launch(self, spec: HostSpec, settings: dict[str, Any]) -> Launched:
        """Start the program; it also ends when this process does, whoever holds its pipes."""
        try:
            stderr = os.dup(2)
        except OSError:
            stderr = os.open(os.devnull, os.O_WRONLY)
        local = {**settings, "client_pid": os.getpid(), "stderr": stderr}
        # -P: a random.py in the working directory must not shadow the standard library's.
        command = [sys.executable, "-P", "-m", "pool_worker", "--launch"]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(stderr,),
                start_new_session=True,
            )
        except OSError as error:
            raise HostError(spec.name, f"cannot start {command[0]}: {error}") from error
        finally:
            os.close(stderr)
        return _Child(process, local)


class _Child:
    """The running program."""

    def __init__(self, process: "subprocess.Popen[bytes]", settings: dict[str, Any]) -> None:
        assert process.stdin is not None and process.stderr is not None
        self._process = process
        self._stdin = process.stdin
        self._stderr = process.stderr
        self._tail = b""
        os.set_blocking(self._stderr.fileno(), False)
        with contextlib.suppress(OSError):  # it has ended already; exit_code says why
            self._stdin.write(json.dumps(settings).encode() + b"\n")
            self._stdin.flush()

    def exit_code(self) -> int | None:
        """How the program ended; None while it runs."""
        return self._process.poll()

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
        deadline = time.monotonic() + _PATIENCE
        while self._process.poll() is None and time.monotonic() < deadline:
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
