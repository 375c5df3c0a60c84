"""Where workers connect back to: who gets in, who does not, and what happens under pressure."""

import asyncio
import errno
import logging
import os
import socket
import stat
import tempfile
import time
from pathlib import Path

import pytest
import support
from link_model import Peer, Record

from pool_client import listener as listener_module
from pool_client.errors import HostError
from pool_client.listener import Listener, make_directory, sweep
from pool_client.loop_thread import new_loop
from pool_protocol import AuthenticationError, Role
from pool_protocol.messages import Kill, Pong
from pool_protocol.testing import LAUNCH, TOKEN


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request):
    """Both kinds of loop."""
    loop = asyncio.SelectorEventLoop() if request.param == "asyncio" else new_loop()
    yield loop
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.fixture
def events():
    return Record()


@pytest.fixture
def listener(loop, events):
    listener = Listener(loop, {LAUNCH: TOKEN}.get, events, None)
    yield listener
    for link in events.opened_links:
        link.close()
    listener.close()


def until(loop, condition):
    """Run the loop until a condition holds."""

    async def wait():
        while not condition():
            await asyncio.sleep(0.001)

    loop.run_until_complete(asyncio.wait_for(wait(), 20))


def in_thread(loop, function):
    """Run the loop while a function runs in a thread; its result."""
    return loop.run_until_complete(asyncio.wait_for(loop.run_in_executor(None, function), 20))


def dial(loop, listener, **settings):
    """A peer after its handshake."""

    def run():
        peer = Peer.dial(listener.address, **settings)
        try:
            peer.shake_hands()
        except BaseException:
            peer.close()
            raise
        return peer

    return in_thread(loop, run)


# -- who gets in


def test_nobody_else_can_reach_it(listener):
    assert stat.S_IMODE(os.stat(listener.directory).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(listener.address).st_mode) == 0o600
    assert listener.address.startswith(str(listener.directory))


def test_a_peer_with_the_token_is_handed_over(loop, listener, events):
    peer = dial(loop, listener, role=Role.CONTROL)
    until(loop, lambda: events.opened_links)
    [link] = events.opened_links
    assert link.connection.identity.launch == LAUNCH
    assert link.events is events
    peer.connection.send(Pong(1))
    peer.flush()
    until(loop, lambda: events.messages)
    link.connection.send(Kill(7))
    link.flush()
    assert in_thread(loop, lambda: peer.messages(1)) == [Kill(7)]
    peer.close()
    until(loop, lambda: events.ends)
    assert not listener._half_open


def test_many_at_once_all_get_in(loop, listener, events):
    def run():
        peers = [Peer.dial(listener.address) for _ in range(300)]
        for peer in peers:
            peer.flush()
        for peer in peers:
            peer.shake_hands()
        return peers

    peers = in_thread(loop, run)
    until(loop, lambda: len(events.opened_links) == 300)
    assert not listener._half_open
    for peer in peers:
        peer.close()
    until(loop, lambda: len(events.ends) == 300)


@pytest.mark.parametrize(
    "settings", [{"token": b"x" * 32}, {"launch": b"unknown!"}], ids=["token", "launch"]
)
def test_a_peer_without_the_token_is_refused(loop, listener, events, caplog, settings):
    with pytest.raises(AuthenticationError):
        dial(loop, listener, **settings)
    until(loop, lambda: not listener._half_open)
    assert not events.opened_links
    assert TOKEN.hex() not in caplog.text


def test_a_stranger_is_refused_with_a_line_in_the_log(loop, listener, events, caplog):
    strangers = [b"GET / HTTP/1.1\r\n\r\n", b"\x80\x05pickle", b"\xff" * 100]
    with caplog.at_level(logging.WARNING, "pool_client"):
        for data in strangers:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(20)
                sock.connect(listener.address)
                sock.sendall(data)
                assert in_thread(loop, lambda sock=sock: end_of(sock))
    assert caplog.text.count("refused a connection") == 3
    assert not events.opened_links
    assert not listener._half_open


def end_of(sock):
    try:
        return not sock.recv(1000)
    except ConnectionResetError:
        return True


def test_a_peer_that_leaves_at_once_is_forgotten_without_a_word(loop, listener, caplog):
    for _ in range(10):
        socket.socket(socket.AF_UNIX).connect(listener.address)
    until(loop, lambda: not listener._half_open)
    dial(loop, listener).close()
    assert "refused" not in caplog.text


def test_another_users_peer_is_turned_away(loop, listener, events, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(listener.address)
        assert in_thread(loop, lambda: end_of(sock))
    assert not listener._half_open


def test_where_the_peers_user_is_not_known_the_directory_keeps_others_out(
    loop, listener, events, monkeypatch
):
    monkeypatch.delattr(socket, "SO_PEERCRED")
    dial(loop, listener).close()
    assert events.opened_links


# -- silence


def test_a_silent_peer_is_closed_after_a_while(loop, listener, events, monkeypatch):
    monkeypatch.setattr(listener_module, "HANDSHAKE_SECONDS", 0.05)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(listener.address)
        assert in_thread(loop, lambda: end_of(sock))
    assert not listener._half_open


def test_what_came_while_our_own_loop_slept_counts(loop, listener, events, monkeypatch):
    monkeypatch.setattr(listener_module, "HANDSHAKE_SECONDS", 0.05)
    peer = Peer.dial(listener.address)
    until(loop, lambda: listener._half_open)
    peer.flush()

    async def sleep_on_the_loop():
        time.sleep(0.3)

    loop.run_until_complete(sleep_on_the_loop())
    in_thread(loop, peer.shake_hands)
    until(loop, lambda: events.opened_links)
    peer.close()


def test_more_silent_peers_than_it_takes_leave_room_for_a_real_one(
    loop, listener, events, monkeypatch
):
    monkeypatch.setattr(listener_module, "HANDSHAKE_SECONDS", 0.05)
    monkeypatch.setattr(listener_module, "HALF_OPEN", 5)
    monkeypatch.setattr(listener_module, "_PAUSE", 0.01)
    silent = []
    for _ in range(20):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(listener.address)
        silent.append(sock)
    until(loop, lambda: listener._half_open)
    assert len(listener._half_open) <= 5
    peer = dial(loop, listener)
    until(loop, lambda: events.opened_links)
    for sock in (*silent, peer):
        sock.close()


def test_without_descriptors_it_waits_and_goes_on(tmp_path):
    script = support.run_script(
        """
        import asyncio, logging, os, resource, socket, sys
        from link_model import Peer, Record
        from pool_client import listener
        from pool_protocol.testing import LAUNCH, TOKEN

        logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
        listener._PAUSE = 0.01

        async def main():
            loop = asyncio.get_running_loop()
            events = Record()
            place = listener.Listener(loop, {LAUNCH: TOKEN}.get, events, None)
            peer = Peer.dial(place.address)
            shaken = loop.run_in_executor(None, peer.shake_hands)
            await asyncio.sleep(0.01)
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            others = [socket.socket(socket.AF_UNIX) for _ in range(5)]
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
            fillers = []
            try:
                while True:
                    fillers.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                pass
            for other in others:
                other.connect(place.address)
            await asyncio.sleep(0.1)
            assert len(place._half_open) == 0, place._half_open
            for filler in fillers:
                os.close(filler)
            while len(place._half_open) < 5:
                await asyncio.sleep(0.01)
            await shaken
            assert len(events.opened_links) == 1
            events.opened_links[0].close()
            place.close()
            print("all got in")

        asyncio.run(asyncio.wait_for(main(), 20))
        """
    )
    assert script.stdout == "all got in\n"
    assert "cannot accept a worker yet" in script.stderr


# -- the end


def test_closing_leaves_nothing(loop, events):
    before = support.open_descriptors()
    place = Listener(loop, {LAUNCH: TOKEN}.get, events, None)
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(place.address)
    until(loop, lambda: place._half_open)
    place.close()
    place.close()
    assert not os.path.exists(place.directory)
    sock.settimeout(20)
    assert end_of(sock)
    sock.close()
    assert {name for name in support.open_descriptors() - before if "socket" in name[1]} == set()
    with pytest.raises(OSError, match="No such file"):
        Peer.dial(place.address)


def test_closing_while_it_pauses(loop, events, monkeypatch):
    monkeypatch.setattr(listener_module, "HALF_OPEN", 0)
    monkeypatch.setattr(listener_module, "_PAUSE", 0.02)
    place = Listener(loop, {LAUNCH: TOKEN}.get, events, None)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(place.address)
        until(loop, lambda: place._paused)
        place._pause()
        place.close()
        until(loop, lambda: not place._paused)


def test_an_error_that_nobody_expects_is_not_hidden(listener, monkeypatch):
    class Broken:
        def accept(self):
            raise OSError(5, "no such luck")

    monkeypatch.setattr(listener, "_sock", Broken())
    with pytest.raises(OSError, match="no such luck"):
        listener._accept()
    monkeypatch.undo()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_what_is_short_for_now_is_waited_for(loop, listener, events, monkeypatch, caplog, number):
    class Short:
        def __init__(self, sock):
            self.sock = sock

        def accept(self):
            raise OSError(number, os.strerror(number))

        def fileno(self):
            return self.sock.fileno()

    monkeypatch.setattr(listener_module, "_PAUSE", 0.01)
    monkeypatch.setattr(listener, "_sock", Short(listener._sock))
    listener._accept()
    assert listener._paused
    listener._accept()
    assert caplog.text.count("cannot accept a worker yet") == 1, "one line, not one a turn"
    monkeypatch.undo()
    dial(loop, listener).close()
    assert events.opened_links


def test_a_rush_leaves_the_loop_to_others_between_its_turns(listener):
    rush = [socket.socket(socket.AF_UNIX) for _ in range(100)]
    for sock in rush:
        sock.connect(listener.address)
    listener._accept()
    assert 1 < len(listener._half_open) < 100
    listener._accept()
    assert len(listener._half_open) == 100
    for sock in rush:
        sock.close()


def test_a_deadline_of_a_peer_that_is_in_already_is_nothing(loop, listener, events):
    dial(loop, listener).close()
    [link] = events.opened_links
    listener._late(link, 0)
    assert not link.ended or events.ends


def test_messages_before_the_handshake_cannot_be(listener):
    with pytest.raises(AssertionError):
        listener.received(None, [Pong(1)])


def test_a_forked_child_lets_go_and_the_parent_goes_on(loop, listener, events):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(listener.address)
    until(loop, lambda: listener._half_open)
    forked = os.fork()
    if not forked:
        listener.abandon()
        os._exit(0 if os.path.exists(listener.address) else 1)
    assert os.waitpid(forked, 0)[1] == 0
    dial(loop, listener).close()
    assert events.opened_links
    sock.close()


def test_letting_go_closes_descriptors_and_keeps_the_files(loop, events):
    before = support.open_descriptors()
    place = Listener(loop, {LAUNCH: TOKEN}.get, events, None)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(place.address)
        until(loop, lambda: place._half_open)
        for link in place._half_open:
            loop.remove_reader(link._fd)
        loop.remove_reader(place._sock.fileno())
        place.abandon()
    assert {name for name in support.open_descriptors() - before if "socket" in name[1]} == set()
    assert os.path.exists(place.address)
    place.remove_files()
    assert not os.path.exists(place.directory)


# -- the directory


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder for the directories of pools, with a short name."""
    folder = Path(tempfile.mkdtemp(prefix="d-"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder
    for entry in folder.iterdir():
        entry.chmod(0o700)
        sweep(folder)
        if entry.exists():
            listener_module.shutil.rmtree(entry)
    folder.rmdir()


def dead_pid():
    forked = os.fork()
    if not forked:
        os._exit(0)
    os.waitpid(forked, 0)
    return forked


def test_directories_of_dead_clients_are_swept_away(place):
    dead = place / f"pool-client-{dead_pid()}-abc"
    alive = place / f"pool-client-{os.getpid()}-abc"
    other = place / "pool-client-x-abc"
    for folder in (dead, alive, other):
        folder.mkdir()
        (folder / "socket").touch()
    mine = make_directory()
    assert mine.parent == place
    assert not dead.exists()
    assert alive.exists()
    assert other.exists()
    assert mine.name.startswith(f"pool-client-{os.getpid()}-")


def test_what_belongs_to_another_user_is_left_alone(place, monkeypatch):
    dead = place / f"pool-client-{dead_pid()}-abc"
    dead.mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    sweep(place)
    assert dead.exists()


def test_a_process_that_we_may_not_signal_is_alive(monkeypatch):
    def refuse(pid, number):
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert listener_module._alive(1)


def test_a_folder_that_cannot_be_looked_at_is_no_error(tmp_path):
    sweep(tmp_path / "missing")


def test_a_folder_with_too_long_a_name_is_passed_over(place, monkeypatch, tmp_path):
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    made = make_directory()
    assert made.parent != long
    made.rmdir()


def test_without_a_folder_that_can_be_written_it_says_what_to_do(monkeypatch):
    monkeypatch.setattr(os, "access", lambda *args: False)
    with pytest.raises(HostError, match=r"local: .*set TMPDIR"):
        make_directory()


def test_a_full_disk_is_named(place, monkeypatch):
    def full(**settings):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(HostError, match=r"No space left on device.*set TMPDIR"):
        make_directory()
    monkeypatch.undo()
