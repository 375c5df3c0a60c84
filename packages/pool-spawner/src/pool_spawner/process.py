"""One ``pool-worker`` process: its start, its lifeline, what it says, its end."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

#: How much of its standard error is kept, in bytes.
TAIL = 8192
#: Bytes that a pipe can hold at most, unless somebody has the right to more (``pipe-max-size``).
_PIPE_SIZE = 1 << 20
#: Seconds for it to end after it was told to, before it is killed; and in how many parts they pass.
PATIENCE = 5.0
_PARTS = 20
#: The program, with this interpreter. -P: a random.py in the working directory must not shadow the
#: standard library's.
COMMAND = (sys.executable, "-P", "-m", "pool_worker", "--launch")


class WorkerProcess:
    """A running ``pool-worker``, on the running loop. Raises OSError when it cannot be started.

    ``exited`` is its exit code, negative for a signal, once it has one.
    """

    def __init__(self, settings: dict[str, Any], command: Sequence[str] = COMMAND) -> None:
        self._loop = asyncio.get_running_loop()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            # Ctrl-C in our terminal is for us alone; we end it in our own way.
            start_new_session=True,
        )
        assert self._process.stdin is not None and self._process.stderr is not None
        self._stdin = self._process.stdin
        self._stderr = self._process.stderr
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self.tail = b""
        try:
            os.set_blocking(self._stderr.fileno(), False)
            self._loop.add_reader(self._stderr.fileno(), self._read_errors)
            threading.Thread(target=self._wait, name=f"wait-{self.pid}", daemon=True).start()
        except (OSError, RuntimeError) as error:
            self._process.kill()
            self._on_exit(self._process.wait())
            raise OSError(str(error)) from error
        with contextlib.suppress(OSError):  # it has ended already; its exit code says more
            self._stdin.write(json.dumps(settings).encode() + b"\n")
            self._stdin.flush()

    def __repr__(self) -> str:
        return f"<WorkerProcess {self.pid} {self._process.returncode}>"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def _wait(self) -> None:
        """In a thread of its own: the one way that every system has."""
        code = self._process.wait()
        with contextlib.suppress(RuntimeError):  # the loop was closed without waiting for us
            self._loop.call_soon_threadsafe(self._on_exit, code)

    def _on_exit(self, code: int) -> None:
        self._read_errors(_PIPE_SIZE)
        self._close_errors()
        self.hang_up()
        if not self.exited.done():
            self.exited.set_result(code)

    def _read_errors(self, most: int = 1) -> None:
        """Read once, or until there were so many bytes: whoever writes may do so for ever."""
        with contextlib.suppress(BlockingIOError):
            while most > 0 and not self._stderr.closed:
                data = os.read(self._stderr.fileno(), 65536)
                self.tail = (self.tail + data)[-TAIL:]
                most -= len(data)
                if not data:
                    self._close_errors()

    def _close_errors(self) -> None:
        if not self._stderr.closed:
            self._loop.remove_reader(self._stderr.fileno())
            self._stderr.close()

    def hang_up(self) -> None:
        """Close its standard input: it ends, and everything that it started."""
        with contextlib.suppress(OSError):
            self._stdin.close()

    def kill(self) -> None:
        """End it by force; its workers die with it."""
        self._process.kill()

    async def end(self, patience: float = PATIENCE) -> int:
        """Let it end, and kill it if it does not within so many seconds; its exit code.

        A host that stands still meanwhile takes no more than a part of them away.
        """
        self.hang_up()
        for _ in range(_PARTS):
            done, _ = await asyncio.wait([self.exited], timeout=patience / _PARTS)
            if done:
                break
        else:
            self.kill()
        return await self.exited


def describe_exit(code: int) -> str:
    """How ``pool-worker`` ended, in a sentence."""
    if code >= 0:
        return f"pool-worker ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = "; was the host short of memory?" if code == -signal.SIGKILL else ""
    return f"pool-worker was ended by {name}{hint}"
