"""LAN hosts on loopback: throw-away credentials, and pool-spawner as a process.

Usable without pytest too:

    credential = make_credential(folder)
    with Spawner(credential) as spawner:
        Pool(hosts=spawner.host(2), credential=credential, …)
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from hosts.ports import free_port

#: Seconds that anything may take here; it takes less than one, unless the machine is busy.
_SECONDS = 60.0


def make_credential(folder: Path) -> Path:
    """A new credential, made by ``pool-spawner init``."""
    path = folder / "credential.pem"
    command = [sys.executable, "-m", "pool_spawner", "init", "--credential", str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=_SECONDS)
    return path


def certificate(credential: Path) -> str:
    """The part of a credential that is no secret."""
    text = credential.read_text()
    return text[text.index("-----BEGIN CERTIFICATE") :]


class Spawner:
    """``python -m pool_spawner``, serving with a credential until it is stopped.

    ``flags`` are further ones; ``before`` is put before the command, such as ``ip netns exec``.
    """

    def __init__(
        self,
        credential: Path | str,
        *flags: str,
        address: str = "127.0.0.1",
        before: Sequence[str] = (),
    ) -> None:
        self.address = address
        self.records: list[dict[str, Any]] = []
        self.lines: list[str] = []
        self._command = [*before, sys.executable, "-m", "pool_spawner", "--log-format", "json"]
        self._command += ["--host", address, "--credential", str(credential), *flags]
        self.port = free_port()
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens; again too."""
        self.records.clear()
        self.lines.clear()
        command = [*self._command, "--port", str(self.port)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read, args=(self.process,))
        self._reader.start()
        self.logged("listening")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def host(self, workers: int | str) -> str:
        """The host string for so many workers."""
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{address}:{self.port}/{workers}"

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                self.lines.append(line)
                with contextlib.suppress(ValueError):
                    self.records.append(json.loads(line))

    def logged(self, text: str) -> dict[str, Any]:
        """Wait for a log record that holds a text."""
        deadline = time.monotonic() + _SECONDS
        while True:
            for record in list(self.records):
                if text in record["message"]:
                    return record
            ended = self.process.poll() is not None and not self._reader.is_alive()
            if ended or time.monotonic() > deadline:
                raise AssertionError(f"{text!r} is not in the log: {''.join(self.lines)}")
            time.sleep(0.01)

    def workers(self) -> list[int]:
        """The pids of the pool-workers that it started."""
        found: list[int] = []
        with contextlib.suppress(OSError):
            for one in Path(f"/proc/{self.process.pid}/task").iterdir():
                with contextlib.suppress(OSError):  # this thread is gone; others may have children
                    found += map(int, (one / "children").read_text().split())
        return found

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit code."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, number)
        code = self.process.wait(_SECONDS)
        self._reader.join(_SECONDS)
        return code

    def kill(self) -> None:
        """End it by force, if it runs."""
        self.stop(signal.SIGKILL)
