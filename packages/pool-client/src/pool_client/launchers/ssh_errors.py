"""What ssh and the host say, translated: what is wrong, and the command that mends it."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from pool_client.errors import describe_exit
from pool_client.launchers.spec import in_brackets

_SSH_PORT = 22

_INCOMPLETE = r"No module named '(?P<module>[\w.]+)'"

#: The first pattern that fits counts. The words in braces: see `Called._fill`; named groups can be
#: used as well.
_TABLE: dict[str, str] = {
    r"REMOTE HOST IDENTIFICATION HAS CHANGED": (
        "the host's key has changed. If you know why, run `ssh-keygen -R {entry}`, then `{login}` "
        "once; if not, somebody may be between you and the host"
    ),
    r"Host key verification failed|No \w+ host key is known": (
        "the host's key is not known here: run `{login}` once, compare the fingerprint and "
        "accept it"
    ),
    r"Too many authentication failures": (
        "the agent offered too many keys before the right one: name it with IdentityFile and "
        "`IdentitiesOnly yes` for {host} in ~/.ssh/config"
    ),
    r"UNPROTECTED PRIVATE KEY FILE": (
        "ssh does not use a private key that others can read: `chmod 600` it"
    ),
    r"Permission denied \((?P<methods>[^)]*)\)": (
        "the host lets nobody in with the keys at hand (it takes: {methods}). See which there "
        "are with `ssh-add -l`, add one with `ssh-add`, or put one there with `{copy_id}`; "
        "nobody can be asked for a password or passphrase here"
    ),
    r"Your password has expired|change your password|Password change required": (
        "the password there has expired: run `{login}` once and change it"
    ),
    r"Could not resolve hostname": (
        "no host of that name is known: look at its spelling, and at HostName in ~/.ssh/config"
    ),
    r"stdio forwarding failed|UNKNOWN port 65535": (
        "the jump host did not get through to it, or to itself: see what `{login}` says"
    ),
    r"[Cc]onnection refused": (
        "nothing listens there: is sshd running, and is the port right? Another one is said as "
        "ssh://{address}:PORT/n"
    ),
    r"(?:Connection|Operation) timed out|[Tt]imed out during banner exchange": (
        "the host does not answer: is it up, and does a firewall drop what is sent to it?"
    ),
    r"No route to host|Network is unreachable|Host is down": (
        "there is no way to the host from here: see `ip route get` and the VPN, if there is one"
    ),
    r"remote port forwarding failed for listen path|Could not request remote forwarding": (
        "sshd there forbids the tunnel that workers connect back through. Its sshd_config needs "
        "AllowTcpForwarding yes, AllowStreamLocalForwarding yes, DisableForwarding no; the line in "
        "~/.ssh/authorized_keys, neither `restrict` nor `no-port-forwarding`"
    ),
    r"Could not request local forwarding|remote port forwarding failed": (
        "a forwarding of your ssh configuration cannot be had: see what `{login}` says"
    ),
    (
        r"Bad configuration option|Bad owner or permissions on|bad configuration options|"
        r"Unsupported option|keyword .* extra arguments|Can't open user config file"
    ): ("ssh does not accept its configuration: see `{check}`"),
    r"unknown option --|illegal option --|usage: ssh": (
        "`{program}` does not take our options: is it OpenSSH?"
    ),
    r"no matching (?P<what>[\w ]+) found": (
        "ssh here and sshd there have no {what} in common: one of them is too old for the other"
    ),
    (
        r"kex_exchange_identification|ssh_exchange_identification|Not allowed at this time|"
        r"banner exchange|Exceeded MaxStartups"
    ): (
        "whoever listens there hung up before anything was said: is it an ssh server? It may "
        "also have too many callers (MaxStartups in its sshd_config) or keep this machine out"
    ),
    r"Timeout, server .* not responding": (
        "the host has not answered for 15 s: its machine or the network is gone"
    ),
    r"This account is currently not available|nologin": (
        "the account has no login shell: give it one there, with `chsh -s /bin/sh`"
    ),
    (
        r"administratively prohibited|open failed: connect failed: open failed|"
        r"session request failed|exec request failed|shell request failed"
    ): (
        "sshd there lets us in but runs no command: MaxSessions in its sshd_config is 0, or its "
        "limits of processes or memory are reached"
    ),
    _INCOMPLETE: (
        "the Python there has no module {module}: part of its standard library is missing (on "
        "Debian and Ubuntu: `apt-get install python3`), or name another with ?python=/path"
    ),
    r"is not recognized as an internal or external command": (
        "the host runs Windows, which is not supported: start pool-worker inside WSL"
    ),
    r"(?:^|\W)sh: (?:command )?not found|exec: .*sh.*not found|No such file or directory: 'sh'": (
        "the host has no sh, which is needed to look for Python"
    ),
    r"[Cc]onnection (?:to .* )?closed|[Cc]onnection reset|Broken pipe": (
        "the connection to the host was lost"
    ),
}


@dataclass(frozen=True, slots=True)
class Called:
    """What was called, for messages."""

    host: str
    port: int | None
    words: Sequence[str]
    """How the user would call ssh to reach the host."""
    socket: str
    """The path of the tunnel's socket there."""

    @property
    def login(self) -> str:
        """What a user would type to get onto the host."""
        return shlex.join(self.words)

    def explain(self, status: int, stderr: str, begun: bool) -> str:
        """Why ssh has ended.

        Args:
            status: Its exit status; negative: the signal that ended it.
            stderr: The end of what it said.
            begun: It had got as far as running pool-worker.

        Returns:
            What is wrong, and what to do.
        """
        if status < 0:
            return f"the ssh process of this host has ended: {describe_exit(status)}"
        if begun and status != 255 and not re.search(_INCOMPLETE, stderr):
            return f"pool-worker has ended: {describe_exit(status)}"
        for pattern, text in _TABLE.items():
            if match := re.search(pattern, stderr):
                return self._fill(text, match.groupdict())
        if status == 255:
            return f"ssh has ended: see what `{self.login}` says"
        if status in (126, 127):
            return (
                f"the host cannot run our command (status {status}): its login shell must be "
                f"able to run `sh`; see what `{self.login} sh -c true` says"
            )
        return (
            f"the host ran something else in place of our command (status {status}): a command "
            "that its sshd_config or authorized_keys forces, or a login shell that is none; or "
            f"{self.words[0]} is not OpenSSH's"
        )

    def _fill(self, text: str, found: dict[str, str]) -> str:
        port = ["-p", str(self.port)] if self.port is not None else []
        usual = self.port in (None, _SSH_PORT)
        return text.format(
            login=self.login,
            host=shlex.quote(self.host),
            address=in_brackets(self.host),
            # How known_hosts names it: the usual port is not in there.
            entry=shlex.quote(self.host if usual else f"[{self.host}]:{self.port}"),
            program=self.words[0],
            check=shlex.join([self.words[0], "-G", *self.words[1:]]),
            copy_id=shlex.join(["ssh-copy-id", *port, self.words[-1]]),
            **found,
        )

    def tunnel_refused(self, stderr: str) -> str | None:
        """What to do if the tunnel could not be had; None if ssh did not say so."""
        return self.explain(255, stderr, False) if f"listen path {self.socket}" in stderr else None

    def no_program(self, error: OSError) -> str:
        """What to do if ssh itself cannot be started."""
        return (
            f"cannot start {self.words[0]!r} here: {error.strerror or error}; install OpenSSH's "
            "client (Debian: `apt-get install openssh-client`) or name it with ssh_command="
        )
