"""What the client tells a supervisor at its start: one line of JSON on standard input."""

import json
import os
import sys
from dataclasses import dataclass, field
from typing import Any

#: The numerical libraries' own thread pools would otherwise each take every CPU in every worker.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class SettingsError(ValueError):
    """The settings cannot be used; the text says why and never shows the token."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to reach the client, and in which surroundings the tasks run."""

    address: str
    """Path of the client's Unix socket."""
    launch: bytes
    """The public name of this launch."""
    token: bytes = field(repr=False)
    """The secret of this launch."""
    host: str = "local"
    cwd: str | None = None
    sys_path: list[str] | None = None
    client_pid: int | None = None
    """The client's process id, for a client on this machine: its end is ours."""
    threads: int = 0
    """Share of the CPUs for numerical libraries' thread pools; 0: leave them alone."""
    stderr: int | None = None
    """Descriptor that becomes the workers' standard error."""
    max_message: int | None = None
    """Largest message in bytes; None: any."""

    @classmethod
    def parse(cls, line: bytes | str) -> "Settings":
        """Read the line. Raises SettingsError."""
        try:
            values = json.loads(line)
            for name in ("launch", "token"):
                values[name] = bytes.fromhex(values[name])
            settings = cls(**values)
        except (ValueError, TypeError, KeyError) as error:
            # The exception's text may quote the line, and with it the token.
            raise SettingsError(f"unusable settings ({type(error).__name__})") from None
        settings._check()
        return settings

    def line(self) -> bytes:
        """What ``parse`` reads; it holds the token."""
        values = {name: getattr(self, name) for name in self.__slots__}
        values |= {"launch": self.launch.hex(), "token": self.token.hex()}
        return json.dumps(values).encode() + b"\n"

    def _check(self) -> None:
        if not isinstance(self.address, str) or len(self.launch) != 8 or len(self.token) != 32:
            raise SettingsError("unusable settings (address, launch or token)")
        for name in ("client_pid", "threads", "stderr", "max_message"):
            value: Any = getattr(self, name)
            if value is not None and type(value) is not int:
                raise SettingsError(f"unusable settings ({name})")

    def apply(self) -> None:
        """Make this process's surroundings those of the tasks; workers inherit them."""
        for name in THREAD_VARIABLES if self.threads else ():
            os.environ.setdefault(name, str(self.threads))
        if self.cwd is not None:
            os.chdir(self.cwd)
        if self.sys_path is not None:
            sys.path[:] = self.sys_path
