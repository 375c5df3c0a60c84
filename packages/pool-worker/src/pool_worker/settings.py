"""What the client tells a supervisor at its start: one line of JSON on standard input."""

import contextlib
import json
import os
import sys
from dataclasses import dataclass, field, fields

from pool_worker import machine

#: The numerical libraries' own thread pools would otherwise each take every CPU in every worker.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

_NONE = type(None)
_TYPES: dict[object, tuple[type, ...]] = {
    str: (str,),
    bytes: (bytes,),
    int: (int,),
    bool: (bool,),
    str | None: (str, _NONE),
    int | None: (int, _NONE),
    float | None: (float, int, _NONE),
    list[str] | None: (list, _NONE),
}


class SettingsError(ValueError):
    """The settings cannot be used; the text says why and never shows the token."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to reach the client, and in which surroundings the tasks run."""

    address: str
    """Where the client listens: the path of a Unix socket, or ``tls://host:port``."""
    launch: bytes
    """The public name of this launch."""
    token: bytes = field(repr=False)
    """The secret of this launch."""
    host: str = "local"
    cwd: str | None = None
    sys_path: list[str] | None = None
    client_pid: int | None = None
    """The client's process id, for a client on this machine: its end is ours."""
    share: int = 0
    """Workers that share this host's CPUs for numerical libraries' threads; 0: leave them alone."""
    stderr: int | None = None
    """Descriptor that becomes the workers' standard error."""
    max_message: int | None = None
    """Largest message in bytes; None: any."""
    max_workers: int | None = None
    """Most workers at a time; None: any number."""
    credential: str | None = None
    """Path of the credential on this host; None: the usual place."""
    lease: float | None = None
    """Seconds without a Ping after which everything here ends; None: never."""
    output: bool = False
    """Forward what workers print, in place of leaving descriptors 1 and 2 alone."""
    modules: bool = False
    """Ask the client for modules that are missing here."""
    unlink: bool = False
    """Remove the socket ``address`` at the end."""

    @classmethod
    def parse(cls, line: bytes | str) -> "Settings":
        """Read the line. Raises SettingsError."""
        try:
            given = json.loads(line)
            # Another release's fields do no harm here; the handshake says which releases fit.
            values = {f.name: given[f.name] for f in fields(cls) if f.name in given}
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
        if len(self.launch) != 8 or len(self.token) != 32:
            raise SettingsError("unusable settings (launch or token)")
        for each in fields(self):
            value = getattr(self, each.name)
            if type(value) not in _TYPES[each.type]:
                raise SettingsError(f"unusable settings ({each.name})")
        if not set(map(type, self.sys_path or ())) <= {str}:
            raise SettingsError("unusable settings (sys_path)")
        for name in ("lease", "max_workers"):
            limit = getattr(self, name)
            if limit is not None and not limit > 0:
                raise SettingsError(f"unusable settings ({name})")

    def apply(self) -> None:
        """Make this process's surroundings those of the tasks; workers inherit them."""
        if self.share > 0:
            threads = str(max(1, machine.cpus() // self.share))
            for name in THREAD_VARIABLES:
                os.environ.setdefault(name, threads)
        if self.cwd is not None:
            # It was inherited. A user with other rights than whoever went there may not enter it.
            with contextlib.suppress(PermissionError):
                os.chdir(self.cwd)
        if self.sys_path is not None:
            sys.path[:] = self.sys_path
