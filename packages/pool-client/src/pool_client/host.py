"""One host of a pool: its supervisor, the control connection, and the seats of its workers.

A *seat* is the place of one worker process, from the order to start it until the report of its
end. Its states: ordered, connected (set-up sent), ready, ended (stream or report, whichever comes
first), gone (both). A slot of the host has one seat after another.
"""

import asyncio
import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from pool_client.errors import HostError, PoolBroken, describe_exit
from pool_client.launchers import HostSpec, Launched, launcher
from pool_client.link import Link
from pool_client.outcomes import unpack_error
from pool_client.tasks import Host, Worker
from pool_protocol import PickleType, serializer
from pool_protocol.messages import (
    HostReady,
    Kill,
    Lost,
    Message,
    Ready,
    Recalled,
    SetupFailed,
    Start,
    Stop,
)

if TYPE_CHECKING:
    from pool_client.fleet import Fleet

#: Starts in a row that may fail before a host without workers is given up.
MAX_FAILURES = 5
#: Seconds between looks at a program that has not connected yet.
_LOOK = 0.02
#: Seconds after the end of a worker's stream until it is killed for not having ended, and after
#: its report until its stream counts as ended.
_GRACE = 1.0
_STREAM_GRACE = 0.2


class Seat:
    """The place of one worker process."""

    def __init__(self, id: int, slot: int, runner: "HostRunner") -> None:
        self.id = id
        self.slot = slot
        self.runner = runner
        self.link: Link | None = None
        self.worker: Worker | None = None
        self.report: Lost | None = None
        self.error: BaseException | None = None

    def __repr__(self) -> str:
        return f"<Seat {self.id} slot {self.slot} {self.worker or self.link or 'ordered'}>"

    @property
    def stream_ended(self) -> bool:
        """Nothing more can come from the worker."""
        return self.link is None or self.link.ended


def backoff(failures: int) -> float:
    """Seconds to wait before the next start after so many failures in a row."""
    return 0.0 if not failures else float(min(5.0, 0.05 * 2 ** (failures - 1)))


class HostRunner:
    """Keeps one host going."""

    def __init__(self, fleet: "Fleet", spec: HostSpec, first_slot: int) -> None:
        self.fleet = fleet
        self.spec = spec
        self.host = Host(spec.name, spec.workers)
        self.launch_id = b""
        self.seats: dict[int, Seat] = {}
        self.control: Link | None = None
        self.info: HostReady | None = None
        self.failures = 0
        self._slots = range(first_slot, first_slot + spec.workers)
        self._launcher = launcher(spec.scheme)
        self._launched: Launched | None = None
        self._deadline = 0.0
        self._timers: set[asyncio.TimerHandle] = set()
        self._closing = False
        self._closed = asyncio.Event()

    # -- starting

    def launch(self) -> None:
        """Start the supervisor. A failure is told to the engine."""
        fleet = self.fleet
        self.launch_id, settings = fleet.new_launch(self)
        settings["threads"] = max(1, (os.cpu_count() or 1) // self.spec.workers)
        self._deadline = time.monotonic() + fleet.options.connect_timeout
        try:
            self._launched = self._launcher.launch(self.spec, settings)
        except HostError as error:
            self._start_failed(error)
            return
        self._later(_LOOK, self._look)

    def _look(self) -> None:
        """Has the program ended before it connected?"""
        if self.info is not None or self._launched is None:
            return
        code = self._launched.exit_code()
        if code is not None:
            reason = f"pool-worker could not be started: {describe_exit(code)}"
            self._give_up(reason)
        elif time.monotonic() > self._deadline:
            timeout = self.fleet.options.connect_timeout
            self._give_up(f"pool-worker did not connect back within {timeout:g} s")
        else:
            self._later(_LOOK, self._look)

    def _give_up(self, reason: str) -> None:
        tail = self._launched.errors() if self._launched else ""
        self._drop_launch()
        self._start_failed(HostError(self.spec.name, f"{reason}\n{tail}" if tail else reason))

    def _start_failed(self, error: BaseException) -> None:
        if self._closing:
            return
        self.failures += 1
        if self.fleet.start_failed(self, error):
            self._later(backoff(self.failures), self.launch)

    def _drop_launch(self) -> None:
        if self._launched is not None:
            self._launched.kill()
            self._launched.close()
            self._launched = None
        self.info = None

    def _later(self, delay: float, function: Any, *args: Any) -> None:
        def run() -> None:
            self._timers.discard(timer)
            if not self._closing:
                function(*args)

        timer = self.fleet.engine.loop.call_later(delay, run)
        self._timers.add(timer)

    # -- the control connection

    def control_opened(self, link: Link) -> None:
        """The supervisor has connected."""
        self.control = link

    def control_received(self, messages: list[Message]) -> None:
        """What the supervisor tells."""
        for message in messages:
            if isinstance(message, HostReady):
                self.info = message
                self._order([self._new_seat(slot) for slot in self._slots])
            elif isinstance(message, Lost):
                self._reported(message)
            elif isinstance(message, Recalled):
                self._recalled(message)

    def control_ended(self) -> None:
        """The supervisor is gone, and its workers with it; what they had started is not known."""
        self.control = None
        if self._closing:
            return
        tail = self._launched.errors() if self._launched else ""
        started = self.info is not None
        self._drop_launch()
        for seat in list(self.seats.values()):
            if seat.link is not None:
                seat.link.drain()
                seat.link.close()
            seat.report = Lost(seat.id, 0, -9, 0, 0, "its supervisor ended")
            self._gone(seat, known=False)
        if started:
            self.failures += 1
            reason = "pool-worker ended" + (f"\n{tail}" if tail else "")
            error = HostError(self.spec.name, reason)
            if self.fleet.start_failed(self, error):
                self._later(backoff(self.failures), self.launch)
        else:
            self._start_failed(HostError(self.spec.name, f"pool-worker ended early\n{tail}"))

    def _new_seat(self, slot: int) -> Seat:
        seat = Seat(self.fleet.next_worker(), slot, self)
        self.seats[seat.id] = seat
        return seat

    def _order(self, seats: list[Seat]) -> None:
        if self.control is not None and seats:
            self.control.connection.send(Start([seat.id for seat in seats]))
            self.control.flush()

    def tell(self, message: Any) -> None:
        """Send a control message, if there is anybody to read it."""
        if self.control is not None and not self.control.ended:
            self.control.connection.send(message)
            self.control.flush()

    def replace(self, slot: int) -> None:
        """Start another worker in a slot."""
        self._later(backoff(self.failures), self._replace_now, slot)

    def _replace_now(self, slot: int) -> None:
        if self.info is not None:
            self._order([self._new_seat(slot)])

    # -- the workers' connections

    def worker_opened(self, seat: Seat, link: Link) -> None:
        """A worker has connected: say how to work."""
        seat.link = link
        link.connection.send(self.fleet.setup)
        link.flush()

    def worker_received(self, seat: Seat, messages: list[Message]) -> list[Message]:
        """Take what concerns the start of a worker; the rest is returned."""
        first = messages[0]
        if isinstance(first, Ready):
            self.failures = 0
            seat.worker = Worker(seat.id, seat.slot, self.host, first.pid)
            self.fleet.worker_ready(seat)
            return messages[1:]
        if isinstance(first, SetupFailed):
            cause = unpack_error(first.blob, serializer(PickleType.pickle))
            seat.error = PoolBroken(f"the initializer failed on {self.spec.name}: {cause!r}")
            seat.error.__cause__ = cause
            return []
        return messages

    def worker_ended(self, seat: Seat, error: BaseException | None) -> None:
        """A worker's stream has ended."""
        if seat.worker is not None:
            self.fleet.engine.scheduler.suspend(seat.worker)
        if error is not None:
            self.tell(Kill(seat.id))
        if seat.report is not None:
            self._gone(seat)
        else:
            self._later(_GRACE, self._end_by_force, seat)

    def _end_by_force(self, seat: Seat) -> None:
        if seat.report is None and seat.id in self.seats:
            self.tell(Kill(seat.id))

    def _reported(self, report: Lost) -> None:
        seat = self.seats.get(report.worker)
        if seat is None or seat.report is not None:
            return
        seat.report = report
        if seat.link is not None and not seat.link.ended:
            # The process is gone, so what it wrote lies in the socket: read it to the end.
            # (That may end the stream and thereby the seat.)
            seat.link.drain()
        if seat.id not in self.seats:
            return
        if seat.stream_ended:
            self._gone(seat)
        else:
            self._later(_STREAM_GRACE, self._end_stream, seat)

    def _end_stream(self, seat: Seat) -> None:
        """Somebody else, a child of a task, still holds the dead worker's socket."""
        if seat.id in self.seats and seat.link is not None:
            seat.link.drain()
        if seat.id in self.seats and seat.link is not None:
            seat.link.close()
            self._gone(seat)

    def _gone(self, seat: Seat, known: bool = True) -> None:
        report = seat.report
        if report is None or self.seats.pop(seat.id, None) is None:
            return
        self.fleet.seat_gone(seat)
        if seat.worker is not None:
            self.fleet.engine.worker_lost(seat.worker, report, known)
            return
        error = seat.error or HostError(
            self.spec.name,
            "a worker ended before it was ready: "
            + (report.reason or describe_exit(report.exitcode))
            + self._tail(),
        )
        if self._closing or not known:
            return
        self.failures += 1
        if self.fleet.start_failed(self, error):
            self.replace(seat.slot)

    def _tail(self) -> str:
        tail = self._launched.errors() if self._launched is not None else ""
        return f"\n{tail}" if tail else ""

    def _recalled(self, message: Recalled) -> None:
        seat = self.seats.get(message.worker)
        if seat is not None and seat.worker is not None:
            self.fleet.engine.worker_recalled(seat.worker, message)

    # -- the end

    async def close(self) -> None:
        """End the supervisor and everything that it started."""
        if self._closing:
            await self._closed.wait()
            return
        self._closing = True
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self.tell(Stop())
        if self._launched is not None:
            self._launched.hang_up()
            deadline = time.monotonic() + 5.0
            while self._launched.exit_code() is None and time.monotonic() < deadline:
                await asyncio.sleep(0.001)
            if sys.stderr is not None and (tail := self._launched.errors()):
                with contextlib.suppress(OSError, ValueError):
                    sys.stderr.write(tail + "\n")
            self._drop_launch()
        if self.control is not None:
            self.control.close()
        for seat in self.seats.values():
            if seat.link is not None:
                seat.link.close()
        self.seats.clear()
        self._closed.set()

    def abandon(self) -> None:
        """Close the descriptors in a forked child."""
        if self._launched is not None:
            self._launched.abandon()
        links = [self.control, *(seat.link for seat in self.seats.values())]
        for link in links:
            if link is not None:
                link.abandon()

    def sweep(self) -> None:
        """End the supervisor when there is no loop any more."""
        if self._launched is not None:
            self._launched.close()
            self._launched = None
