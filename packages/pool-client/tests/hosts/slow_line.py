"""A line with a delay: a proxy that passes everything on, each way so much later.

In a process of its own, so that it takes no time from the client. Ends are ports of loopback or
paths of Unix sockets.

    with SlowLine(port, 0.02) as line:
        … connect to line.port, which leads to port …
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator
from typing import Self

_CHUNK = 1 << 18
#: Bytes that may be under way in one direction of one connection.
_UNDER_WAY = 64 << 20


class SlowLine:
    """The proxy: in front of a port of loopback, ``delay`` seconds each way."""

    def __init__(self, target: int, delay: float) -> None:
        self._words = [sys.executable, __file__, str(target), str(delay)]
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def cut(self) -> None:
        """Pass nothing on from now on, and tell nobody."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def mend(self) -> None:
        """Pass everything on again, also what came meanwhile."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __exit__(self, *exc_info: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()


async def delayed(reader: asyncio.StreamReader, delay: float) -> AsyncIterator[bytes]:
    """What comes in, each piece so much later than it came; nothing is lost at the end."""
    clock = asyncio.get_running_loop().time
    under_way: deque[tuple[float, bytes]] = deque()
    size = 0
    news = asyncio.Event()
    room = asyncio.Event()

    async def take() -> None:
        nonlocal size
        data = b"?"
        while data:
            with contextlib.suppress(ConnectionError):
                data = await reader.read(_CHUNK)
            under_way.append((clock() + delay, data))
            size += len(data)
            news.set()
            while size > _UNDER_WAY:
                room.clear()
                await room.wait()

    taking = asyncio.create_task(take())
    try:
        while True:
            while not under_way:
                news.clear()
                await news.wait()
            due, data = under_way.popleft()
            if due > clock():
                await asyncio.sleep(due - clock())
            if not data:
                return
            size -= len(data)
            room.set()
            yield data
    finally:
        taking.cancel()


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """One direction of one connection, to its end."""
    with contextlib.suppress(OSError):
        async for data in delayed(reader, delay):
            writer.write(data)
            await writer.drain()
    writer.close()


async def connect(target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a port or a path."""
    if target.isdigit():
        return await asyncio.open_connection("127.0.0.1", int(target), limit=_CHUNK)
    return await asyncio.open_unix_connection(target, limit=_CHUNK)


async def join(
    near: tuple[asyncio.StreamReader, asyncio.StreamWriter], target: str, delay: float
) -> None:
    """Pass on both ways between a connection that came in and one to the target."""
    try:
        far = await connect(target)
    except OSError:
        near[1].close()
        return
    await asyncio.gather(pass_on(near[0], far[1], delay), pass_on(far[0], near[1], delay))


class Joins:
    """Called for each connection that comes in: joins it to the target."""

    def __init__(self, target: str, delay: float) -> None:
        self._target = target
        self._delay = delay
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(join((reader, writer), self._target, self._delay))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def ended(self) -> None:
        """Wait until all of them have passed on everything, for some seconds at most."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)


async def serve_port(target: str, delay: float) -> None:
    """Listen on a free port, print it, and pass on until standard input ends."""
    server = await asyncio.start_server(Joins(target, delay), "127.0.0.1", 0, limit=_CHUNK)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(serve_port(sys.argv[1], float(sys.argv[2])))
