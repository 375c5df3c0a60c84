"""One host of a pool: its supervisor, the control connection, and what becomes of it in trouble.

    starting ──HostReady──▶ up ──Leaving──▶ leaving
       ▲   │                 │                 │
       │   └──▶ backing off ◀┴─────────────────┘  its program or its connection has ended
       └──────────────┘

From everywhere a way leads to dropped and to closed, and none from there. A host that had joined
does not back off: it is closed, and if it comes again, it is another one.
"""

import asyncio
import enum
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from pool_client.errors import HostError
from pool_client.hosts.heart import MISSES, Heart
from pool_client.hosts.launching import Launch, make_launcher
from pool_client.hosts.perseverance import backoff
from pool_client.hosts.seat import Seat, Seats
from pool_client.hosts.timers import Timers
from pool_client.launchers import HostSpec
from pool_client.links.link import Link
from pool_client.patience import Patience
from pool_client.scheduling.tasks import Host
from pool_protocol.messages import (
    HostReady,
    Leaving,
    Lost,
    Message,
    Output,
    OutputTaken,
    Ping,
    Pong,
    Recalled,
    Stop,
    Watch,
)

if TYPE_CHECKING:
    from pool_client.hosts.fleet import Fleet

#: Seconds for a supervisor to end its workers and say its last, once it was told to stop.
_FAREWELL = 5.0
#: Seconds to find out how a program ended whose connection is gone.
_AUTOPSY = 1.0


class State(enum.StrEnum):
    """What a host does."""

    STARTING = "starting"
    UP = "up"
    LEAVING = "leaving"
    BACKING_OFF = "backing off"
    DROPPED = "dropped"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a host stands. It is replaced as a whole: other threads look at it at any moment."""

    state: State
    error: BaseException | None = None
    """Why it is not up, or was not lately."""
    info: HostReady | None = None
    """What it said of itself, as long as it is there."""


class HostRunner:
    """Keeps one host going.

    ``joined``: its supervisor was started by hand, so nobody starts it again.
    """

    def __init__(self, fleet: "Fleet", spec: HostSpec, number: int, joined: bool = False) -> None:
        self.fleet = fleet
        self.spec = spec
        self.joined = joined
        self.host = Host(spec.name, spec.workers, number)
        #: How many workers it is to have; 0: as many as it has CPUs, once that is known.
        self.wanted = spec.workers
        self.launch_id = b""
        self.control: Link | None = None
        #: Its workers belong to those that the pool is to have.
        self.counts = True
        self.standing = Standing(State.STARTING)
        #: Failures in a row, without a worker that came up.
        self.failures = 0
        self.was_up = False
        self.heart = Heart()
        self.timers = Timers(fleet.engine.loop)
        self.seats = Seats(self)
        #: The connections on which its workers ask for something.
        self.services: WeakSet[Link] = WeakSet()
        self._launcher = None if joined else make_launcher(spec)
        self.local = self._launcher is not None and self._launcher.local
        self._launch: Launch | None = None
        #: Finds out why it was lost; and ends what is left of one that was dropped.
        self._autopsy: asyncio.Task[None] | None = None
        self._burial: asyncio.Task[None] | None = None
        self._closed: asyncio.Event | None = None

    def __repr__(self) -> str:
        return f"<HostRunner {self.spec.name} {self.state}, {len(self.seats)} seats>"

    @property
    def state(self) -> State:
        """Where it stands, in a word or two."""
        return self.standing.state

    @property
    def error(self) -> BaseException | None:
        """Why it is not up, or was not lately."""
        return self.standing.error

    @property
    def info(self) -> HostReady | None:
        """What it said of itself, as long as it is there."""
        return self.standing.info

    @property
    def complete(self) -> bool:
        """All its workers are there, and stay."""
        return self.state is State.UP and self.seats.ready == self.wanted

    # -- starting

    def launch(self) -> None:
        """Start the supervisor. A failure is told to the fleet."""
        assert self._launcher is not None
        self.standing = Standing(State.STARTING, self.error)
        self.host.closed = None
        order = self.fleet.new_launch(self)
        timeout = self.fleet.options.connect_timeout
        self._launch = Launch(self._launcher, self.spec, order, timeout, self._launch_failed)

    def _launch_failed(self, error: HostError) -> None:
        self._launch = None
        self._failed(error)

    def _failed(self, error: BaseException) -> None:
        """It did not come up, or was lost: try again, or not, as the fleet says."""
        if self.state in (State.DROPPED, State.CLOSED):
            return
        self.failures += 1
        self.standing = Standing(State.BACKING_OFF, error)
        self._cut("it did not come up")
        if self.fleet.host_failed(self, error, unreachable=self.was_up and not self.local):
            self.timers.later(backoff(self.failures), self.launch)

    def _cut(self, reason: str) -> None:
        """Hear nobody of this start any more, those included who are still to connect."""
        self.fleet.disown(self)
        if self.control is not None:
            self.control.close()
            self.control = None
        self.heart = Heart()
        self.fleet.end_services(self)
        self.seats.lose_all(reason)

    def overdue(self) -> HostError | None:
        """Why it has not connected yet; None if it has."""
        standing = self.standing
        if standing.info is not None:
            return None
        if isinstance(standing.error, HostError):
            return standing.error
        if self._launch is not None:
            return self._launch.overdue()
        return HostError(self.spec.name, "pool-worker has not connected back")

    # -- the control connection

    def opened(self, link: Link) -> None:
        """The supervisor has connected."""
        if self.control is not None or self.state is not State.STARTING:
            link.close()
            return
        self.control = link
        link.events = self
        link.limit_silence()

    def received(self, link: Link, messages: list[Message]) -> None:
        """What the supervisor tells."""
        self.heart.heard()
        for message in messages:
            match message:
                case Output():
                    self.fleet.printer.take(self.spec.name, self.local, message, self._printed)
                case Pong():
                    self.heart.answered(message.number, time.monotonic())
                    self.host.delay = 1e9 * self.heart.least
                case Ping():
                    self.tell(Pong(message.number))
                case Lost():
                    self.seats.reported(message)
                case Recalled():
                    self.seats.recalled(message)
                case HostReady() if self.state is State.STARTING:
                    self._came_up(message)
                case Leaving() if self.state is State.UP:
                    self._leave()

    def _printed(self, nbytes: int) -> None:
        self.tell(OutputTaken(nbytes))

    def _came_up(self, info: HostReady) -> None:
        self.standing = Standing(State.UP, self.error, info)
        self.was_up = True
        if self._launch is not None:
            self._launch.connected = True
        if not self.wanted:
            self.wanted = self.host.slots = max(1, info.cpus)
        if not self.fleet.came_up(self):
            return
        self.seats.order([self.host.slot(index) for index in range(self.wanted)])
        if self.host.watching:
            self.tell(Watch(True))  # the supervisor before was told, this one was not
        if not self.local:
            self.heart = Heart()
            self._beat(self.control)

    def _beat(self, control: Link | None) -> None:
        """Ask whether it is still there, now and then, as long as this connection lasts."""
        if control is None or control is not self.control:
            return
        if self.heart.beat(time.monotonic()):
            self.tell(Ping(self.heart.number))
            self.timers.later(self.heart.interval, self._beat, control)
        else:
            silence = self.heart.interval * MISSES
            self._lost(f"no answer for {silence:g} s: is it frozen, or the network down?")

    def ended(self, link: Link, error: BaseException | None) -> None:
        """The supervisor is gone, and its workers with it; what they had started is not known."""
        self.control = None
        reason = f"its connection broke the protocol: {error}" if error else ""
        if self.state in (State.UP, State.LEAVING):
            self._lost(reason)
        elif self.joined and self.state is State.STARTING:
            self.fleet.departed(self, reason or "its connection ended")

    def _lost(self, reason: str) -> None:
        """The host was up, and is not any more."""
        self.fleet.hosts_lost += self.state is State.UP
        if self.joined:
            self.fleet.departed(self, reason or "its connection ended")
            return
        # Before its workers are gone: who sees that asks why.
        error = HostError(self.spec.name, reason or "pool-worker ended")
        self.standing = Standing(State.BACKING_OFF, error)
        self._cut(reason or "its supervisor ended")
        if self.state is State.BACKING_OFF and self._launch is not None:
            find_out = self._find_out(self._launch, reason)
            self._autopsy = self.fleet.engine.loop.create_task(find_out)

    async def _find_out(self, launch: Launch, reason: str) -> None:
        """Let the program say why it ended, if it does so soon; then start another."""
        ended = await launch.wait_for_end(_AUTOPSY)
        text = (reason or ended or "pool-worker ended") + launch.tail()
        self._autopsy = self._launch = None
        launch.drop()
        self._failed(HostError(self.spec.name, text))

    def tell(self, message: Any) -> None:
        """Send a control message, if there is anybody to read it."""
        if self.control is not None and not self.control.ended:
            self.control.connection.send(message)
            self.control.flush()

    def tail(self) -> str:
        """What the program said on its standard error, on a line of its own; or nothing."""
        return "" if self._launch is None else self._launch.tail()

    # -- its workers

    def worker_ready(self, seat: Seat) -> None:
        """A worker is initialised."""
        self.failures = 0
        self.standing = Standing(self.state, None, self.info)
        self.fleet.worker_ready(seat)

    def worker_failed(self, error: BaseException, slot: int) -> None:
        """A worker did not come up."""
        if self.state is not State.UP:
            return
        self.failures += 1
        self.standing = Standing(State.UP, error, self.info)
        if self.fleet.host_failed(self, error, unreachable=False):
            self.replace(slot)

    def replace(self, slot: int) -> None:
        """Start another worker in a slot."""
        pause = backoff(max(self.failures, self.host.barren))
        self.timers.later(pause, self._replace_now, slot)

    def _replace_now(self, slot: int) -> None:
        if self.state is State.UP:
            self.seats.order([slot])

    # -- leaving

    def _leave(self) -> None:
        """It wants to go: let its workers finish."""
        self.standing = Standing(State.LEAVING, self.error, self.info)
        self.seats.cancel()
        self.fleet.leaving(self)
        self.worker_gone()

    def worker_gone(self) -> None:
        """A worker has ended: was it the last one of a host that leaves?"""
        if self.state is State.LEAVING and not self.seats.by_id:
            self.tell(Stop())

    def end(self, reason: str) -> None:
        """It is given up: end what is left of it."""
        self.timers.stop()
        self.tell(Stop())
        self._cut(reason)
        if self._autopsy is not None:
            self._autopsy.cancel()
        if self._launch is not None:
            self._launch.drop()
            self._burial = self.fleet.engine.loop.create_task(self._launch.give_up())
            self._launch = None

    # -- the end

    async def close(self) -> None:
        """End the supervisor and everything that it started."""
        if self._closed is not None:
            await self._closed.wait()
            return
        self._closed = asyncio.Event()
        try:
            await self._close()
        finally:
            self._closed.set()

    async def _close(self) -> None:
        if self.state is not State.DROPPED:
            self.standing = Standing(State.CLOSED, self.error)
        self.timers.stop()
        self.tell(Stop())
        if self._launch is not None:
            self._launch.hang_up()
        await self._farewell()
        # ssh does not end while a connection through it is open.
        self.seats.close()
        if self.control is not None:
            self.control.close()
            self.control = None
        if self._autopsy is not None and self._launch is not None:
            self._autopsy.cancel()
            self._launch.drop()
        if self._launch is not None:
            await self._launch.close()
            self._launch = None
        await asyncio.gather(*filter(None, (self._autopsy, self._burial)), return_exceptions=True)

    async def _farewell(self) -> None:
        """Read the control connection to its end: it brings what workers printed last."""
        patience = Patience(_FAREWELL)
        while self.control is not None and not patience.over():
            await asyncio.sleep(0.001)

    def abandon(self) -> None:
        """Close the descriptors in a forked child."""
        if self._launch is not None:
            self._launch.abandon()
        for link in self._links():
            link.abandon()

    def _links(self) -> list[Link]:
        return [*self.seats.links(), *filter(None, (self.control,))]

    def sweep(self, gone: bool) -> None:
        """End the supervisor without the loop, which may be ``gone`` already."""
        self.timers.stop()
        for link in self._links():
            # ssh does not end while a connection through it is open.
            if gone:
                link.abandon()
            else:
                link.close()
        if self._launch is not None:
            self._launch.sweep()
            self._launch = None
