"""Hosts without containers: an ssh server and a spawner on this machine's loopback."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from hosts import sshd
from hosts.ports import free_port

from harness.agent import Agent
from harness.hosts import Host

ROOT = Path(__file__).resolve().parent.parent.parent
REMOTE = ROOT / "integration" / "remote"
MARK = "POOL_TEST_HOST"

_SECONDS = 60.0


class SshHost:
    """An ssh server with keys of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._mark = f"{folder}:{name}:"
        environment = {MARK: self._mark}
        if name.startswith("bare"):
            environment["PATH"] = f"{bare_python(folder / name)}:/usr/bin:/bin"
        self.server = sshd.Sshd(folder / name, environment=environment)

    @property
    def pool_name(self) -> str:
        """The name that the pool gives it, by an alias in the ssh configuration."""
        return self.name

    def spec(self, workers: int | str, options: str = "") -> str:
        """Return the host string for so many workers."""
        return f"ssh://{self.name}/{workers}{'?' if options else ''}{options}"

    def stop(self) -> None:
        """End the server and its sessions."""
        self.server.stop()

    def start(self) -> None:
        """Start it again."""
        self.server.start()

    def cut(self) -> None:
        """End its sessions."""
        for pid in self.server.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def processes(self) -> list[str]:
        """Return the command lines of what its sessions started."""
        return list(marked(self._mark).values())

    def read(self, path: str) -> str:
        """Return the text of a file."""
        return read(path)


class LanHost:
    """A spawner."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        # Each has an address of its own, as loopback has many.
        self.pool_name = f"127.0.0.{name.removeprefix('lan')}"
        self._mark = f"{folder}:{name}:"
        self._port = free_port()
        self._credential = folder / "credential.pem"
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def spec(self, workers: int | str, options: str = "") -> str:
        """Return the host string for so many workers."""
        return f"{self.pool_name}:{self._port}/{workers}{'?' if options else ''}{options}"

    def stop(self) -> None:
        """Kill the spawner."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        command = [sys.executable, "-m", "pool_spawner", "--host", self.pool_name]
        command += ["--port", str(self._port), "--credential", str(self._credential)]
        said = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, MARK: self._mark}
            )
        end = time.monotonic() + _SECONDS
        while b"listening on" not in self._log.read_bytes()[said:]:
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise AssertionError(f"the spawner does not come up:\n{self._log.read_text()}")
            time.sleep(0.01)

    def cut(self) -> None:
        """There are no sessions here."""
        raise NotImplementedError

    def processes(self) -> list[str]:
        """Return the command lines of the spawner and of what it started."""
        return list(marked(self._mark).values())

    def read(self, path: str) -> str:
        """Return the text of a file."""
        return read(path)


def bare_python(folder: Path) -> Path:
    """Make a folder for PATH with a Python that has none of our packages, and return it."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    minor = f"python3.{sys.version_info.minor}"
    (programs / "python3").symlink_to(Path(sys.base_prefix, "bin", minor))
    return programs


def read(path: str) -> str:
    """Return the text of a file; nothing if there is none."""
    file = Path(path)
    return file.read_text(encoding="utf-8") if file.exists() else ""


def marked(mark: str) -> dict[int, str]:
    """Return the command lines of the processes with a variable that begins so."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            variables = (process / "environ").read_bytes().split(b"\0")
            if any(each.startswith(f"{MARK}={mark}".encode()) for each in variables):
                words = (process / "cmdline").read_bytes().decode(errors="replace")
                found[int(process.name)] = words.replace("\0", " ")
    return found


def end_marked(mark: str) -> None:
    """End the processes with a variable that begins so, and wait until they are gone."""
    end = time.monotonic() + _SECONDS
    while found := marked(mark):
        assert time.monotonic() < end, f"these do not end: {found}"
        for pid in found:
            kill(pid)
        time.sleep(0.01)


class Loopback:
    """Hosts of both kinds, in the manner of the cluster of containers.

    Args:
        services: Names from docker-compose.yml; those that begin with lan are spawners, the others
            ssh servers.
    """

    def __init__(self, services: Sequence[str]) -> None:
        self._stack = contextlib.ExitStack()
        self._services = services
        self._servers: list[sshd.Sshd] = []
        self.hosts: dict[str, Host] = {}

    def __enter__(self) -> Self:
        """Start them."""
        with contextlib.ExitStack() as stack:
            # A Unix socket's path has 107 bytes at most, so this one's is short.
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pl-")))
            # What still ran would write into the folder while it is removed.
            stack.callback(end_marked, str(folder))
            self.folder = folder
            self.log = str(folder / "executions")
            self._init(folder)
            for name in self._services:
                host: Host
                if name.startswith("lan"):
                    host = LanHost(folder, name)
                    host.start()
                    stack.callback(host.stop)
                else:
                    ssh = SshHost(folder, name)
                    self._servers.append(stack.enter_context(ssh.server))
                    host = ssh
                self.hosts[name] = host
            self._write_config()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def _init(self, folder: Path) -> None:
        self._credential = folder / "credential.pem"
        if any(name.startswith("lan") for name in self._services):
            command = [sys.executable, "-m", "pool_spawner", "init"]
            command += ["--credential", str(self._credential)]
            subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)

    def _write_config(self) -> None:
        """Write an ssh configuration that knows all servers, each by its name."""
        lines = []
        for server in self._servers:
            lines += [f"Host {server.folder.name}", "HostName 127.0.0.1", f"Port {server.port}"]
            lines += [f"IdentityFile {server.folder / 'user_key'}"]
            lines += [f"UserKnownHostsFile {server.known_hosts}"]
        lines += ["Host *", "IdentitiesOnly yes", "IdentityAgent none", "StrictHostKeyChecking yes"]
        (self.folder / "ssh_config").write_text("\n".join(lines) + "\n")

    def notes(self) -> list[str]:
        """Return the texts that tasks left: one file, as all hosts are one machine."""
        return [read(self.log)]

    def agent(self, **environment: str) -> Agent:
        """Start a client in a process of its own."""
        env = [f"{name}={value}" for name, value in environment.items()]
        return Agent(["env", *env, sys.executable, str(REMOTE / "agent.py")], kill)

    def run(self, *command: str) -> str:
        """Run a command, and return what it prints."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
        return done.stdout

    def options(self) -> dict[str, Any]:
        """Return the keys to these hosts."""
        command = ["ssh", "-F", str(self.folder / "ssh_config")]
        return {"credential": str(self._credential), "ssh_command": command}


def kill(pid: int) -> None:
    """End a process with SIGKILL."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
