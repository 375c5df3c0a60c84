"""Hosts that are this machine and behave as others: ``fake://NAME/n``.

Their workers share neither the client's path nor its working directory, ask for its modules and
send what they print. `register` makes the scheme known.
"""

import os
import subprocess
import sys
import tempfile
from typing import Any

from pool_client import launchers
from pool_client.launchers.base import HostSpec, Order
from pool_client.launchers.local import _Child


class FakeRemoteLauncher:
    """Starts ``pool-worker`` in a folder of its own."""

    local = False

    async def launch(self, spec: HostSpec, order: Order) -> "FakeRemote":
        """Start it with what the client says, and nothing of the client's surroundings."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
        }
        folder = tempfile.TemporaryDirectory(prefix="fake-remote-")
        path = spec.options.get("path")
        if path:
            environment["PYTHONPATH"] = path
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pool_worker", "--launch"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd=folder.name,
            env=environment,
            start_new_session=True,
        )
        return FakeRemote(process, order.settings, folder)


class FakeRemote(_Child):
    """A running program, and the folder in which it runs."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        settings: dict[str, Any],
        folder: "tempfile.TemporaryDirectory[str]",
    ) -> None:
        super().__init__(process, settings)
        self._folder = folder

    def close(self) -> None:
        super().close()
        self._folder.cleanup()


def register() -> None:
    """Make ``fake://`` known in this process."""
    launchers._LAUNCHERS["fake"] = (__name__, FakeRemoteLauncher.__name__)
