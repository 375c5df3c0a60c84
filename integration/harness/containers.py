"""Hosts that are containers: the services of docker-compose.yml, under a project of their own."""

import contextlib
import io
import ipaddress
import itertools
import os
import random
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import docker
from docker.errors import APIError, NotFound
from docker.models.containers import Container as DockerContainer

from harness.agent import Agent
from tools.bootstrap import ROOT
from tools.cluster import compose_command

LABEL = "com.docker.compose.project"
PREFIX = "pool-test"
REMOTE = Path(__file__).resolve().parent.parent / "remote"
HOME = "/home/pool"

_SECONDS = 240
_TRIES = 10
_SUBNETS = range(0, 2**17, 32)
"""Offsets of networks with room for 29 machines in 198.18.0.0/15, which is set aside for tests."""
_SIGNAL = """
import os, pathlib, re, sys
pattern, number, most = sys.argv[1:]
found = []
for process in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        words = (process / "cmdline").read_bytes().replace(b"\\0", b" ").decode()
    except OSError:
        continue
    if re.search(pattern, words) and int(process.name) != os.getpid():
        found.append(int(process.name))
for pid in sorted(found)[:int(most)]:
    os.kill(pid, int(number))
"""
_numbers = itertools.count()


class Container:
    """A container of a cluster."""

    def __init__(self, cluster: "Containers", name: str, container: Any) -> None:
        self.name = self.pool_name = name
        self.inner = container
        self._cluster = cluster

    def spec(self, workers: int | str, options: str = "") -> str:
        """Return the host string for so many workers."""
        scheme = "" if self.name.startswith("lan") else "ssh://"
        return f"{scheme}{self.name}/{workers}{'?' if options else ''}{options}"

    def stop(self) -> None:
        """Kill the container."""
        self.inner.kill()
        self.inner.wait(timeout=_SECONDS)

    def start(self) -> None:
        """Start it again, with its files as they were."""
        self.inner.start()

    def cut(self) -> None:
        """Kill the sessions of its ssh server."""
        self.signal("^sshd.*@", signal.SIGKILL)

    def signal(self, pattern: str, number: int, most: int = 1000) -> None:
        """Send a signal to processes in it, those that were started first.

        Args:
            pattern: Is found in their command lines.
            number: Of the signal.
            most: How many get it.
        """
        self.run("python3", "-c", _SIGNAL, pattern, str(int(number)), str(most))

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop every process in it (``docker pause``)."""
        self._freeze()
        try:
            yield
        finally:
            self.inner.unpause()

    def _freeze(self) -> None:
        end = time.monotonic() + _SECONDS
        while True:
            try:
                self.inner.pause()
                return
            except APIError as error:
                # Of control groups of version 1, where processes appear meanwhile: it has another
                # chance.
                if "unable to freeze" not in str(error) or time.monotonic() > end:
                    raise
            time.sleep(0.2)

    @contextlib.contextmanager
    def disconnected(self) -> Iterator[None]:
        """Take it off the network; it gets the same address again at the end."""
        self.inner.reload()
        network = self._cluster.network()
        (mine,) = self.inner.attrs["NetworkSettings"]["Networks"].values()
        network.disconnect(self.inner)
        try:
            yield
        finally:
            network.connect(self.inner, ipv4_address=mine["IPAddress"], aliases=[self.name])

    def processes(self) -> list[str]:
        """Return the command lines of its processes; none if it does not run."""
        try:
            rows = self.inner.top(ps_args="-eo pid,args")["Processes"]
        except APIError:
            self.inner.reload()
            if self.inner.status == "running":
                raise
            return []
        return [row[-1] for row in rows or [] if "<defunct>" not in row[-1]]

    def read(self, path: str) -> str:
        """Return the text of a file in it, also when it does not run."""
        try:
            chunks, _ = self.inner.get_archive(path)
        except NotFound:
            return ""
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
            (member,) = archive.getmembers()
            file = archive.extractfile(member)
            return file.read().decode() if file else ""

    def put(self, folder: Path, into: str) -> None:
        """Copy a folder into it."""
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            archive.add(folder, folder.name, filter=_as_user)
        self.inner.put_archive(into, data.getvalue())

    def run(self, *command: str, user: str = "", check: bool = True) -> str:
        """Run a command in it, and return what it prints on its standard output."""
        code, streams = self.inner.exec_run(list(command), user=user, demux=True)
        out, err = (str((text or b"").decode(errors="replace")) for text in streams)
        assert not (check and code), f"{self.name}: {command} ended with {code}:\n{out}{err}"
        return out

    def address(self) -> str:
        """Return its address on the cluster's network."""
        self.inner.reload()
        (mine,) = self.inner.attrs["NetworkSettings"]["Networks"].values()
        return str(mine["IPAddress"])


def _as_user(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Give a file to the user of the containers."""
    member.uid = member.gid = 1000
    return None if "__pycache__" in member.name else member


class Containers:
    """A cluster of some services; everything of it is gone when the block is left.

    Args:
        services: Names from docker-compose.yml, besides the client.
    """

    def __init__(self, services: Sequence[str]) -> None:
        self.log = "/tmp/executions"
        self.project = project_name(os.getpid(), next(_numbers))
        self.hosts: dict[str, Container] = {}
        self.api = connect()
        self.client: Container
        self.intruder: Container
        self._services = services

    def __enter__(self) -> Self:
        """Start it."""
        try:
            self._up()
            for container in self.api.containers.list(filters=self._filter()):
                name = container.labels["com.docker.compose.service"]
                self.hosts[name] = Container(self, name, container)
            self.client = self.hosts.pop("client")
            self.client.put(REMOTE, HOME)
            self.wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            sweep(self.api, self.project)
        finally:
            self.api.close()

    def _up(self) -> None:
        files = [ROOT / "docker-compose.yml", ROOT / "integration" / "docker-compose.yml"]
        options = [option for file in files for option in ("--file", str(file))]
        command = [*compose_command(), *options, "--project-name", self.project, "up"]
        for last in range(1 - _TRIES, 1):
            # Of its own: a program that sets the seed makes the same choice everywhere.
            first = random.SystemRandom().choice(_SUBNETS)
            subnet = f"{ipaddress.IPv4Address('198.18.0.0') + first}/27"
            done = subprocess.run(
                [*command, "--detach", "--no-build", "client", *self._services],
                env={**os.environ, "POOL_TEST_SUBNET": subnet},
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
            if not done.returncode:
                return
            # Another network may have that range.
            if not last or "overlap" not in done.stderr:
                raise AssertionError(f"the cluster does not start:\n{done.stderr}")

    def _filter(self) -> dict[str, str]:
        return {"label": f"{LABEL}={self.project}"}

    def wait_until_ready(self) -> None:
        """Wait until every host listens."""
        ports = {name: 8899 if name.startswith("lan") else 22 for name in self.hosts}
        self.client.run("python", "ready.py", *(f"{name}:{port}" for name, port in ports.items()))

    def network(self) -> Any:
        """Return the network that all are on."""
        (network,) = self.api.networks.list(filters=self._filter())
        return network

    def add(self, name: str, like: str, **options: Any) -> Container:
        """Start one more container, with the keys of another if it is like one.

        Args:
            name: By which the others find it; those of ssh hosts begin with ssh.
            like: The service whose image and volumes it has.
            options: For the Docker SDK's ``containers.run``.
        """
        inner = self.hosts[like].inner
        labels = {LABEL: self.project, "com.docker.compose.service": name}
        given = {"volumes_from": [inner.id], "init": True, **options}
        made = self.api.containers.create(
            inner.image.id,
            labels=labels,
            network=self.network().name,
            sysctls={"net.ipv4.ip_unprivileged_port_start": 0},
            hostname=name,
            name=f"{self.project}-{name}",
            detach=True,
            **given,
        )
        made.start()
        self.hosts[name] = Container(self, name, made)
        return self.hosts[name]

    def notes(self) -> list[str]:
        """Return the texts that tasks left: a file for each host."""
        return [host.read(self.log) for host in self.hosts.values()]

    def agent(self, **environment: str) -> Agent:
        """Start a client in the client's container."""
        command = ["docker", "exec", "--interactive"]
        command += [f"--env={name}={value}" for name, value in environment.items()]
        identity = self.client.inner.id
        return Agent([*command, identity, "python", "remote/agent.py"], self._kill)

    def _kill(self, pid: int) -> None:
        self.client.run("sh", "-c", f"kill -KILL {pid}", check=False)

    def run(self, *command: str) -> str:
        """Run a command in the client's container, and return what it prints."""
        return self.client.run(*command)

    def options(self) -> dict[str, Any]:
        """Nothing: the client's container is set up for its hosts."""
        return {}


def connect() -> Any:
    """Connect to the Docker that the command line uses."""
    if "DOCKER_HOST" in os.environ:
        return docker.from_env(timeout=_SECONDS)
    command = ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
    return docker.DockerClient(base_url=done.stdout.strip(), timeout=_SECONDS)


def sweep(api: Any, project: str) -> None:
    """Remove the containers, networks and volumes of a project, which another may do as well.

    Args:
        api: Docker's client.
        project: Its name.
    """
    end = time.monotonic() + _SECONDS
    while True:
        errors = [error for item in items(api, project) if (error := remove(item))]
        if not errors:
            return
        # A container is removed by somebody else, and what it used cannot be before that.
        if time.monotonic() > end:
            raise errors[0]
        time.sleep(0.2)


def items(api: Any, project: str | None = None) -> list[Any]:
    """Return the containers, networks and volumes of a project, or of all, in this order."""
    mine = {"label": f"{LABEL}={project}" if project else LABEL}
    # Not asked for one by one: another test may remove some between the list and the question.
    containers = api.containers.list(all=True, sparse=True, filters=mine)
    return [*containers, *api.networks.list(filters=mine), *api.volumes.list(filters=mine)]


def remove(item: Any) -> APIError | None:
    """Remove a container, network or volume; returns why that could not be done just now."""
    options = {"force": True, "v": True} if isinstance(item, DockerContainer) else {}
    try:
        item.remove(**options)
    except NotFound:
        pass
    except APIError as error:
        return error
    return None


def sweep_dead(api: Any) -> list[str]:
    """Remove what runs left behind that were killed, and return the names of their projects."""
    found = {(item.attrs.get("Labels") or {}).get(LABEL, "") for item in items(api)}
    dead = sorted(name for name in found if _is_dead(name))
    for project in dead:
        sweep(api, project)
    return dead


def project_name(pid: int, number: int) -> str:
    """Return the name of a project of a process, which no other process will have."""
    return f"{PREFIX}-{pid}-{_started(pid)}-{number}"


def _started(pid: int) -> str:
    """Return when a process was started, in the kernel's ticks since the boot; 0: there is none."""
    try:
        stat = Path("/proc", str(pid), "stat").read_text()
    except OSError:
        return "0"
    # Behind the name of the program, which may have blanks and brackets.
    return stat.rpartition(")")[2].split()[19]


def _is_dead(project: str) -> bool:
    """Tell whether a project is of a run that is over."""
    prefix, _, rest = project.rpartition(PREFIX + "-")
    pid, _, more = rest.partition("-")
    return not prefix and pid.isdigit() and _started(int(pid)) != more.partition("-")[0]
