"""A running ssh, its three pipes served by the loop.

`subprocess.Popen` and not asyncio's: that one needs a watcher of children, which a loop in a thread
may not have, and other loops have their own.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import IO

from pool_client.patience import Patience

#: How much of what it says is kept, in bytes: of standard error, and of standard output while an
#: answer is waited for.
_TAIL = 8192
_NOISE = 1 << 16
#: Seconds for it to end after it was told to, before it is killed.
_PATIENCE = 5.0


class SshProcess:
    """Implements `Launched`.

    Args:
        command: The words to run.
        mark: What begins the line that is for us on standard output; on standard error, a line
            of its own, after which our program speaks and nobody else.
        explain: Says, from the exit status (negative: a signal), the tail of standard error, and
            whether our program was running, what is wrong and what to do.

    Raises:
        OSError: The program cannot be started.
    """

    def __init__(
        self, command: Sequence[str], mark: str, explain: Callable[[int, str, bool], str]
    ) -> None:
        self._mark = mark.encode()
        self._loop = asyncio.get_running_loop()
        self._explain = explain
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            # Ctrl-C in the client's terminal must not reach it, and what it starts ends with it.
            start_new_session=True,
        )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr
        self._output = bytearray()
        self._answering = True
        self._begun = False
        self._news = asyncio.Event()
        self._tail = b""
        for pipe in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(pipe.fileno(), False)
        # Both are read to the end: ssh stops, with all that it forwards, when nobody takes what it
        # has to say.
        self._loop.add_reader(self._stdout.fileno(), self._read_output)
        self._loop.add_reader(self._stderr.fileno(), self._read_errors)

    def __repr__(self) -> str:
        return f"<SshProcess {self._process.pid} {self._status()}>"

    # -- the dialogue

    async def answer(self) -> str | None:
        """The rest of the line that is for us; None if the output ends without one."""
        while True:
            _, found, line = self._output.partition(self._mark + b" ")
            if found and b"\n" in line:
                self._begun, self._answering = True, False
                self._output.clear()
                return line.partition(b"\n")[0].decode(errors="replace")
            if not self._answering:
                return None
            self._news.clear()
            await self._news.wait()

    async def write(self, data: bytes) -> None:
        """Write all of it to standard input; if the program ends, `ended` says why."""
        rest = memoryview(data)
        with contextlib.suppress(OSError, ValueError):
            while rest:
                try:
                    rest = rest[os.write(self._stdin.fileno(), rest) :]
                except BlockingIOError:
                    await self._writable()

    async def _writable(self) -> None:
        ready = asyncio.Event()
        descriptor = self._stdin.fileno()
        self._loop.add_writer(descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_writer(descriptor)

    async def finish(self) -> str:
        """Wait for the end, or bring it about, and say why it came."""
        patience = Patience(_PATIENCE)
        while (reason := self.ended()) is None:
            if patience.over():
                self.kill()
            await asyncio.sleep(0.01)
        return reason

    def _read_output(self) -> None:
        data = self._read(self._stdout)
        if data and self._answering:
            self._output += data
            del self._output[:-_NOISE]
        if not data:
            self._answering = False
        self._news.set()

    def _read_errors(self) -> None:
        while data := self._read(self._stderr):
            self._tail = (self._tail + data)[-_TAIL:]

    def _read(self, pipe: IO[bytes]) -> bytes | None:
        """What there is; None if there is nothing yet; nothing at the end, where it is closed."""
        if pipe.closed:
            return b""
        try:
            data = os.read(pipe.fileno(), 1 << 16)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            self._close_pipe(pipe)
        return data

    # -- Launched

    def ended(self) -> str | None:
        """Why it ended, in a sentence that says what to do; None while it runs."""
        status = self._status()
        return None if status is None else self._explain(status, self.errors(), self._begun)

    def errors(self) -> str:
        """The tail of its standard error so far, since our program runs if it does."""
        if not self._begun:
            return self.heard()
        self._read_errors()
        return _text(self._tail.rpartition(self._mark + b"\n")[2])

    def heard(self) -> str:
        """The tail of what was said so far, on either stream, by whomever."""
        self._read_errors()
        return "\n".join(filter(None, (_text(self._tail), _text(self._output[-_TAIL:]))))

    def hang_up(self) -> None:
        """Close its standard input: pool-worker ends on the host, and then ssh here."""
        self._close_pipe(self._stdin)

    def kill(self) -> None:
        """End its session by force: what a jump host needs runs beside it."""
        if self._process.returncode is None:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Let go of the pipes and reap the program, which is about to end or has ended."""
        self.hang_up()
        patience = Patience(_PATIENCE)
        while self._status() is None and not patience.over():
            time.sleep(0.002)
        self.kill()
        self._process.wait()
        for pipe in (self._stdout, self._stderr):
            self._close_pipe(pipe)

    def abandon(self) -> None:
        """Close the pipes in a forked child; the program and the loop are the parent's."""
        for pipe in (self._stdin, self._stdout, self._stderr):
            pipe.close()
        # Popen would otherwise try to reap a process that is not this one's child.
        self._process.returncode = 0

    def _close_pipe(self, pipe: IO[bytes]) -> None:
        if not pipe.closed:
            self._loop.remove_reader(pipe.fileno())
            self._loop.remove_writer(pipe.fileno())
            pipe.close()

    def _status(self) -> int | None:
        """How it ended. It is not reaped yet, so that its number names its own session only."""
        if self._process.returncode is not None or not hasattr(os, "waitid"):
            return self._process.poll()
        try:
            seen = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # somebody else has reaped it
            return self._process.poll()
        if seen is None:
            return None
        return seen.si_status if seen.si_code == os.CLD_EXITED else -seen.si_status


def _text(data: bytes | bytearray) -> str:
    return data.decode(errors="replace").strip()
