"""A real sshd on a high port of loopback, with keys, configuration and known hosts of its own.

Nothing of the user's ~/.ssh is read or written: ssh is called with ``-F`` and a configuration that
names every file. Usable without pytest too:

    with Sshd(folder) as sshd:
        Pool(hosts=sshd.host(2), ssh_command=sshd.command, …)
"""

import contextlib
import getpass
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from hosts.ports import free_port as free_port

#: What a test that is skipped for want of sshd says.
MISSING = "there is no sshd here: apt-get install openssh-server (it need not be started)"
#: Seconds that anything may take here; it takes less than one, unless the machine is busy.
_SECONDS = 60.0
#: Of util-linux: a test run that is killed leaves no server behind.
_WITH_US = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


def find() -> str | None:
    """The path of sshd, which is seldom on the PATH; None where there is none."""
    places = [os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/sbin"]
    path = shutil.which("sshd", path=os.pathsep.join(places))
    return path if shutil.which("ssh-keygen") else None


def worker_path() -> str:
    """A PATH on which commands find this Python and what is installed beside it."""
    return os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"])


class Sshd:
    """A server that lets in the user who runs it, by a key made for it.

    Args:
        folder: Where its files go; made if missing, and never removed here. Its path is absolute.
        lines: Lines for sshd_config, before ours: the first value that sshd meets counts.
        environment: What its sessions find in their environment. PATH leads to this Python unless
            it is given here; HOME, to `home`, where the shell looks for what it runs first.
    """

    def __init__(
        self,
        folder: Path,
        lines: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.user = getpass.getuser()
        self.known_hosts = folder / "known_hosts"
        self.config = folder / "config"
        self.authorized_keys = folder / "authorized_keys"
        self.log = folder / "log"
        self._lines = list(lines)
        self.home = folder / "home"
        given = {"PATH": worker_path(), "HOME": str(self.home)}
        self._environment = {**given, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def command(self) -> list[str]:
        """The value for ``ssh_command=``."""
        return ["ssh", "-F", str(self.config)]

    def host(self, workers: int | str, options: str = "") -> str:
        """The host string for so many workers; ``options`` follow a question mark."""
        return f"ssh://127.0.0.1:{self.port}/{workers}{'?' if options else ''}{options}"

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        for name in ("host_key", "user_key"):
            if not (self.folder / name).exists():
                make_key(self.folder / name)
        public = (self.folder / "host_key.pub").read_text()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {public}")
        self.authorized_keys.write_text((self.folder / "user_key.pub").read_text())
        self.write_config()
        (self.folder / "sshd_config").write_text("\n".join(self._server_lines()) + "\n")
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def write_config(self, *lines: str) -> None:
        """Write the client's configuration, with further lines, which come first."""
        ours = [
            f"IdentityFile {self.folder / 'user_key'}",
            "IdentitiesOnly yes",
            "IdentityAgent none",
            f"UserKnownHostsFile {self.known_hosts}",
            "GlobalKnownHostsFile none",
            "StrictHostKeyChecking yes",
            "UpdateHostKeys no",
        ]
        self.config.write_text("\n".join([*lines, *ours]) + "\n")

    def _server_lines(self) -> list[str]:
        given = " ".join(f'{name}="{value}"' for name, value in self._environment.items())
        return [
            *self._lines,
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.folder / 'host_key'}",
            f"AuthorizedKeysFile {self.authorized_keys}",
            "AuthenticationMethods publickey",
            "PermitRootLogin yes",
            # The folder lies below /tmp, which others can write to.
            "StrictModes no",
            "UsePAM no",
            "PidFile none",
            "PrintMotd no",
            f"SetEnv {given}",
        ]

    def start(self) -> None:
        """Start it, after `stop` again, and wait until it listens."""
        program = find()
        assert program is not None, MISSING
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd insists, as root
        words = [*_WITH_US, program, "-D", "-e", "-f", str(self.folder / "sshd_config")]
        said = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + _SECONDS
        while b"Server listening" not in self.log.read_bytes()[said:]:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"sshd does not come up:\n{self.log.read_text()}")
            time.sleep(0.01)

    def stop(self) -> None:
        """End the server and every session of it."""
        if self._process is not None:
            for pid in self.sessions():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.kill()
            self._process.wait()
            self._process = None

    def sessions(self) -> list[int]:
        """The processes that serve connections, one or two each."""
        found: list[int] = []
        if self._process is not None:
            todo = [self._process.pid]
            while todo:
                grown = [pid for parent in todo for pid in children(parent) if is_sshd(pid)]
                found += grown
                todo = grown
        return found

    def run(self, *words: str, ssh: Sequence[str] = ()) -> "subprocess.CompletedProcess[str]":
        """Run a command there with plain ssh, which gets the words in ``ssh`` as well."""
        target = ["-p", str(self.port), "127.0.0.1"]
        return subprocess.run(
            [*self.command, *ssh, *target, shlex.join(words)],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )


def make_key(path: Path) -> None:
    """Make a key pair without a passphrase."""
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)


def children(pid: int) -> list[int]:
    """The children of a process."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def is_sshd(pid: int) -> bool:
    """Is it a process of sshd, and not one that it runs for somebody?"""
    try:
        return Path(f"/proc/{pid}/comm").read_text().startswith("sshd")
    except OSError:
        return False
