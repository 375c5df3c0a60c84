"""The connection to a pool-spawner, against a peer that does what a test wants."""

import asyncio
import socket
import ssl
import threading

import pytest
from hosts.lan import make_credential
from loops import holds_in_child

from pool_client.launchers.base import Access
from pool_client.launchers.dialling import dial
from pool_client.launchers.lifeline import Lifeline
from pool_client.links.tls import client_context, server_context
from pool_client.loop_thread import new_loop
from pool_protocol import Connection, ListenerHandshake, RemoteProtocolError, Role, VersionMismatch
from pool_protocol.handshake import OPEN_LAUNCH, OPEN_TOKEN, PROTOCOL_VERSION
from pool_protocol.messages import Spawn, Spawned, SpawnEnded, SpawnQueued, Stop


@pytest.fixture(scope="session")
def credential(tmp_path_factory):
    return str(make_credential(tmp_path_factory.mktemp("credential")))


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    """Run a coroutine on both kinds of loop."""
    make = asyncio.SelectorEventLoop if request.param == "asyncio" else new_loop

    def start(coroutine):
        with asyncio.Runner(loop_factory=make) as runner:
            return runner.run(asyncio.wait_for(coroutine, 30))

    return start


class Peer:
    """Accepts one connection, and runs a script on it in a thread."""

    def __init__(self, credential, script, version=PROTOCOL_VERSION):
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = self._listening.getsockname()
        # As the spawner's: TlsSocket is for loops.
        self._context = server_context(Access(credential=credential))
        self._context.sslsocket_class = ssl.SSLSocket
        self._script = script
        self.connection = Connection(
            ListenerHandshake({OPEN_LAUNCH: OPEN_TOKEN}.get, version), max_message=1 << 20
        )
        self.messages = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        raw, _ = self._listening.accept()
        raw.settimeout(20)
        self.sock = raw
        try:
            self._script(self)
        except (OSError, EOFError):
            pass
        finally:
            self.sock.close()

    def tls(self):
        self.sock = self._context.wrap_socket(self.sock, server_side=True)

    def receive(self):
        while not self.messages:
            count = self.sock.recv_into(self.connection.get_buffer())
            if not count:
                raise EOFError
            try:
                self.messages += self.connection.received(count)
            finally:
                self.flush()
        return self.messages.pop(0)

    def send(self, message):
        self.connection.send(message)
        self.flush()

    def flush(self):
        for buffer in self.connection.take():
            self.sock.sendall(buffer)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._thread.join(20)
        self._listening.close()
        assert not self._thread.is_alive()


async def connect(peer, credential):
    sock = await dial(*peer.address)
    return Lifeline(sock, client_context(Access(credential=credential)), "localhost", "nas:8899")


async def begun(peer, credential, workers=1, hint=""):
    """A lifeline on which ``pool-worker`` was asked for, and a list of what it is told then."""
    lifeline = await connect(peer, credential)
    lifeline.hint = hint
    await lifeline.opened
    assert lifeline.local_address == "127.0.0.1"
    assert lifeline.ended() is None and lifeline.errors() == ""
    told = []
    lifeline.on_progress = told.append
    lifeline.spawn(workers, b"{}")
    return lifeline, told


async def until(condition):
    while not (value := condition()):
        await asyncio.sleep(0.001)
    return value


def test_from_the_handshake_to_the_end(run, credential):
    def script(peer):
        peer.tls()
        peer.got = peer.receive()
        assert peer.connection.role is Role.SPAWN
        peer.send(SpawnQueued(1, 4))
        peer.send(Spawned(77))
        peer.send(SpawnEnded(3, "pool-worker ended with exit code 3", b"trouble \xff\n"))

    async def body(peer):
        lifeline, told = await begun(peer, credential, workers=2)
        await until(lifeline.ended)
        assert peer.got == Spawn(2, b"{}")
        assert told == [SpawnQueued(1, 4), Spawned(77)]
        assert lifeline.ended() == "pool-worker ended with exit code 3"
        assert lifeline.errors() == "trouble \ufffd"
        lifeline.close()
        assert lifeline.ended() == "pool-worker ended with exit code 3", "the first reason counts"

    with Peer(credential, script) as peer:
        run(body(peer))


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1, "it failed (look at the address)"), (0, "it failed"), (-9, "it failed")],
)
def test_what_to_look_at_when_pool_worker_could_not_begin(run, credential, code, reason):
    def script(peer):
        peer.tls()
        peer.receive()
        peer.send(SpawnEnded(code, "it failed"))

    async def body(peer):
        lifeline, _ = await begun(peer, credential, hint="look at the address")
        assert await until(lifeline.ended) == reason
        lifeline.close()

    with Peer(credential, script) as peer:
        run(body(peer))


def test_hanging_up_still_hears_how_it_ended(run, credential):
    def script(peer):
        peer.tls()
        peer.receive()
        peer.send(Spawned(7))
        assert peer.receive() == Stop()
        # With this exit code, its reason would be explained if it were not our own wish.
        peer.send(SpawnEnded(1, "its client hung up", b"last words"))

    async def body(peer):
        lifeline, _ = await begun(peer, credential, hint="look at the address")
        lifeline.hang_up()
        lifeline.hang_up()
        assert await until(lifeline.ended) == "its client hung up"
        assert lifeline.errors() == "last words"
        lifeline.close()

    with Peer(credential, script) as peer:
        run(body(peer))


def test_a_connection_that_breaks_says_what_to_look_at(run, credential):
    def script(peer):
        peer.tls()
        peer.receive()

    async def body(peer):
        lifeline, _ = await begun(peer, credential)
        reason = await until(lifeline.ended)
        assert "nas:8899 broke" in reason and "stopped" in reason
        assert "nas:8899" in repr(lifeline)
        lifeline.close()

    with Peer(credential, script) as peer:
        run(body(peer))


def test_asking_on_a_connection_that_has_broken_since(run, credential):
    def script(peer):
        peer.tls()
        with pytest.raises(EOFError):
            peer.receive()

    async def body(peer):
        lifeline = await connect(peer, credential)
        await lifeline.opened
        lifeline.kill()
        lifeline.spawn(1, b"{}")
        assert lifeline.ended() == "it was ended from here"

    with Peer(credential, script) as peer:
        run(body(peer))


def fails(run, credential, script, **more):
    """The error with which ``opened`` fails."""

    async def body(peer):
        lifeline = await connect(peer, credential)
        with pytest.raises(Exception) as error:
            await lifeline.opened
        assert lifeline.ended()
        lifeline.close()
        return error.value

    with Peer(credential, script, **more) as peer:
        return run(body(peer))


def test_closed_before_tls_is_the_end_of_file(run, credential):
    assert isinstance(fails(run, credential, lambda peer: None), EOFError | ConnectionError)


def test_closed_after_tls_is_the_end_of_file(run, credential):
    assert isinstance(fails(run, credential, Peer.tls), EOFError | ConnectionError)


def test_what_does_not_speak_tls(run, credential):
    def script(peer):
        peer.sock.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
        while peer.sock.recv(4096):
            pass

    assert isinstance(fails(run, credential, script), ssl.SSLError)


def test_another_version(run, credential):
    def script(peer):
        peer.tls()
        with pytest.raises(VersionMismatch):
            peer.receive()

    error = fails(run, credential, script, version=PROTOCOL_VERSION + 1)
    assert isinstance(error, VersionMismatch)


def test_noise_inside_tls(run, credential):
    def script(peer):
        peer.tls()
        peer.sock.sendall(b"noise")
        while peer.sock.recv(4096):
            pass

    assert isinstance(fails(run, credential, script), RemoteProtocolError)


def test_killed_while_it_waits(run, credential):
    def script(peer):
        peer.tls()
        while peer.sock.recv(4096):
            pass

    async def body(peer):
        lifeline = await connect(peer, credential)
        lifeline.kill()
        lifeline.kill()
        assert lifeline.ended() == "it was ended from here"
        assert lifeline.opened.cancelled()

    with Peer(credential, script) as peer:
        run(body(peer))


def test_it_lets_go_when_its_loop_is_closed(run, credential):
    def script(peer):
        peer.tls()
        peer.receive()
        while peer.sock.recv(4096):
            pass

    kept = []

    async def body(peer):
        lifeline, _ = await begun(peer, credential)
        kept.append(lifeline)

    with Peer(credential, script) as peer:
        run(body(peer))
        kept[0].close()


def test_a_forked_child_closes_its_copy_and_the_parents_goes_on(run, credential):
    go_on = threading.Event()

    def script(peer):
        peer.tls()
        peer.receive()
        go_on.wait(20)
        peer.send(Spawned(7))
        peer.receive()

    async def body(peer):
        lifeline, told = await begun(peer, credential)
        assert holds_in_child(lambda: lifeline.abandon() is None)
        go_on.set()
        await until(lambda: told)
        assert told == [Spawned(7)] and lifeline.ended() is None
        lifeline.close()

    with Peer(credential, script) as peer:
        run(body(peer))
