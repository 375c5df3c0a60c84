"""The command line of ssh: every word of it, and what to leave out when an ssh refuses it.

For each option ssh takes the first value that it meets: `ssh_command`'s, then ours, then the user's
configuration. Said here is only what the tunnel depends on, whatever that configuration holds;
keys, jump hosts and the checking of hosts stay the user's.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pool_client.errors import HostError
from pool_client.launchers.base import HostSpec

_OPTIONS = (
    "BatchMode=yes",  # nobody is there to be asked
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    # A tunnel over a shared connection would outlive the ssh that asked for it.
    "ControlMaster=no",
    "ControlPath=none",
    "StreamLocalBindUnlink=yes",
    "LogLevel=INFO",  # quieter ones keep the reason of a refusal to themselves
    "RemoteCommand=none",
    "PermitLocalCommand=no",
    "Tunnel=no",
    "ForwardAgent=no",
    "ForwardX11=no",
)
#: Known since OpenSSH 8.7; where ssh does not know them, neither can a configuration set them.
_NEWER = ("ForkAfterAuthentication=no", "SessionType=default", "StdinNull=no")
_UNKNOWN = re.compile(r"Bad configuration option: (forkafterauth\w+|sessiontype|stdinnull)", re.I)
#: A forwarding of the user's configuration that is in place already, for another session.
_OTHER_FORWARD = re.compile(
    r"Could not request local forwarding|remote port forwarding failed for listen port"
)
#: A server that is asked by many at once drops some of them unheard (MaxStartups).
_DROPPED = re.compile(r"kex_exchange_identification:.*(closed by remote host|reset by peer)", re.I)
_DROPS = 4

#: What neither ssh's own expansion nor its splitting at colons can change.
_PLAIN_PATH = re.compile(r"/[\w/.,+=@-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one try calls ssh."""

    newer: bool = True
    """Say the options that ssh knows since 8.7."""
    all_forwards: bool = True
    """End if any forwarding fails, those of the user's configuration included."""
    dropped: int = 0
    """How often the server has dropped us unheard."""

    @property
    def pause(self) -> float:
        """Seconds to wait before this try."""
        return 0.25 * self.dropped

    def after(self, stderr: str) -> "Attempt | None":
        """The next try, if what ssh said can be got round in another way; else None."""
        if self.newer and _UNKNOWN.search(stderr):
            return replace(self, newer=False)
        if self.all_forwards and _OTHER_FORWARD.search(stderr):
            return replace(self, all_forwards=False)
        if self.dropped < _DROPS and _DROPPED.search(stderr):
            return replace(self, dropped=self.dropped + 1)
        return None


def check(spec: HostSpec) -> None:
    """Refuse what ssh would take for an option, and options that mean nothing to us.

    Raises HostError.
    """
    for word in (spec.host, spec.user):
        if word.startswith("-"):
            raise HostError(spec.name, "a host or user that begins with '-' is refused")
    unknown = ", ".join(sorted(set(spec.options) - {"python"}))
    if unknown:
        raise HostError(spec.name, f"ssh hosts have no option {unknown}; there is: python")


def login(spec: HostSpec, ssh_command: Sequence[str]) -> list[str]:
    """How the user would call ssh to reach the host: for messages that say what to run."""
    target = f"{spec.user}@{spec.host}" if spec.user else spec.host
    port = ["-p", str(spec.port)] if spec.port is not None else []
    return [*ssh_command, *port, target]


def arguments(
    spec: HostSpec,
    ssh_command: Sequence[str],
    forward: tuple[str, str],
    command: str,
    attempt: Attempt,
) -> list[str]:
    """The words to run.

    Args:
        spec: The host.
        ssh_command: The program and its first arguments.
        forward: The path of the socket on the host, and of the client's, to which it leads.
        command: What the login shell of the host is to run.
        attempt: What to leave out.

    Raises:
        HostError: The client's path holds what ssh would expand or split.
    """
    there, here = forward
    if not _PLAIN_PATH.fullmatch(here):
        raise HostError(
            spec.name,
            f"ssh cannot forward to {here!r}: set XDG_RUNTIME_DIR to a folder whose path has only "
            "letters, digits, '.', '_' and '-'",
        )
    strict = "yes" if attempt.all_forwards else "no"
    options = (f"ExitOnForwardFailure={strict}", *_OPTIONS, *(_NEWER if attempt.newer else ()))
    words = [*ssh_command, "-T"]
    for option in options:
        words += ["-o", option]
    words += ["-R", f"{there}:{here}"]
    if spec.port is not None:
        words += ["-p", str(spec.port)]
    if spec.user:
        words += ["-l", spec.user]
    return [*words, "--", spec.host, command]
