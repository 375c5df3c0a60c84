"""Programs outside Python that some checks need: whether they are here, and how to get them."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

POLICY = Path("/usr/sbin/policy-rc.d")
"""Where Debian's packages ask whether they may start their daemons."""

_DOCKER_SECONDS = 30
_APT_SECONDS = 600
_POLICY_TEXT = "#!/bin/sh\n# For the time of one installation.\nexit 101\n"


@dataclass(frozen=True)
class Need:
    """A program, and what it is for.

    Attributes:
        program: Its name; it may lie outside the PATH of ordinary users.
        package: Debian's package.
        purpose: What cannot be done without it.
    """

    program: str
    package: str
    purpose: str

    def met(self) -> bool:
        """Tell whether the program is here."""
        places = [os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]
        return shutil.which(self.program, path=os.pathsep.join(places)) is not None


SSHD = Need("sshd", "openssh-server", "tests of ssh hosts on loopback")
DEBOOTSTRAP = Need("debootstrap", "debootstrap", "base images where none can be pulled")
IP = Need("ip", "iproute2", "tests of networks that fail")
IPTABLES = Need("iptables", "iptables", "tests of networks that fail")
COMPOSE = Need("docker-compose", "docker-compose", "the cluster of containers")


def docker_answers() -> bool:
    """Tell whether containers can be started here.

    Returns:
        True if Docker is installed and its server answers.
    """
    return shutil.which("docker") is not None and _succeeds(["docker", "info"])


def _succeeds(command: Sequence[str]) -> bool:
    """Tell whether a command ends in time and succeeds."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=_DOCKER_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def wanted(docker: bool) -> list[Need]:
    """List what the checks want on this machine.

    Args:
        docker: Whether Docker answers.
    """
    needs = [SSHD, IP, IPTABLES]
    if docker:
        needs += [] if _succeeds(["docker", "compose", "version"]) else [COMPOSE]
        # Others pull their base images.
        needs += [DEBOOTSTRAP] if may_install() else []
    return needs


def may_install() -> bool:
    """Tell whether packages can be installed here: as root, on a Debian."""
    return (
        hasattr(os, "geteuid")
        and os.geteuid() == 0
        and Path("/etc/debian_version").exists()
        and shutil.which("apt-get") is not None
    )


def provide(needs: Sequence[Need]) -> list[str]:
    """Install what is missing if that can be done, and say so; no daemon is started by it.

    Args:
        needs: What is wanted.

    Returns:
        A line for each program that is still missing, with the command that mends it.
    """
    missing = [need for need in needs if not need.met()]
    if missing and may_install():
        packages = [need.package for need in missing]
        print(f"!!! installing {', '.join(packages)} with apt-get: root on Debian", flush=True)
        _install(packages)
    return [
        f"!!! {need.program} is MISSING, for {need.purpose}: apt-get install {need.package}"
        for need in needs
        if not need.met()
    ]


def _install(packages: Sequence[str]) -> None:
    """Run apt-get; whether it helped is seen by looking."""
    # One that is there may be what an installation left behind that was killed.
    ours = not POLICY.exists() or POLICY.read_text(encoding="utf-8") == _POLICY_TEXT
    if ours:
        POLICY.write_text(_POLICY_TEXT, encoding="utf-8")
        POLICY.chmod(0o755)
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "--quiet", "--yes", "--no-install-recommends"]
    # Another apt-get may be at work, such as the machine's own of every day.
    install += ["--option", "DPkg::Lock::Timeout=120", *packages]
    try:
        # Package lists may be missing, or older than the packages.
        for command in (install, ["apt-get", "update", "--quiet"], install):
            done = subprocess.run(
                command, env=environ, capture_output=True, timeout=_APT_SECONDS, check=False
            )
            if command is install and not done.returncode:
                return
    except (OSError, subprocess.SubprocessError) as error:
        print(f"!!! apt-get failed: {error}", flush=True)
    finally:
        if ours:
            POLICY.unlink()
