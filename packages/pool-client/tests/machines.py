"""Other machines that are this one: ``machine://NAME/n``, and a test says how NAME fares.

The program is really started, and connects over a Unix socket or over TLS. A machine can be out of
reach, silent, frozen, lost, or break every worker.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import support

from pool_client import launchers
from pool_client.errors import HostError
from pool_client.launchers.base import HostSpec, Order
from pool_client.launchers.local import _Child

_MACHINES: dict[str, "Machine"] = {}


class Machine:
    """One of them. ``credential``: it connects over TLS, with this one."""

    def __init__(self, name: str, credential: Path | None = None) -> None:
        self.name = name
        self.credential = credential
        #: Why it cannot be started; None: it can.
        self.trouble: str | None = None
        #: Whether nothing is heard of it at all.
        self.silent = False
        #: What the program is started with, and in which environment.
        self.command = [sys.executable, "-P", "-m", "pool_worker", "--launch"]
        self.environment: dict[str, str] = {}
        self.launches = 0
        self.children: list[_Child] = []
        _MACHINES[name] = self

    def __str__(self) -> str:
        return f"machine://{self.name}"

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        return self.children[-1]._process.pid

    def signal(self, number: int) -> None:
        """Send a signal to the supervisor."""
        os.kill(self.pid, number)

    def freeze(self) -> None:
        """Stop it and all its workers, as ``docker pause`` does."""
        for process in (self.pid, *(child.pid for child in support.descendants(self.pid))):
            os.kill(process, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            for process in (self.pid, *(child.pid for child in support.descendants(self.pid))):
                os.kill(process, signal.SIGCONT)

    def lose(self) -> None:
        """End all of it at once, and let nobody start it again until it is repaired."""
        self.trouble = "no route to it"
        self.signal(signal.SIGKILL)


class MachineLauncher:
    """Starts ``pool-worker`` on such a machine."""

    local = False
    stage = "the machine does not answer"

    async def launch(self, spec: HostSpec, order: Order) -> _Child:
        """As any launcher does."""
        machine = _MACHINES[spec.host]
        machine.launches += 1
        if machine.silent:
            await asyncio.Event().wait()
        if machine.trouble is not None:
            raise HostError(spec.name, machine.trouble)
        settings = dict(order.settings)
        if machine.credential is not None:
            port = await order.listen_tcp()
            settings["address"] = f"tls://127.0.0.1:{port}"
            settings["credential"] = str(machine.credential)
        process = subprocess.Popen(
            machine.command,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **machine.environment},
            start_new_session=True,
        )
        child = _Child(process, settings)
        machine.children.append(child)
        return child


@pytest.fixture
def machines() -> Iterator[type[Machine]]:
    """Make machines with it, which a pool finds by their names."""
    launchers._LAUNCHERS["machine"] = (__name__, MachineLauncher.__name__)
    yield Machine
    for machine in _MACHINES.values():
        if machine.children:
            machine.thaw()
    _MACHINES.clear()
    del launchers._LAUNCHERS["machine"]
