"""The seats of a host: the place of each worker process, from the order to start it to its end.

A seat's states: ordered, connected (set-up sent), ready, ended (stream or report, whichever comes
first), gone (both). A slot of the host has one seat after another.
"""

from typing import TYPE_CHECKING

from pool_client.errors import HostError, PoolBroken, describe_exit
from pool_client.links.link import Link
from pool_client.outcomes import unpack_error
from pool_client.scheduling.tasks import Worker
from pool_protocol import PickleType, SerializerMissing, serializer
from pool_protocol.errors import text_of
from pool_protocol.messages import Kill, Lost, Message, Ready, Recalled, SetupFailed, Start

if TYPE_CHECKING:
    from pool_client.hosts.host import HostRunner

#: Seconds after the end of a worker's stream until it is killed for not having ended.
_GRACE = 1.0
#: Seconds without a byte, after a worker's report, until its stream counts as ended: on this
#: machine, and where its last results may take longer than the report.
_STREAM_GRACE = 0.2
_STREAM_GRACE_FAR = 5.0


class Seat:
    """The place of one worker process; it is told the events of the worker's link."""

    def __init__(self, id: int, slot: int, seats: "Seats") -> None:
        self.id = id
        self.slot = slot
        self.seats = seats
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

    def opened(self, link: Link) -> None:
        """A worker has connected: say how to work."""
        self.link = link
        link.events = self
        link.connection.send(self.seats.runner.fleet.setup)
        link.flush()

    def received(self, link: Link, messages: list[Message]) -> None:
        """Messages have come in."""
        worker = self.worker
        if worker is None:
            messages = self.seats.greeted(self, messages)
            worker = self.worker
        if messages and worker is not None:
            self.seats.engine.answered(worker, messages)

    def ended(self, link: Link, error: BaseException | None) -> None:
        """The worker's stream has ended, or it broke the protocol."""
        self.seats.stream_ended(self, error)


class Seats:
    """All seats of a host."""

    def __init__(self, runner: "HostRunner") -> None:
        self.runner = runner
        self.engine = runner.fleet.engine
        self.by_id: dict[int, Seat] = {}

    def __len__(self) -> int:
        return len(self.by_id)

    @property
    def ready(self) -> int:
        """How many workers are initialised."""
        # A copy, for other threads look at it too.
        return sum(seat.worker is not None for seat in list(self.by_id.values()))

    @property
    def unconnected(self) -> int:
        """How many workers are still to connect."""
        return sum(seat.link is None for seat in self.by_id.values())

    def order(self, slots: list[int]) -> None:
        """Have workers started in these slots, unless somebody sits there."""
        taken = {seat.slot for seat in self.by_id.values()} if len(slots) == 1 else set()
        new = [Seat(self.runner.fleet.next_worker(), s, self) for s in slots if s not in taken]
        self.by_id.update((seat.id, seat) for seat in new)
        if new:
            self.runner.tell(Start([seat.id for seat in new]))

    # -- the workers' links

    def connected(self, worker: int, link: Link) -> bool:
        """A worker has proved itself. False: nobody waits for it."""
        seat = self.by_id.get(worker)
        if seat is None or seat.link is not None:
            return False
        seat.opened(link)
        return True

    def greeted(self, seat: Seat, messages: list[Message]) -> list[Message]:
        """Take what concerns the start of a worker; the rest is returned."""
        first = messages[0]
        runner = self.runner
        if isinstance(first, Ready):
            seat.worker = Worker(
                seat.id, seat.slot, runner.host, first.pid, first.python, first.version
            )
            runner.worker_ready(seat)
            return messages[1:]
        if isinstance(first, SetupFailed):
            cause = unpack_error(first.blob, serializer(PickleType.pickle))
            seat.error = self._not_set_up(cause)
            return []
        return messages

    def _not_set_up(self, cause: BaseException) -> PoolBroken:
        """The initializer has failed; or the host lacks a loop or a serializer."""
        runner = self.runner
        if runner.fleet.options.initializer is None or isinstance(cause, SerializerMissing):
            text = text_of(cause) or type(cause).__name__
            error = PoolBroken(f"{runner.spec.name} cannot do what was asked for: {text}")
        else:
            what = f"{type(cause).__name__}({text_of(cause)!r})"
            error = PoolBroken(f"the initializer failed on {runner.spec.name}: {what}")
        error.__cause__ = cause
        return error

    def stream_ended(self, seat: Seat, error: BaseException | None) -> None:
        """A worker's stream has ended."""
        if seat.worker is not None:
            self.engine.scheduler.suspend(seat.worker)
        if error is not None:
            self.runner.tell(Kill(seat.id))
        if seat.report is not None:
            self._gone(seat)
        else:
            self.runner.timers.later(_GRACE, self._end_by_force, seat)

    def _end_by_force(self, seat: Seat) -> None:
        if seat.report is None and seat.id in self.by_id:
            self.runner.tell(Kill(seat.id))

    # -- the supervisor's reports

    def reported(self, report: Lost) -> None:
        """A worker process has ended."""
        seat = self.by_id.get(report.worker)
        if seat is None or seat.report is not None:
            return
        seat.report = report
        if seat.worker is not None:
            # First of all: what it answered last would bring it new tasks, and nobody does them.
            self.engine.scheduler.suspend(seat.worker)
        if seat.link is not None and not seat.link.ended:
            # The process is gone, so what it wrote lies in the socket: read it to the end.
            # (That may end the stream and thereby the seat.)
            seat.link.drain()
        if seat.id not in self.by_id:
            return
        if seat.stream_ended:
            self._gone(seat)
        else:
            self._await_end(seat)

    def _await_end(self, seat: Seat) -> None:
        grace = _STREAM_GRACE if self.runner.local else _STREAM_GRACE_FAR
        assert seat.link is not None
        self.runner.timers.later(grace, self._end_stream, seat, seat.link.nbytes)

    def _end_stream(self, seat: Seat, nbytes: int) -> None:
        """Unless its last results are still coming: somebody else holds the worker's socket."""
        if seat.id in self.by_id and seat.link is not None:
            seat.link.drain()
        if seat.id in self.by_id and seat.link is not None:
            if seat.link.nbytes > nbytes:
                self._await_end(seat)
                return
            seat.link.close()
            self._gone(seat)

    def recalled(self, message: Recalled) -> None:
        """What a worker had not started was taken back."""
        seat = self.by_id.get(message.worker)
        if seat is not None and seat.worker is not None:
            self.engine.worker_recalled(seat.worker, message)

    def _gone(self, seat: Seat) -> None:
        report = seat.report
        if report is None or self.by_id.pop(seat.id, None) is None:
            return
        if seat.worker is not None:
            self.engine.worker_lost(seat.worker, report, known=True)
            self.runner.worker_gone()
            return
        error = seat.error or HostError(
            self.runner.spec.name,
            "a worker ended before it was ready: "
            + (report.reason or describe_exit(report.exitcode))
            + self.runner.tail(),
        )
        self.runner.worker_failed(error, seat.slot)

    # -- the end

    def cancel(self) -> None:
        """Nobody who is not ready yet shall get ready any more."""
        for seat in list(self.by_id.values()):
            if seat.worker is None:
                self.runner.tell(Kill(seat.id))
                if seat.link is not None:
                    seat.link.close()
                del self.by_id[seat.id]

    def lose_all(self, reason: str) -> None:
        """The host is lost: read what there is, then give its workers up."""
        seats = list(self.by_id.values())
        for seat in seats:
            if seat.worker is not None:
                # All of them first: what one of them held must not go to the next.
                self.engine.scheduler.suspend(seat.worker)
        for seat in seats:
            if seat.link is not None:
                # What was not ready yet has done nothing, and shall not get ready now.
                if seat.worker is not None:
                    seat.link.drain()
                seat.link.close()
            if self.by_id.pop(seat.id, None) is not None and seat.worker is not None:
                report = seat.report or Lost(seat.id, 0, -9, 0, 0, reason)
                self.engine.worker_lost(seat.worker, report, known=seat.report is not None)

    def links(self) -> list[Link]:
        """Every worker's link."""
        return [seat.link for seat in self.by_id.values() if seat.link is not None]

    def close(self) -> None:
        """Let go of every worker; nothing more is counted."""
        for seat in self.by_id.values():
            if seat.link is not None:
                seat.link.close()
            if seat.worker is not None:
                self.engine.dismiss(seat.worker)
        self.by_id.clear()
