"""The private folder of a pool's Unix socket, and what killed clients left of theirs.

A client holds its folder locked for as long as it lives. The lock ends with it, and every process
of the kernel sees it: containers that share the folder around do not know each other's process ids,
and in each of them the client may have the same one. Besides, systemd-tmpfiles, which removes what
is old, leaves alone what is locked.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from pool_client.errors import HostError

_PREFIX = "pool-client."
#: The longest path of a Unix socket that every system takes (Linux 107, macOS 103).
_MAX_PATH = 100
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class SocketFolder:
    """A new private folder; making it sweeps up what killed clients left behind.

    Raises HostError when there is no place for it.
    """

    def __init__(self) -> None:
        around = _place()
        sweep(around)
        try:
            self.path, self._lock = _make(around)
        except OSError as error:
            raise HostError(
                "local",
                f"cannot make a folder in {around} ({error}); set XDG_RUNTIME_DIR to another one",
            ) from error

    def __repr__(self) -> str:
        return f"<SocketFolder {self.path}>"

    def remove(self) -> None:
        """Remove the folder and everything in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.release()

    def release(self) -> None:
        """Let go of the lock: a forked child must not hold it when its parent is dead."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)


def _place() -> Path:
    places = [os.environ.get("XDG_RUNTIME_DIR"), "/tmp"]
    with contextlib.suppress(FileNotFoundError):  # it writes a file, and the disk may be full
        places.insert(1, tempfile.gettempdir())
    for base in places:
        if base and os.access(base, os.W_OK | os.X_OK):
            folder = Path(base)
            if len(str(folder / f"{_PREFIX}{2**31}.xxxxxxxx" / "socket")) <= _MAX_PATH:
                return folder
    raise HostError(
        "local", "no folder for the pool's socket is writable; set XDG_RUNTIME_DIR to one that is"
    )


def _make(around: Path) -> tuple[Path, int]:
    """A new folder, and the descriptor that holds it locked. Raises OSError."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}.", dir=around))
        try:
            lock = os.open(path, _FOLDER)
        except FileNotFoundError:
            continue  # another client has swept it up, before it was locked
        except OSError:
            path.rmdir()
            raise
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue  # another client is sweeping it up
        except OSError:
            pass  # where no folder can be locked, none is swept up
        if path.exists():
            return path, lock
        os.close(lock)


def sweep(around: Path) -> None:
    """Remove the folders of clients of this user that are not alive any more."""
    with contextlib.suppress(OSError):
        for path in around.glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError):  # locked, gone by now, or no folder at all
                _remove_if_left(path)


def _remove_if_left(path: Path) -> None:
    lock = os.open(path, _FOLDER)
    try:
        if os.fstat(lock).st_uid == os.getuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(lock)
