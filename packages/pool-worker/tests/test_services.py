"""What a worker asks its client for: in threads, on loops, in forked children, and in vain."""

import asyncio
import gc
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from driver import PATIENCE
from service_client import Line, ServiceClient
from test_children import until

from pool_protocol import Role
from pool_protocol.messages import Request
from pool_worker import services as module
from pool_worker.services import ServiceError, ServiceLost, Services


def echo(line: Line, request: Request) -> bytes:
    return f"{request.service}.{request.method}:".encode() + bytes(request.blob)


class Holding:
    """Keeps the requests ``hold`` waiting; any other is answered at once.

    Args:
        releases: Whether that one is answered after all that were held, the last one first.
    """

    def __init__(self, releases: bool = True) -> None:
        self.held: list[int] = []
        self._releases = releases

    def __call__(self, line: Line, request: Request) -> bytes | None:
        if request.method == "hold":
            self.held.append(request.number)
            return None
        for number in reversed(self.held) if self._releases else ():
            line.reply(number, released(number))
        return b"quick"


def released(number: int) -> bytes:
    """What a request is answered with that was held."""
    return b"held %d" % number


@contextmanager
def services(folder: Path, handler: Any = echo) -> Iterator[tuple[Services, ServiceClient]]:
    with ServiceClient(folder, handler) as client:
        made = Services(client.settings, 3)
        try:
            yield made, client
        finally:
            if made._line is not None:
                made._line.channel.close()


def in_threads(*functions: Callable[[], object]) -> list[object]:
    """Run them at the same time; their results or errors, in their order."""
    results: list[object] = [None] * len(functions)

    def run(place: int, function: Callable[[], object]) -> None:
        try:
            results[place] = function()
        except Exception as error:
            results[place] = error

    threads = [threading.Thread(target=run, args=one, daemon=True) for one in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    return results


def on_a_loop(kind: str, main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    if kind == "asyncio":
        return asyncio.run(asyncio.wait_for(main(), PATIENCE))
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(main(), PATIENCE))


@contextmanager
def interrupted(
    made: Services, handler: Callable[[int, object], None], when: Callable[[], object]
) -> Iterator[None]:
    """A signal comes to this thread, with this handler, when it waits for a reply."""
    main = threading.get_ident()

    def interrupt() -> None:
        # The request has arrived before it is all done with sending.
        until(lambda: when() and made._line is not None and made._line.leader == main)
        signal.pthread_kill(main, signal.SIGALRM)

    thread = threading.Thread(target=interrupt)
    before = signal.signal(signal.SIGALRM, handler)
    try:
        thread.start()
        yield
    finally:
        thread.join()
        signal.signal(signal.SIGALRM, before)


def enough(number: int, frame: object) -> None:
    """A signal handler that raises."""
    raise TimeoutError("enough")


# One caller


def test_call(folder: Path) -> None:
    """A reply to a request; one connection, with the worker's number and the role of services."""
    with services(folder) as (made, client):
        assert client.lines == [] and "not connected" in repr(made)
        for number in range(3):
            assert made.call("s", "m", b"%d" % number) == b"s.m:%d" % number
        [line] = client.lines
        assert (line.identity.role, line.identity.worker) == (Role.SERVICE, 3)
        assert "0 requests" in repr(made)


def test_large(folder: Path) -> None:
    """Blobs of any size, both ways."""
    blob = os.urandom(3_000_000)
    with services(folder, lambda line, request: bytes(request.blob)) as (made, _):
        assert made.call("s", "m", blob) == blob


def test_refused_by_the_client(folder: Path) -> None:
    """The client's error is the caller's, and the connection lives on."""

    def refuse(line: Line, request: Request) -> bytes:
        if request.method == "bad":
            raise LookupError("there is no such thing")
        return b"fine"

    with services(folder, refuse) as (made, client):
        with pytest.raises(ServiceError, match="no such thing") as caught:
            made.call("s", "bad")
        assert not isinstance(caught.value, ServiceLost)
        assert made.call("s", "good") == b"fine"
        assert len(client.lines) == 1


def test_too_large(folder: Path) -> None:
    """Over the limit nothing is sent, and the connection lives on."""
    from dataclasses import replace

    with ServiceClient(folder, echo) as client:
        made = Services(replace(client.settings, max_message=2000), 1)
        with pytest.raises(ServiceError, match="max_message"):
            made.call("s", "m", bytes(3000))
        assert made.call("s", "m", b"x") == b"s.m:x"
        assert len(client.lines) == 1
        assert made._line is not None
        made._line.channel.close()


# Many at once


def test_threads(folder: Path) -> None:
    """Many threads ask at once; each gets its own reply."""
    with services(folder) as (made, client):

        def ask(base: int) -> bool:
            numbers = range(base, base + 200)
            return all(made.call("s", "m", b"%d" % n) == b"s.m:%d" % n for n in numbers)

        assert in_threads(*[lambda b=b: ask(b) for b in range(0, 8000, 1000)]) == [True] * 8
        assert len(client.lines) == 1


def test_replies_in_any_order(folder: Path) -> None:
    """A request that takes long holds no other one back."""
    holding = Holding()
    with services(folder, holding) as (made, _):

        def release() -> bytes:
            until(lambda: len(holding.held) == 3)
            return made.call("s", "release")

        waiters = [lambda: made.call("s", "hold") for _ in range(3)]
        results = in_threads(*waiters, release)
        assert results[3] == b"quick"
        assert sorted(map(str, results[:3])) == sorted(str(released(n)) for n in holding.held)


def test_leader_hands_over(folder: Path) -> None:
    """Whoever reads for all has its own reply and goes; another one reads on."""
    asked: list[int] = []

    def hold(line: Line, request: Request) -> None:
        asked.append(request.number)
        if len(asked) == 5:
            line.reply(asked[2], b"first")

    with services(folder, hold) as (made, client):

        def wait_and_go_on() -> bytes:
            got = made.call("s", "m")
            if got == b"first":
                # All others wait, and this thread reads for them no more.
                for number in asked[:2] + asked[3:]:
                    client.lines[0].reply(number, b"other")
            return got

        results = in_threads(*[wait_and_go_on] * 5)
        assert sorted(map(str, results)) == ["b'first'"] + ["b'other'"] * 4


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_coroutines(folder: Path, kind: str) -> None:
    """Many coroutines of one loop ask at once; the loop goes on meanwhile."""
    holding = Holding()

    async def main() -> None:
        asked = [asyncio.create_task(made.call_async("s", "hold")) for _ in range(50)]
        while len(holding.held) < 50:
            await asyncio.sleep(0.001)
        assert await made.call_async("s", "go") == b"quick"
        assert await asyncio.gather(*asked) == [released(number) for number in holding.held]

    with services(folder, holding) as (made, client):
        on_a_loop(kind, main)
        assert made.call("s", "hello") == b"quick"
        on_a_loop(kind, lambda: made.call_async("s", "again"))
        assert len(client.lines) == 1


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_threads_and_loops_together(folder: Path, kind: str) -> None:
    """Whoever reads, a reply reaches who waits for it."""
    with services(folder) as (made, _):

        def block(base: int) -> bool:
            return all(made.call("t", "m", b"%d" % n) == b"t.m:%d" % n for n in range(300))

        async def main() -> bool:
            for start in range(0, 300, 20):
                asked = [made.call_async("l", "m", b"%d" % n) for n in range(start, start + 20)]
                got = await asyncio.gather(*asked)
                if got != [b"l.m:%d" % n for n in range(start, start + 20)]:
                    return False
                made.call("l", "blocks its loop")
            return True

        jobs = [lambda: block(0), lambda: on_a_loop(kind, main)] * 2
        assert in_threads(*jobs) == [True] * 4


def test_cancelled_coroutine(folder: Path) -> None:
    """A coroutine that is cancelled is not waited for; a reply that comes late harms nobody."""
    holding = Holding()

    async def main() -> None:
        asked = asyncio.create_task(made.call_async("s", "hold"))
        while not holding.held:
            await asyncio.sleep(0.001)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert await made.call_async("s", "go") == b"quick"

    with services(folder, holding) as (made, _):
        asyncio.run(main())
        assert made._line is not None
        assert made._line.waiting == {} and made._line.loops == {} and made._line.users == 0


def test_cancelled_when_the_reply_is_there() -> None:
    """The reply was on its way to the loop already."""

    async def main() -> None:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.cancel()
        module._settle(future, b"too late")
        assert future.cancelled()

    asyncio.run(main())


def test_loop_that_is_closed_over_a_request(folder: Path) -> None:
    """Its coroutine is gone; others go on."""
    with services(folder, Holding()) as (made, _):
        loop = asyncio.SelectorEventLoop()
        task = loop.create_task(made.call_async("s", "hold"))
        loop.run_until_complete(asyncio.sleep(0.01))
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()
        assert made.call("s", "go") == b"quick"
        assert made.call("s", "go") == b"quick"
        line = made._line
        assert line is not None
        del task
        gc.collect()  # the coroutine ends
        assert line.users == 0 and not line.loops and not line.waiting


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
def test_signal_handler_asks(folder: Path) -> None:
    """A handler asks while the code that it has interrupted waits for a reply."""
    holding = Holding()
    got: list[bytes] = []
    with services(folder, holding) as (made, _):

        def handler(number: int, frame: object) -> None:
            got.append(made.call("s", "go"))

        with interrupted(made, handler, lambda: holding.held):
            assert made.call("s", "hold") == released(holding.held[0])
            assert got == [b"quick"]


def test_interrupted_call(folder: Path) -> None:
    """An exception out of a signal handler ends the waiting; the next call works."""
    holding = Holding(releases=False)
    with services(folder, holding) as (made, client):
        with (
            interrupted(made, enough, lambda: holding.held),
            pytest.raises(TimeoutError, match="enough"),
        ):
            made.call("s", "hold")
        assert made._line is not None and made._line.waiting == {}
        assert made.call("s", "go") == b"quick"
        assert in_threads(lambda: made.call("s", "go")) == [b"quick"]
        assert len(client.lines) == 1


def test_interrupted_before_the_wait(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal comes when the lock has just been given up."""
    with services(folder, Holding(releases=False)) as (made, client):
        with monkeypatch.context() as patch, pytest.raises(TimeoutError, match="enough"):
            patch.setattr(module, "_wait_readable", lambda _: enough(signal.SIGALRM, None))
            made.call("s", "hold")
        assert made._line is not None and made._line.leader is None
        assert in_threads(lambda: made.call("s", "go")) == [b"quick"]
        assert len(client.lines) == 1


def test_interrupted_while_everybody_is_told(folder: Path) -> None:
    """The connection is lost, and a signal's handler raises before all those who wait know."""
    with services(folder) as (made, _):
        assert made.call("s", "m") == b"s.m:"
        line = made._line
        assert line is not None
        got: list[object] = []

        def interrupted(outcome: object) -> None:
            line.waiting[1000] = got.append
            enough(signal.SIGALRM, None)

        line.waiting |= {1000: interrupted, 1001: got.append}
        with pytest.raises(TimeoutError, match="enough"), made._lock:
            made._lose(line, "it is gone")
        with made._lock:
            made._read(line)  # as whoever waits on it does sooner or later
        assert [type(one) for one in got] == [ServiceLost] * 2
        assert made.call("s", "m") == b"s.m:"


def test_interrupted_leader_hands_over(folder: Path) -> None:
    """If the thread that reads for all is interrupted, another one reads on."""
    held: list[int] = []

    def hold(line: Line, request: Request) -> None:
        held.append(request.number)

    with services(folder, hold) as (made, client):
        main = threading.get_ident()
        results: list[bytes] = []

        def follow() -> None:
            until(lambda: made._line is not None and made._line.leader == main)
            results.append(made.call("s", "follow"))

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        two = interrupted(made, enough, lambda: len(held) == 2)
        with two, pytest.raises(TimeoutError, match="enough"):
            made.call("s", "lead")
        client.lines[0].reply(held[1], b"later")
        thread.join(PATIENCE)
        assert results == [b"later"]


# In vain


def test_nobody_there(folder: Path) -> None:
    """The client is gone: the error says so."""
    with ServiceClient(folder, echo) as client:
        settings = client.settings
    os.unlink(settings.address)
    with pytest.raises(ServiceLost, match="cannot be asked"):
        Services(settings, 1).call("s", "m")


def test_wrong_token(folder: Path) -> None:
    """Whoever listens there does not know the token."""
    with (
        ServiceClient(folder, echo, token=bytes(32)) as client,
        pytest.raises(ServiceLost, match="token"),
    ):
        Services(client.settings, 1).call("s", "m")
    assert client.requests == []


def hang_up(line: Line, request: Request) -> bytes | None:
    if request.method == "end":
        line.socket.shutdown(socket.SHUT_RDWR)
        return None
    return b"fine" if request.method == "ask" else None


def test_lost_while_waiting(folder: Path) -> None:
    """Everybody who waits is told, in threads and on loops; the next call connects again."""
    with services(folder, hang_up) as (made, client):

        async def main() -> None:
            await made.call_async("s", "hold")

        def end() -> None:
            until(lambda: len(client.requests) == 3)
            made.call("s", "end")

        waiters = [
            lambda: made.call("s", "hold"),
            lambda: made.call("s", "hold"),
            lambda: asyncio.run(main()),
        ]
        results = in_threads(*waiters, end)
        assert [type(one) for one in results] == [ServiceLost] * 4
        assert "was lost" in str(results[0])
        assert made.call("s", "ask") == b"fine"
        assert len(client.lines) == 2


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_lost_on_a_loop(folder: Path, kind: str) -> None:
    """A coroutine is told, its loop lets go of the socket, and the next call connects again."""
    with services(folder, hang_up) as (made, client):

        async def main() -> None:
            for _ in range(3):
                with pytest.raises(ServiceLost):
                    await made.call_async("s", "end")
                assert await made.call_async("s", "ask") == b"fine"

        on_a_loop(kind, main)
        assert len(client.lines) == 4


def test_lost_before_asking(folder: Path) -> None:
    """The connection ended while nobody waited: one call may fail, the next one connects."""
    with services(folder, hang_up) as (made, client):
        assert made.call("s", "ask") == b"fine"
        client.lines[0].socket.shutdown(socket.SHUT_RDWR)
        with pytest.raises(ServiceLost):
            made.call("s", "ask")
        assert made.call("s", "ask") == b"fine"


def test_nonsense_from_the_client(folder: Path) -> None:
    """What is no reply ends the connection, with an error."""

    def nonsense(line: Line, request: Request) -> None:
        line.socket.sendall(b"\xff" * 64)

    with services(folder, nonsense) as (made, _), pytest.raises(ServiceLost):
        made.call("s", "m")


def test_no_descriptor_is_left(folder: Path) -> None:
    """A lost connection's socket is closed."""
    with services(folder, hang_up) as (made, client):
        for _ in range(2):
            with pytest.raises(ServiceLost):
                made.call("s", "end")
        assert made._line is None
        until(lambda: all(line.socket.fileno() < 0 for line in client.lines))
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            with pytest.raises(ServiceLost):
                made.call("s", "end")
        until(lambda: len(os.listdir("/proc/self/fd")) <= before)


# Forked children


def in_child(function: Callable[[], bytes]) -> bytes:
    """Call a function in a forked child; what it gave, or nothing if it did not end in time."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(writer, function())
        finally:
            os._exit(0)
    os.close(writer)
    try:
        readable = select.select([reader], [], [], PATIENCE)[0]
        return os.read(reader, 1000) if readable else b""
    finally:
        os.close(reader)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_forked_child_has_its_own_connection(folder: Path) -> None:
    """The parent's is not used by the child, and neither disturbs the other."""
    with services(folder) as (made, client):
        assert made.call("s", "m", b"parent") == b"s.m:parent"
        first = client.lines[0].connection
        assert in_child(lambda: made.call("s", "m", b"child")) == b"s.m:child"
        assert made.call("s", "m", b"parent") == b"s.m:parent"
        assert len(client.lines) == 2
        assert client.lines[0].connection is first


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_forked_in_the_middle_of_a_call(folder: Path) -> None:
    """A child that is forked while a thread waits does not wait for the parent's reply."""
    holding = Holding(releases=False)
    with services(folder, holding) as (made, client):

        def fork() -> bytes:
            until(lambda: holding.held)
            text = in_child(lambda: made.call("s", "go"))
            client.lines[0].reply(holding.held[0], b"held")
            return text

        assert in_threads(lambda: made.call("s", "hold"), fork) == [b"held", b"quick"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_forked_while_a_thread_connects(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child has a lock of its own, whoever holds the parent's."""
    connecting, gate = threading.Event(), threading.Event()
    connect = module.Channel.connect

    def slowly(*arguments: Any) -> Any:
        if threading.current_thread().name == "slow":
            connecting.set()
            assert gate.wait(PATIENCE)
        return connect(*arguments)

    monkeypatch.setattr(module.Channel, "connect", slowly)
    with services(folder) as (made, _):
        thread = threading.Thread(target=made.call, args=("s", "m"), name="slow", daemon=True)
        thread.start()
        assert connecting.wait(PATIENCE)
        try:
            assert in_child(lambda: made.call("s", "m", b"child")) == b"s.m:child"
        finally:
            gate.set()
            thread.join(PATIENCE)


def test_nothing_is_loaded_for_it() -> None:
    """A worker that never awaits a service does without asyncio."""
    import subprocess

    program = "import sys, pool_worker.services; print('asyncio' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert result.stdout == b"False\n"


# A signal's handler in the middle of things


class Interrupting:
    """A socket that moves few bytes at first, and has a signal come right after them."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        self._socket = sock
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def _interrupt(self, name: str) -> None:
        if name == self._name:
            self._name = ""
            signal.raise_signal(signal.SIGALRM)

    def send(self, data: memoryview) -> int:
        count = self._socket.send(data[:1000])
        self._interrupt("send")
        return count

    def sendmsg(self, buffers: list[memoryview]) -> int:
        return self.send(buffers[0])

    def recv_into(self, buffer: memoryview, nbytes: int, flags: int) -> int:
        count = self._socket.recv_into(buffer[:1000], 0, flags)
        self._interrupt("recv_into")
        return count


@contextmanager
def in_the_middle(
    made: Services, handler: Callable[[int, object], None], of: str
) -> Iterator[None]:
    """A signal comes to this thread, with this handler, when a part was sent or received."""
    assert made.call("s", "connect")
    line = made._line
    assert line is not None
    real = line.channel.socket
    line.channel.socket = Interrupting(real, of)  # type: ignore[assignment]
    before = signal.signal(signal.SIGALRM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)
        line.channel.socket = real


@pytest.mark.parametrize("of", ["send", "recv_into"])
def test_signal_handler_asks_in_the_middle_of_a_message(folder: Path, of: str) -> None:
    """What is half sent or half received is not mixed with what the handler asks."""
    got: list[bytes] = []
    blob = os.urandom(100_000)  # the reply fits into what the kernel holds
    with services(folder) as (made, client):

        def handler(number: int, frame: object) -> None:
            got.append(made.call("h", "m", b"handler"))

        with in_the_middle(made, handler, of):
            assert made.call("s", "m", blob) == b"s.m:" + blob
        assert got == [b"h.m:handler"]
        until(lambda: [line.socket.fileno() < 0 for line in client.lines] == [False, True])
        assert made.call("s", "m", b"x") == b"s.m:x"
        assert in_threads(lambda: made.call("s", "m", b"x")) == [b"s.m:x"]
        assert len(client.lines) == 2


def test_signal_handler_asks_while_its_thread_connects(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is one connection more for a moment."""
    connect = module.Channel.connect
    got: list[bytes] = []

    def interrupted(*arguments: Any) -> Any:
        channel = connect(*arguments)
        monkeypatch.undo()
        got.append(made.call("h", "m", b"handler"))
        return channel

    monkeypatch.setattr(module.Channel, "connect", interrupted)
    with services(folder) as (made, client):
        assert made.call("s", "m", b"1") == b"s.m:1"
        assert got == [b"h.m:handler"]
        assert made.call("s", "m", b"2") == b"s.m:2"
        until(lambda: sorted(line.socket.fileno() < 0 for line in client.lines) == [False, True])


@pytest.mark.parametrize("of", ["send", "recv_into"])
@pytest.mark.parametrize("error", [TimeoutError("enough"), KeyboardInterrupt()])
def test_interrupted_in_the_middle_of_a_message(
    folder: Path, of: str, error: BaseException
) -> None:
    """What the handler raises is the caller's; the next call has a connection that is whole."""

    def handler(number: int, frame: object) -> None:
        raise error

    with services(folder) as (made, client):
        with in_the_middle(made, handler, of), pytest.raises(type(error)) as caught:
            made.call("s", "m", bytes(100_000))
        assert caught.value is error
        assert made.call("s", "m", b"x") == b"s.m:x"
        assert in_threads(lambda: made.call("s", "m", b"x")) == [b"s.m:x"]
        assert len(client.lines) == 2


def test_what_came_before_the_end_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client replies and goes, and both is seen at once."""
    gone = threading.Event()

    def reply_and_go(line: Line, request: Request) -> None:
        line.reply(request.number, b"good bye")
        line.socket.shutdown(socket.SHUT_RDWR)
        gone.set()

    monkeypatch.setattr(module, "_wait_readable", lambda descriptor: gone.wait(PATIENCE))
    with services(folder, reply_and_go) as (made, _):
        assert made.call("s", "m") == b"good bye"
