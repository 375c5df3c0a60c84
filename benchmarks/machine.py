"""What the machine itself can do: an echo over a socketpair, and processes that only sleep.

``python -m benchmarks.machine`` is the sleepers' parent: a process of its own, so that they are
forked from something small that has no threads and none of a pool's sockets.
"""

import mmap
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable

MESSAGE = bytes(64)
NAP = 0.001


class Echo:
    """A forked process that sends back each 64 bytes that it gets: the least that a trip costs."""

    def __init__(self) -> None:
        self.socket, other = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            self.socket.close()
            try:
                while message := other.recv(64):
                    other.sendall(message)
            finally:
                os._exit(0)
        other.close()

    def trip(self) -> None:
        """Send 64 bytes and wait until they are back."""
        self.socket.sendall(MESSAGE)
        if len(self.socket.recv(64)) != len(MESSAGE):
            raise ConnectionError("the echo process answered something else")

    def close(self) -> None:
        """End the process."""
        self.socket.close()
        os.waitpid(self.pid, 0)


class Sleepers:
    """Plain forked processes that do nothing but sleep for a millisecond, over and over."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.machine"],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def rate(self, processes: int, seconds: float) -> float:
        """Return how many sleeps all of them together finish a second."""
        assert self.process.stdin
        assert self.process.stdout
        print(processes, seconds, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def close(self) -> None:
        """End the process that forks them."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def sleep_together(
    processes: int, seconds: float, nap: Callable[[float], None] = time.sleep
) -> float:
    """Fork processes that sleep, and return the number of naps a second of all together."""
    area = mmap.mmap(-1, 8 * processes)
    begin = time.monotonic() + 0.2 + 0.002 * processes
    pids = [fork_sleeper(area, number, begin, begin + seconds, nap) for number in range(processes)]
    for pid in pids:
        os.waitpid(pid, 0)
    counts: tuple[int, ...] = struct.unpack(f"{processes}Q", area[: 8 * processes])
    return sum(counts) / seconds


def fork_sleeper(
    area: mmap.mmap, number: int, begin: float, end: float, nap: Callable[[float], None]
) -> int:
    """Fork one process that counts its naps between two times; return its id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        time.sleep(max(0.0, begin - time.monotonic()))
        count = 0
        # Once in any case: a process that was started too late says so by a low number.
        while not count or time.monotonic() < end:
            nap(NAP)
            count += 1
        struct.pack_into("Q", area, 8 * number, count)
    finally:
        os._exit(0)


def main() -> None:
    """Answer each line "processes seconds" on standard input with the naps a second."""
    for line in sys.stdin:
        processes, seconds = line.split()
        print(sleep_together(int(processes), float(seconds)), flush=True)


if __name__ == "__main__":
    main()
