"""A network namespace that stands for another machine: its line can be cut, reset and slowed.

The machine that runs the tests keeps its own network as it is: one pair of virtual interfaces with
addresses of their own is added, and every rule is set inside the namespace.
"""

import contextlib
import ipaddress
import os
import shutil
import subprocess
from typing import Self

PROGRAMS = ("ip", "iptables", "tc")
#: Each process takes a subnet of its own out of this private range.
_RANGE = ipaddress.ip_network("10.213.0.0/16")


def missing() -> str:
    """Why there can be no namespace here; empty if there can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "network namespaces need root: NETWORK FAULTS ARE NOT TESTED"
    for program in PROGRAMS:
        if shutil.which(program) is None:
            return f"there is no {program} here: NETWORK FAULTS ARE NOT TESTED"
    try:
        with Namespace():
            return ""
    except subprocess.CalledProcessError as error:
        return f"no namespace can be made ({error}): NETWORK FAULTS ARE NOT TESTED"


class Namespace:
    """A machine at ``address``, from which this one is seen as ``gateway``."""

    def __init__(self) -> None:
        number = os.getpid() % 16384
        network = _RANGE.network_address + 4 * number
        self.gateway, self.address = str(network + 1), str(network + 2)
        self.name = f"pool-test-{os.getpid()}"
        self._here, self._there = f"pt{number}a", f"pt{number}b"
        #: Put before a command, it runs there.
        self.before = ("ip", "netns", "exec", self.name)

    def __enter__(self) -> Self:
        self._remove()
        try:
            _run("ip", "netns", "add", self.name)
            _run("ip", "link", "add", self._here, "type", "veth", "peer", "name", self._there)
            _run("ip", "link", "set", self._there, "netns", self.name)
            _run("ip", "addr", "add", f"{self.gateway}/30", "dev", self._here)
            _run("ip", "link", "set", self._here, "up")
            inside = ("ip", "-n", self.name)
            _run(*inside, "addr", "add", f"{self.address}/30", "dev", self._there)
            _run(*inside, "link", "set", self._there, "up")
            _run(*inside, "link", "set", "lo", "up")
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._remove()

    def _remove(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            _run("ip", "netns", "del", self.name)
        with contextlib.suppress(subprocess.CalledProcessError):
            _run("ip", "link", "del", self._here)

    def _rule(self, *words: str) -> None:
        for chain in ("INPUT", "OUTPUT"):
            _run(*self.before, "iptables", "-A", chain, *words)

    def cut(self) -> None:
        """Every packet is lost, in both directions, without a word."""
        self._rule("-j", "DROP")

    def reset(self) -> None:
        """Every TCP packet that comes there is answered with a reset."""
        packets = ("-p", "tcp", "!", "--tcp-flags", "RST", "RST")
        reject = ("-j", "REJECT", "--reject-with", "tcp-reset")
        _run(*self.before, "iptables", "-A", "INPUT", *packets, *reject)

    def block_new(self) -> None:
        """No connection can be opened from there; those that others opened work."""
        _run(*self.before, "iptables", "-A", "OUTPUT", "-p", "tcp", "--syn", "-j", "DROP")

    def lose(self, share: float) -> None:
        """So much of the packets is lost, in each direction."""
        self._rule("-m", "statistic", "--mode", "random", "--probability", str(share), "-j", "DROP")

    def slow(self, rate: str) -> None:
        """What is sent from there goes no faster than this, as ``tc`` writes it."""
        words = ("root", "tbf", "rate", rate, "burst", "16kbit", "latency", "400ms")
        _run(*self.before, "tc", "qdisc", "add", "dev", self._there, *words)

    def heal(self) -> None:
        """The line is as it was."""
        _run(*self.before, "iptables", "-F")
        with contextlib.suppress(subprocess.CalledProcessError):
            _run(*self.before, "tc", "qdisc", "del", "dev", self._there, "root")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=20)
