"""Where supervisors and workers connect back to: a Unix socket that only we can reach.

The directory is 0700, the socket 0600, the peer's user is checked, and then comes the handshake.
A peer that is not authenticated yet holds one descriptor and less than 100 bytes, for at most ten
seconds in which our own loop ran.
"""

import asyncio
import contextlib
import errno
import logging
import os
import shutil
import socket
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

from pool_client.errors import HostError
from pool_client.link import Link, LinkEvents
from pool_protocol import Connection, ListenerHandshake, PoolError
from pool_protocol.messages import Message

logger = logging.getLogger("pool_client")

#: Seconds for a handshake.
HANDSHAKE_SECONDS = 10.0
#: Most peers in the middle of a handshake; further ones wait in the backlog.
HALF_OPEN = 2048
_BACKLOG = 4096
_PREFIX = "pool-client-"
#: The longest path of a Unix socket that every system takes (Linux 107, macOS 103).
_MAX_PATH = 100
#: Seconds until a listener that ran out of descriptors accepts again.
_PAUSE = 0.1


def make_directory() -> Path:
    """A private directory for the socket; sweeps up what killed clients left behind."""
    for base in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):
        if base and os.access(base, os.W_OK | os.X_OK):
            folder = Path(base)
            if len(str(folder / f"{_PREFIX}{2**31}-xxxxxxxx" / "socket")) <= _MAX_PATH:
                break
    else:
        raise HostError(
            "local", "no folder for the pool's socket is writable; set TMPDIR to one that is"
        )
    sweep(folder)
    try:
        return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=folder))
    except OSError as error:
        raise HostError(
            "local", f"cannot make a folder in {folder} ({error}); set TMPDIR to a writable one"
        ) from error


def sweep(folder: Path) -> None:
    """Remove the directories of clients of this user that are not alive any more."""
    with contextlib.suppress(OSError):
        for entry in folder.glob(f"{_PREFIX}*-*"):
            pid = entry.name[len(_PREFIX) :].partition("-")[0]
            if pid.isdigit() and not _alive(int(pid)) and entry.stat().st_uid == os.getuid():
                shutil.rmtree(entry, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _peer_is_us(sock: socket.socket) -> bool:
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # macOS: the directory's mode is what keeps others out
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return bool(struct.unpack("3i", data)[1] == os.getuid())


class Listener:
    """Accepts and authenticates; a link whose peer has proved itself goes to ``events``.

    ``tokens`` gives the token of a launch, or None. Raises HostError when there is no place for
    the socket.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tokens: Callable[[bytes], bytes | None],
        events: LinkEvents,
        max_message: int | None,
    ) -> None:
        self._loop = loop
        self._tokens = tokens
        self._events = events
        self._max_message = max_message
        self._half_open: dict[Link, asyncio.TimerHandle] = {}
        self._paused = False
        self._warned = False
        self.directory = make_directory()
        self.address = str(self.directory / "socket")
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.setblocking(False)
        self._sock.bind(self.address)
        os.chmod(self.address, 0o600)
        self._sock.listen(_BACKLOG)
        loop.add_reader(self._sock.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(64):
            if len(self._half_open) >= HALF_OPEN:
                return self._pause()
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return None
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                if not self._warned:
                    self._warned = True
                    logger.warning("cannot accept a worker yet, and try again: %s", error)
                return self._pause()
            if not _peer_is_us(sock):
                sock.close()
                continue
            self._greet(sock)
        return None

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._loop.remove_reader(self._sock.fileno())
            self._loop.call_later(_PAUSE, self._resume)

    def _resume(self) -> None:
        self._paused = False
        if self._sock.fileno() >= 0:
            self._loop.add_reader(self._sock.fileno(), self._accept)

    def _greet(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, 1 << 20)
        connection = Connection(ListenerHandshake(self._tokens), self._max_message)
        link = Link(self._loop, sock, connection, self)
        self._half_open[link] = self._loop.call_later(HANDSHAKE_SECONDS, self._late, link, 2)

    def _late(self, link: Link, chances: int) -> None:
        """The deadline has passed; if our loop was asleep, what came meanwhile counts first."""
        if link in self._half_open:
            if chances:
                self._half_open[link] = self._loop.call_later(0.05, self._late, link, chances - 1)
                return
            self._half_open.pop(link)
            link.close()

    def opened(self, link: Link) -> None:
        """The peer has proved itself: hand the link over."""
        self._half_open.pop(link).cancel()
        link.events = self._events
        self._events.opened(link)

    def received(self, link: Link, messages: list[Message]) -> None:
        """Never called: no message is legal before the link is handed over."""
        raise AssertionError(f"messages on a half-open {link!r}")

    def ended(self, link: Link, error: BaseException | None) -> None:
        """The peer went away, or was refused."""
        self._half_open.pop(link).cancel()
        if isinstance(error, PoolError):
            logger.warning("refused a connection: %s", error)

    def close(self) -> None:
        """Stop listening, drop who has not authenticated, remove the files."""
        if self._sock.fileno() >= 0:
            if not self._paused:
                self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
        for link, timer in list(self._half_open.items()):
            timer.cancel()
            link.close()
        self._half_open.clear()
        self.remove_files()

    def remove_files(self) -> None:
        """Remove the socket and its directory."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def abandon(self) -> None:
        """Close the descriptors without touching the loop or the files: in a forked child."""
        self._sock.close()
        for link in self._half_open:
            link.abandon()
