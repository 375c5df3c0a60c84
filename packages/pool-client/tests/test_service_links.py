"""The client's end of service connections: replies, errors, limits, and links that end."""

import asyncio
import gc
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from link_model import Peer
from loops import in_thread, until

from pool_client.links.link import Link
from pool_client.services import service_links as module
from pool_client.services.service_links import Services
from pool_protocol import Connection, ListenerHandshake, Role
from pool_protocol.messages import Message, Reply, Request
from pool_protocol.testing import LAUNCH, TOKEN

OPTIONS: Any = SimpleNamespace(code_paths=())


class HandOver:
    """What the fleet does with a link that is for services."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def opened(self, link: Link) -> None:
        self._services.opened(link)
        link.events = self._services

    def received(self, link: Link, messages: list[Message]) -> None:
        raise AssertionError("the services have the link")

    def ended(self, link: Link, error: BaseException | None) -> None:
        """The peer went away early."""


@dataclass
class Bench:
    """Services on a loop, and workers that ask them."""

    loop: asyncio.AbstractEventLoop
    services: Services
    max_message: int | None = None

    def blocking(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a function that blocks, while the loop runs."""
        return in_thread(self.loop, function, *args)

    @contextmanager
    def worker(self) -> Iterator[tuple[Link, Peer]]:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        connection = Connection(ListenerHandshake({LAUNCH: TOKEN}.get), self.max_message)
        link = Link(self.loop, ours, connection, HandOver(self.services))
        peer = Peer(theirs, Role.SERVICE)
        try:
            self.blocking(peer.shake_hands)
            yield link, peer
        finally:
            link.close()
            peer.close()

    def ask(self, peer: Peer, *requests: Request) -> dict[int, Reply]:
        """Send requests; the replies by their numbers, in the order in which they came."""
        for request in requests:
            peer.connection.send(request)
        self.blocking(peer.flush)
        return self.replies(peer, len(requests))

    def replies(self, peer: Peer, count: int) -> dict[int, Reply]:
        return {reply.number: reply for reply in self.blocking(peer.messages, count)}

    def until(self, condition: Callable[[], object]) -> None:
        """Run the loop until a condition holds."""
        until(self.loop, condition)

    def turn(self) -> None:
        """Run the loop for some turns, in which what was cancelled ends."""
        for _ in range(5):
            self.loop.run_until_complete(asyncio.sleep(0.001))


@pytest.fixture
def bench(loop: asyncio.AbstractEventLoop) -> Iterator[Bench]:
    """Services, which are closed after the test."""
    made = Bench(loop, Services(OPTIONS))
    yield made
    made.services.close()
    made.turn()


def echo(method: str, blob: Any) -> bytes:
    return method.encode() + b":" + bytes(blob)


def test_reply(bench: Bench) -> None:
    """A handler's bytes are the reply, under the request's number."""
    bench.services.register("echo", echo)
    with bench.worker() as (_, peer):
        replies = bench.ask(peer, Request(7, "echo", "a", b"1"), Request(9, "echo", "b", b"2"))
    assert replies == {7: Reply(7, "", b"a:1"), 9: Reply(9, "", b"b:2")}


def test_awaited_replies_in_any_order(bench: Bench) -> None:
    """A handler that waits holds no other request back."""
    gate = asyncio.Event()

    async def wait(method: str, blob: Any) -> bytes:
        if method == "wait":
            await gate.wait()
        else:
            gate.set()
        return method.encode()

    bench.services.register("slow", wait)
    with bench.worker() as (_, peer):
        names = ("wait", "wait", "open", "wait")
        asked = [Request(number, "slow", name) for number, name in enumerate(names)]
        replies = bench.ask(peer, *asked)
    assert tuple(bytes(replies[number].blob).decode() for number in range(4)) == names
    assert next(iter(replies)) == 2


@pytest.mark.parametrize("way", ["at once", "awaited"])
def test_errors(bench: Bench, way: str) -> None:
    """What a handler raises is the reply's error; the next request is served."""

    def fail(method: str, blob: Any) -> bytes:
        if method == "fail":
            raise LookupError("no such thing")
        if method == "silent":
            raise KeyboardFailure
        return b"fine"

    async def fail_later(method: str, blob: Any) -> bytes:
        await asyncio.sleep(0)
        return fail(method, blob)

    class KeyboardFailure(Exception):
        pass

    bench.services.register("bad", fail if way == "at once" else fail_later)
    with bench.worker() as (_, peer):
        assert bench.ask(peer, Request(1, "bad", "fail"))[1].error == "LookupError: no such thing"
        assert bench.ask(peer, Request(2, "bad", "silent"))[2].error == "KeyboardFailure"
        assert bench.ask(peer, Request(3, "bad", "good"))[3] == Reply(3, "", b"fine")


def test_unknown_service(bench: Bench) -> None:
    """The error names those that there are."""
    with bench.worker() as (_, peer):
        assert bench.ask(peer, Request(1, "no", "m"))[1].error == (
            "the client has no service 'no', only modules"
        )


def test_registered_twice(bench: Bench) -> None:
    """A name belongs to one handler."""
    with pytest.raises(ValueError, match="'modules' already"):
        bench.services.register("modules", echo)


def test_modules_are_there(bench: Bench) -> None:
    """The service of modules answers without anybody registering it."""
    with bench.worker() as (_, peer):
        reply = bench.ask(peer, Request(1, "modules", "find", b"json"))[1]
    assert b'"missing"' in bytes(reply.blob)


def test_too_many_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit a request is refused; the limit is each connection's own."""
    monkeypatch.setattr(module, "MOST_UNDER_WAY", 3)
    gate = asyncio.Event()

    async def wait(method: str, blob: Any) -> bytes:
        await gate.wait()
        return b"done"

    bench.services.register("slow", wait)
    with bench.worker() as (_, peer), bench.worker() as (_, other):
        for number in range(3):
            peer.connection.send(Request(number, "slow", "m"))
        peer.connection.send(Request(3, "slow", "m"))
        bench.blocking(peer.flush)
        refused = bench.replies(peer, 1)[3]
        assert "3 requests of this worker are under way" in refused.error
        other.connection.send(Request(0, "slow", "m"))
        bench.blocking(other.flush)
        bench.until(lambda: "2 links, 4 requests" in repr(bench.services))
        gate.set()
        assert sorted(bench.replies(peer, 3)) == [0, 1, 2]
        assert bench.replies(other, 1)[0].error == ""
        assert bench.ask(peer, Request(4, "slow", "m"))[4].error == ""


def test_reply_over_the_limit(bench: Bench) -> None:
    """A reply that is too large becomes an error that says so."""
    bench.max_message = 2000
    bench.services.register("big", lambda method, blob: bytes(5000))
    with bench.worker() as (_, peer):
        assert "max_message" in bench.ask(peer, Request(1, "big", "m"))[1].error


def test_large_reply(bench: Bench) -> None:
    """A reply that the kernel does not take at once arrives whole."""
    blob = bytes(range(256)) * 20_000
    bench.services.register("big", lambda method, _: blob)
    with bench.worker() as (_, peer):
        assert bytes(bench.ask(peer, Request(1, "big", "m"))[1].blob) == blob


def test_link_that_ends(bench: Bench) -> None:
    """Who has gone is not waited for: the handler is cancelled."""
    cancelled: list[str] = []
    started: list[str] = []

    async def wait(method: str, blob: Any) -> bytes:
        started.append(method)
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            cancelled.append(method)
            raise
        return b""

    bench.services.register("slow", wait)
    with bench.worker() as (link, peer):
        peer.connection.send(Request(1, "slow", "m"))
        bench.blocking(peer.flush)
        bench.until(lambda: started)
        peer.close()
        bench.until(lambda: cancelled)
        assert link.ended
        bench.turn()
    assert cancelled == ["m"]
    assert "0 links, 0 requests" in repr(bench.services)


def test_handler_that_cannot_be_stopped(bench: Bench) -> None:
    """Its reply comes too late, and is dropped without an error."""
    errors: list[dict[str, Any]] = []
    done: list[str] = []
    bench.loop.set_exception_handler(lambda loop, context: errors.append(context))

    async def stubborn(method: str, blob: Any) -> bytes:
        done.append("started")
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            done.append("goes on")
        return b"too late"

    bench.services.register("slow", stubborn)
    with bench.worker() as (_, peer):
        peer.connection.send(Request(1, "slow", "m"))
        bench.blocking(peer.flush)
        bench.until(lambda: done)
        peer.close()
        bench.until(lambda: len(done) == 2)
        bench.turn()
    gc.collect()
    assert errors == []


def test_close(bench: Bench) -> None:
    """Open links are closed, handlers are cancelled, and it may be said twice."""
    started: list[str] = []

    async def wait(method: str, blob: Any) -> bytes:
        started.append(method)
        await asyncio.sleep(1000)
        return b""

    bench.services.register("slow", wait)
    with bench.worker() as (link, peer):
        peer.connection.send(Request(1, "slow", "m"))
        bench.blocking(peer.flush)
        bench.until(lambda: started)
        bench.services.close()
        bench.services.close()
        assert link.ended
        assert bench.blocking(peer.at_end)


def test_abandon(bench: Bench) -> None:
    """In a forked child the descriptors are closed, and the loop is not touched."""
    with bench.worker() as (link, peer):
        bench.services.abandon()
        assert link.ended
        bench.loop.remove_reader(link._fd)
        assert bench.blocking(peer.at_end)
