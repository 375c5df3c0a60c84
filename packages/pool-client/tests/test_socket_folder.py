"""The private folder of a pool's socket: where it is made, and what is swept away."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pool_client.errors import HostError
from pool_client.links.socket_folder import SocketFolder, sweep


@pytest.fixture
def place(monkeypatch):
    """An empty folder for the directories of pools, with a short name."""
    folder = Path(tempfile.mkdtemp(prefix="d-"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder
    shutil.rmtree(folder)


def dead_pid():
    forked = os.fork()
    if not forked:
        os._exit(0)
    os.waitpid(forked, 0)
    return forked


def left(place, pid):
    """A folder as a client of this process id leaves it that is killed."""
    folder = place / f"pool-client.{pid}.abc"
    folder.mkdir()
    (folder / "socket").touch()
    return folder


class Client:
    """Another process that has made a folder."""

    def __init__(self):
        program = (
            "from pool_client.links.socket_folder import SocketFolder; import sys;"
            "made = SocketFolder(); (made.path / 'socket').touch();"
            "print(made.path, flush=True); sys.stdin.read()"
        )
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe)
        self.folder = Path(os.fsdecode(self.process.stdout.readline()[:-1]))

    def __enter__(self):
        return self

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __exit__(self, *error):
        self.kill()
        self.process.stdin.close()
        self.process.stdout.close()


def test_what_a_killed_client_left_is_swept_away(place):
    with Client() as client:
        sweep(place)
        assert (client.folder / "socket").exists()
        client.kill()
        mine = SocketFolder()
        assert not client.folder.exists()
        assert mine.path.parent == place and mine.path.name in repr(mine)
        sweep(place)
        assert mine.path.exists()
        mine.remove()
    assert os.listdir(place) == []


def test_in_another_container_the_process_id_says_nothing(place):
    """The owner lives, though nobody has its id here; or it is dead, though somebody has it."""
    alive, dead = left(place, dead_pid()), left(place, os.getpid())
    lock = os.open(alive, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    sweep(place)
    assert (alive / "socket").exists()
    assert not dead.exists()
    os.close(lock)
    sweep(place)
    assert not alive.exists()


def test_what_belongs_to_another_user_is_left_alone(place, monkeypatch):
    folder = left(place, dead_pid())
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    sweep(place)
    assert folder.exists()


def test_what_is_no_folder_is_left_alone(place):
    """A link to a folder of ours leads elsewhere."""
    folder = place / "mine"
    folder.mkdir()
    (place / "pool-client.1.abc").symlink_to(folder)
    (place / "pool-client.1.file").touch()
    sweep(place)
    assert len(os.listdir(place)) == 3


def test_a_forked_child_lets_go(place):
    """It may outlive its parent, whose folder is swept away then."""
    mine = SocketFolder()
    child = os.fork()
    if not child:
        mine.release()
        mine.release()
        signal.pause()
    os.close(mine._lock)  # as the death of this process would
    mine._lock = -1
    try:
        while mine.path.exists():  # as soon as the child has let go
            sweep(place)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_folder_is_swept_away_while_it_is_made(place, monkeypatch):
    """Another client finds it before it is locked: then another one is made."""
    opened, locked = os.open, fcntl.flock
    swept = []

    def sweep_first(path, flags, *args, **settings):
        if len(swept) == 0:
            swept.append(path)
            shutil.rmtree(path)
        return opened(path, flags, *args, **settings)

    def lock_later(descriptor, how):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if len(swept) == 1:
            swept.append(path)
            raise BlockingIOError(errno.EWOULDBLOCK, "another client has it")
        if len(swept) == 2:
            swept.append(path)
            shutil.rmtree(path)
        locked(descriptor, how)

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "open", sweep_first)
    monkeypatch.setattr(fcntl, "flock", lock_later)
    mine = SocketFolder()
    monkeypatch.undo()
    assert len(swept) == len(set(swept)) == 3 and mine.path not in swept
    assert mine.path.exists()
    mine.remove()
    assert len(os.listdir("/proc/self/fd")) == before


def test_where_nothing_can_be_locked(place, monkeypatch):
    """Pools work; what killed clients left stays."""

    def refuse(descriptor, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    folder = left(place, dead_pid())
    mine = SocketFolder()
    assert mine.path.exists() and folder.exists()
    mine.remove()
    assert not mine.path.exists()


def test_a_folder_that_cannot_be_looked_at_is_no_error(tmp_path):
    sweep(tmp_path / "missing")


def test_a_folder_with_too_long_a_name_is_passed_over(place, monkeypatch, tmp_path):
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    made = SocketFolder()
    assert made.path.parent != long
    made.remove()


def test_without_a_folder_that_can_be_written_it_says_what_to_do(monkeypatch):
    monkeypatch.setattr(os, "access", lambda *args: False)
    with pytest.raises(HostError, match=r"local: .*set XDG_RUNTIME_DIR"):
        SocketFolder()


def test_where_no_file_can_be_written_a_socket_still_can(monkeypatch):
    """Python looks for a temporary folder by writing a file: on a full disk there is none."""

    def full():
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", full)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    made = SocketFolder()
    assert made.path.parent == Path("/tmp")
    made.remove()


def test_a_full_disk_is_named(place, monkeypatch):
    def full(**settings):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(HostError, match=r"No space left on device.*set XDG_RUNTIME_DIR"):
        SocketFolder()
    monkeypatch.undo()


def test_no_descriptor_left_for_the_lock(place, monkeypatch):
    def none_left(path, flags, *args):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "open", none_left)
    with pytest.raises(HostError, match="Too many open files"):
        SocketFolder()
    monkeypatch.undo()
    assert os.listdir(place) == []
