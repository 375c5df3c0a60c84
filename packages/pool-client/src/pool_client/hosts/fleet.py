"""The hosts of a pool: where they connect, whether they are up, and what arrives from where.

The fleet owns the listeners and the host runners, gives each new link to the seat, the host or the
service that it belongs to, and decides what becomes of a host in trouble.
"""

import asyncio
import functools
import logging
import os
import time
from typing import TYPE_CHECKING, Any

from pool_client.errors import HostError, PoolBroken
from pool_client.hosts.creation import Creation, broken
from pool_client.hosts.descriptors import make_room
from pool_client.hosts.host import HostRunner, Standing, State
from pool_client.hosts.perseverance import MAX_FAILURES, Advice, Trouble, advise
from pool_client.hosts.seat import Seat
from pool_client.hosts.settings import make_settings, make_setup
from pool_client.launchers import HostSpec, Order
from pool_client.links.link import Link
from pool_client.links.listener import Listener
from pool_client.scheduling.tasks import Host
from pool_protocol import Role
from pool_protocol.handshake import OPEN_LAUNCH
from pool_protocol.messages import Message

if TYPE_CHECKING:
    from pool_client.engine import Engine
    from pool_client.hosts.joining import Joining
    from pool_client.links.tcp_listener import TcpListener
    from pool_client.output import Printer
    from pool_client.services.service_links import Services

logger = logging.getLogger("pool_client")


class Fleet:
    """All hosts of one pool, on the engine's loop."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self.options = engine.options
        self.setup = make_setup(engine.options)
        self.creation = Creation(self)
        #: Every host, those that were dropped included; those that joined and left are not here.
        self.runners: list[HostRunner] = []
        self.joining: Joining | None = None
        #: How often a host was lost that had been up.
        self.hosts_lost = 0
        self._closing = False
        self._hosts_made = 0
        self._workers_made = 0
        #: Since when there has been no worker, on the monotonic clock.
        self._alone_since: float | None = None
        self._tokens: dict[bytes, tuple[bytes, HostRunner]] = {}
        self._listener: Listener | None = None
        self._tcp: TcpListener | None = None
        self._services: Services | None = None
        self._printer: Printer | None = None

    # -- creation

    def start(self) -> None:
        """Listen, and start every host side by side; see ``creation`` for the outcome."""
        self.creation.start()
        try:
            make_room(self.options.workers)
            self._listener = Listener(self.engine.loop, self._token, self, self.options.max_message)
            for spec in self.options.hosts:
                self.engine.scheduler.expect(self.add(spec).host, spec.workers or 1)
            for runner in self.runners:
                runner.launch()
            self.refresh()
        except Exception as error:
            self.fail(error)

    def add(self, spec: HostSpec, joined: bool = False) -> HostRunner:
        """Another host. One that had joined, was dropped and comes again, is listed once."""
        runner = HostRunner(self, spec, self._hosts_made, joined)
        if joined:
            again = (True, State.DROPPED, spec.name)
            self.runners = [r for r in self.runners if (r.joined, r.state, r.spec.name) != again]
        self._hosts_made += 1
        self.runners.append(runner)
        return runner

    @property
    def active(self) -> list[HostRunner]:
        """The hosts that count: those that were given up do not."""
        return [runner for runner in self.runners if runner.counts]

    @property
    def wanted(self) -> int:
        """How many workers the pool is to have, as far as that is known. From any thread."""
        runners = list(self.runners)
        return sum(runner.wanted for runner in runners if runner.state is not State.DROPPED)

    @property
    def listens(self) -> bool:
        """Others may join at any time."""
        return self.joining is not None

    def new_launch(self, runner: HostRunner) -> Order:
        """What one start of a host needs."""
        assert self._listener is not None
        settings = make_settings(runner.spec, runner.local, self.options.max_message)
        settings |= self.admit(runner)
        settings["address"] = self._listener.address
        listen = functools.partial(self._listen_tcp, runner.spec.name)
        return Order(settings, self.options.access, listen)

    def admit(self, runner: HostRunner) -> dict[str, str]:
        """A new name and token for a host, in place of those before: the settings that say them."""
        self.disown(runner)
        runner.launch_id, token = os.urandom(8), os.urandom(32)
        self._tokens[runner.launch_id] = (token, runner)
        return {"launch": runner.launch_id.hex(), "token": token.hex(), "address": ""}

    def disown(self, runner: HostRunner) -> None:
        """Who has the token of a host's last start has no business here any more."""
        self._tokens.pop(runner.launch_id, None)

    def next_worker(self) -> int:
        """A number for a new worker process."""
        self._workers_made += 1
        return self._workers_made

    # -- listening

    def _token(self, launch: bytes) -> bytes | None:
        known = self._tokens.get(launch)
        return known[0] if known else None

    def _expected(self, address: str) -> int:
        """How many workers are still to connect from an address that a supervisor has."""
        return sum(
            runner.seats.unconnected
            for runner in self.runners
            if runner.control is not None and runner.control.peer == address
        )

    def tcp(self) -> "TcpListener":
        """The listener for other machines. Raises CredentialError."""
        if self._tcp is None:
            from pool_client.links.tcp_listener import TcpListener

            self._tcp = TcpListener(
                self.options.access, self._token, self._expected, self, self.options.max_message
            )
        return self._tcp

    async def _listen_tcp(self, host: str) -> int:
        from pool_protocol import CredentialError

        try:
            return await self.tcp().open(self.options.localhost, self.options.localport)
        except CredentialError as error:
            raise HostError(host, str(error)) from error

    async def listen(self, host: str, port: int) -> int:
        """Let hosts join; the port. Raises CredentialError or HostError."""
        from pool_client.hosts.joining import Joining

        joining = self.joining or Joining(self)
        port = await joining.listen(host, port)
        self.joining = joining
        return port

    # -- what hosts tell

    def came_up(self, runner: HostRunner) -> bool:
        """A host has connected. True: start its workers."""
        host = runner.host
        self.engine.scheduler.expect(host, runner.wanted - host.coming)
        self.refresh()
        try:
            make_room(self.wanted)
        except PoolBroken as error:
            if self.creation.done or self.options.min_workers is not None:
                self.drop(runner, HostError(runner.spec.name, str(error)))
            else:
                self.fail(error)
            return False
        return True

    def worker_ready(self, seat: Seat) -> None:
        """A worker is initialised."""
        self._alone_since = None
        self.engine.worker_ready(seat)
        self.refresh()

    def refresh(self) -> None:
        """See whether every worker is there."""
        active = self.active
        working = not self.engine.leaving and self.engine.scheduler.broken is None
        if working and active and all(runner.complete for runner in active):
            self.engine.ready.set()
        else:
            self.engine.ready.clear()
        self.creation.look()

    def host_failed(self, runner: HostRunner, error: BaseException, unreachable: bool) -> bool:
        """A host or a worker of it did not come up, or the host was lost. True: try it again."""
        scheduler = self.engine.scheduler
        if self.engine.leaving or scheduler.broken is not None:
            return False
        local = runner.local
        if not (self.creation.done or runner.joined) and self.options.min_workers is None:
            self.creation.failed(runner, broken(error) if local else error)
            return False
        scheduler.counts.trouble += not unreachable
        advice = advise(self._trouble(runner, unreachable), self.options.connect_timeout)
        if advice is Advice.BREAK:
            self.fail(broken(error))
        elif advice is Advice.DROP:
            self.drop(runner, error)
        else:
            if unreachable:
                scheduler.stop_waiting(runner.host, error)
            self.creation.look()
            self.engine.pump()
        return advice is Advice.AGAIN

    def _trouble(self, runner: HostRunner, unreachable: bool) -> Trouble:
        others = [other for other in self.active if other is not runner]
        return Trouble(
            failures=runner.failures,
            unreachable=unreachable,
            others=any(
                other.seats.ready or (not self.creation.done and other.failures < MAX_FAILURES)
                for other in others
            ),
            alone=self._alone(),
            listens=self.listens,
        )

    def drop(self, runner: HostRunner, error: BaseException) -> None:
        """Give a host up for good. Who sees that, by its state or an error, finds the rest done."""
        logger.warning("the pool goes on without a host. %s", error)
        runner.counts = False
        self.refresh()
        runner.standing = Standing(State.DROPPED, error)
        self.engine.scheduler.close(runner.host, error)
        runner.end("its host was given up")
        self.engine.pump()

    def leaving(self, runner: HostRunner) -> None:
        """A host wants to go, once its workers have finished what they run."""
        logger.info("%s leaves the pool", runner.spec.name)
        error = HostError(runner.spec.name, "it has left the pool")
        self.engine.scheduler.leave(runner.host, error)
        self.refresh()
        self.engine.pump()

    def departed(self, runner: HostRunner, reason: str) -> None:
        """A host that had joined is gone."""
        logger.info("%s has left the pool: %s", runner.spec.name, reason)
        error = HostError(runner.spec.name, reason)
        runner.counts = False
        runner.standing = Standing(State.CLOSED, error)
        self.engine.scheduler.close(runner.host, error)
        runner.end(reason)
        self.refresh()
        self.runners.remove(runner)
        self.engine.pump()

    def look_for_anybody(self) -> None:
        """A pool that closes with tasks waits for somebody to join, but not for ever."""
        if (self.listens or not self.active) and self._alone() >= self.options.connect_timeout:
            text = "nobody is left to do what was submitted, and nobody has joined"
            self.fail(PoolBroken(f"{text} for {self.options.connect_timeout:g} s"))

    def _alone(self) -> float:
        """Seconds for which there has been no worker."""
        if self.engine.scheduler.workers:
            return 0.0
        now = time.monotonic()
        self._alone_since = now if self._alone_since is None else self._alone_since
        return now - self._alone_since

    def fail(self, error: BaseException) -> None:
        """The pool cannot be, or cannot go on."""
        self.engine.break_with(error)
        self.creation.settle(error)

    def runner(self, host: Host) -> HostRunner:
        """The runner of a host."""
        return next(runner for runner in self.runners if runner.host is host)

    def tell(self, host: Host, message: Any) -> None:
        """Send a control message to a host, if it is still one of the pool's."""
        for runner in self.runners:
            if runner.host is host:
                runner.tell(message)

    @property
    def printer(self) -> "Printer":
        """Where what workers print appears."""
        if self._printer is None:
            from pool_client.output import Printer

            self._printer = Printer(self.engine.loop)
        return self._printer

    # -- events of new links

    def opened(self, link: Link) -> None:
        """A peer has authenticated itself."""
        identity = link.connection.identity
        assert identity is not None
        joins = identity.launch == OPEN_LAUNCH and link.secure and not self._closing
        if joins and self.joining is not None:
            self.joining.opened(link)
            return
        known = self._tokens.get(identity.launch)
        if known is None or self._closing:
            link.close()
            return
        runner = known[1]
        if identity.role is Role.CONTROL:
            runner.opened(link)
        elif identity.role is Role.SERVICE:
            self._serve(link, runner)
        elif identity.role is not Role.TASK or not runner.seats.connected(identity.worker, link):
            link.close()

    def _serve(self, link: Link, runner: HostRunner) -> None:
        if self._services is None:
            from pool_client.services.service_links import Services

            self._services = Services(self.options)
        link.events = self._services
        runner.services.add(link)
        self._services.opened(link)

    def end_services(self, runner: HostRunner) -> None:
        """A host is lost, and with it whoever asked from there."""
        for link in list(runner.services):
            if not link.ended:
                link.close()
                link.events.ended(link, None)
        runner.services.clear()

    def received(self, link: Link, messages: list[Message]) -> None:
        """Messages right behind the handshake of a link that nobody wanted."""

    def ended(self, link: Link, error: BaseException | None) -> None:
        """A link has ended that nobody wanted."""

    # -- the end

    async def close(self) -> None:
        """End every host, and stop listening."""
        self._closing = True
        if self.joining is not None:
            self.joining.close()
        await asyncio.gather(*(runner.close() for runner in self.runners))
        if self._printer is not None:
            await self._printer.drain()
        self._each("close")
        early = RuntimeError("the pool was shut down before its workers were up")
        self.creation.settle(self.engine.scheduler.broken or early)

    def _each(self, method: str) -> None:
        parts: list[Any] = [self.joining, self._services, self._listener, self._tcp]
        for part in parts:
            if part is not None:
                getattr(part, method)()

    def abandon(self) -> None:
        """Close the descriptors in a forked child, whose copy of the pool is of no use."""
        self._each("abandon")
        for runner in self.runners:
            runner.abandon()

    def strand(self) -> None:
        """The loop has ended under the pool: whoever waits is told so. From any thread."""
        error = PoolBroken("the event loop that carried the pool has ended")
        engine = self.engine
        engine.leaving = engine.ended = True
        engine.ready.give_up(error)
        engine.scheduler.break_with(error)
        for item in engine.inbox:
            if not callable(item):
                item.fail(error)
        self.creation.settle(error)

    def sweep(self) -> None:
        """The loop is gone, or about to go: end everything without it."""
        gone = self.engine.loop.is_closed()
        for runner in self.runners:
            runner.sweep(gone)
        self._each("abandon" if gone else "close")
        if self._listener is not None:
            self._listener.remove_files()
