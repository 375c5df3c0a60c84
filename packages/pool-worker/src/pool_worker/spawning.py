"""Workers as fresh processes, where forking is unsafe or absent; started as a program of its own.

The settings, and with them the token, reach the new process on its standard input.
"""

import os
import sys
from contextlib import suppress

from pool_worker.outputs import Ends
from pool_worker.page import Pages
from pool_worker.settings import Settings
from pool_worker.starting import Place, become_worker


class Spawner:
    """Makes workers as fresh processes."""

    def __init__(self, settings: Settings, pages: Pages) -> None:
        self._line = settings.line()
        self._pages = pages
        os.set_inheritable(pages.fd, True)
        if settings.stderr is not None:
            os.set_inheritable(settings.stderr, True)

    def start(self, number: int, slot: int, ends: Ends | None) -> int:
        """See ``Starter``."""
        for end in ends or ():
            os.set_inheritable(end, True)
        place = Place(number, self._pages.fd, slot, os.getpid(), *(ends or ()))
        program = [sys.executable, "-P", "-m", "pool_worker.spawning", *map(str, place)]
        reader, writer = os.pipe()
        try:
            actions = [(os.POSIX_SPAWN_DUP2, reader, 0)]
            pid = os.posix_spawn(sys.executable, program, os.environ, file_actions=actions)
            os.close(reader)
            reader = -1
            # If the process has ended already, its end is told in the usual way.
            with suppress(BrokenPipeError):
                _write_all(writer, self._line)
        finally:
            for end in (reader, writer):
                if end >= 0:
                    os.close(end)
        return pid


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def main(argv: list[str]) -> None:
    """Be the worker that the arguments, a ``Place``, and standard input say."""
    settings = Settings.parse(sys.stdin.buffer.readline())
    settings.apply()
    become_worker(settings, Place(*map(int, argv)))


if __name__ == "__main__":
    main(sys.argv[1:])
