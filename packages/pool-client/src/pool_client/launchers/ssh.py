"""Hosts that are reached by ssh: one ssh process and one reverse tunnel each.

The tunnel leads from a Unix socket on the host to the client's. OpenSSH encrypts, authenticates and
checks the host, with the user's own configuration, agent and known hosts; the handshake with the
launch's token runs inside. Nothing needs to be installed on the host but Python (`bootstrap`).
"""

import asyncio
import json
import logging
import secrets

from pool_client.errors import HostError
from pool_client.launchers import bootstrap
from pool_client.launchers.base import HostSpec, Launched, Order
from pool_client.launchers.spec import in_brackets
from pool_client.launchers.ssh_command import Attempt, arguments, check, login
from pool_client.launchers.ssh_errors import Called
from pool_client.launchers.ssh_process import SshProcess

logger = logging.getLogger("pool_client")

#: Seconds without a ping after which the workers of a host end: the client's machine is gone.
LEASE = 300
#: How many sockets that may be left on a host are remembered, the oldest, for those were there.
_MOST_LEFT = 64


class _NotStarted(Exception):
    """One try has failed: the reason, and what ssh said."""

    def __init__(self, reason: str, stderr: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.stderr = stderr


class SshLauncher:
    """Starts ``pool-worker`` through OpenSSH.

    ``stage`` says what it is waiting for, and what to do if that lasts.
    """

    local = False

    def __init__(self) -> None:
        self.stage = ""
        #: The sockets on the host that may still be there: of the last start, and of those before
        #: it that failed before they could remove any.
        self._sockets: list[str] = []

    async def launch(self, spec: HostSpec, order: Order) -> Launched:
        """Start ssh, find out what the host has, send what it lacks, and then the settings."""
        check(spec)
        attempt = Attempt()
        while True:
            await asyncio.sleep(attempt.pause)
            try:
                return await self._try(_Call(spec, order, attempt))
            except _NotStarted as failed:
                after = attempt.after(failed.stderr)
                if after is None:
                    tail = f"\n{failed.stderr}" if failed.stderr else ""
                    raise HostError(spec.name, failed.reason + tail) from None
                attempt = after

    async def _try(self, call: "_Call") -> Launched:
        """One try. Raises _NotStarted or HostError, and leaves nothing."""
        self.stage = f"no answer through ssh yet: see what `{call.called.login}` says"
        try:
            process = SshProcess(call.words, call.mark, call.called.explain)
        except OSError as error:
            raise HostError(call.spec.name, call.called.no_program(error)) from error
        try:
            await self._talk(process, call)
        except BaseException:
            process.kill()
            process.close()
            raise
        return process

    async def _talk(self, process: SshProcess, call: "_Call") -> None:
        """Send the program, hear what there is, send the worker if it is not, and the settings."""
        left, self._sockets = self._sockets, [*self._sockets, call.socket][:_MOST_LEFT]
        await process.write(bootstrap.program_line(call.mark, bool(call.python), call.socket, left))
        answer = await process.answer()
        if answer is None:
            raise _NotStarted(await process.finish(), process.errors())
        word, _, rest = answer.partition(" ")
        if word != "ready":
            raise HostError(call.spec.name, call.no_python(rest))
        self._sockets = [call.socket]
        if refused := call.called.tunnel_refused(process.heard()):
            raise _NotStarted(refused, process.heard())
        told = json.loads(rest)
        self.stage = "the host takes the worker's sources over, slowly"
        if not told["installed"]:
            await process.write(bootstrap.bundle())
        await process.write(call.settings)
        logger.debug(
            "%s: Python %s (%s), pool-worker %s",
            call.spec.name,
            told["python"],
            told["executable"],
            "installed" if told["installed"] else "sent",
        )


class _Call:
    """All the words of one try. Raises HostError for what cannot be said to ssh."""

    def __init__(self, spec: HostSpec, order: Order, attempt: Attempt) -> None:
        self.spec = spec
        self.python = spec.options.get("python", "")
        self.mark = secrets.token_hex(8)
        self.socket = path = f"/tmp/pool-{secrets.token_hex(16)}.sock"
        ssh_command = order.access.ssh_command
        try:
            command = bootstrap.shell_command(self.mark, self.python, path)
        except ValueError as error:
            raise HostError(spec.name, str(error)) from None
        forward = (path, order.settings["address"])
        self.words = arguments(spec, ssh_command, forward, command, attempt)
        self.called = Called(spec.host, spec.port, login(spec, ssh_command), path)
        ours = {
            "address": path,
            "unlink": True,
            "lease": LEASE,
            "output": True,
            "modules": True,
            "cwd": None,
            "sys_path": None,
        }
        self.settings = json.dumps({**order.settings, **ours}).encode() + b"\n"

    def no_python(self, found: str) -> str:
        """What to do when the host found no Python, but perhaps others."""
        oldest = ".".join(map(str, bootstrap.OLDEST))
        if self.python:
            return (
                f"python={self.python} is no Python {oldest} or newer there: "
                f"{found or 'there is no such program'}"
            )
        return (
            f"there is no Python {oldest} or newer: {found or 'no Python was found'}; "
            f"install one, or say where it is: ssh://{in_brackets(self.spec.host)}/4?python=/path/to/python3"
        )
