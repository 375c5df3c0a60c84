"""The seats of a host, with a host that a test plays."""

from types import SimpleNamespace

import pytest
from packing_model import Speechless, packed_error

from pool_client.errors import HostError, PoolBroken
from pool_client.hosts.seat import Seat, Seats
from pool_client.launchers import HostSpec
from pool_client.scheduling.tasks import Host
from pool_protocol import SerializerMissing
from pool_protocol.messages import Kill, Lost, Ready, Recalled, Retire, SetupFailed, Start


class Link:
    """A worker's link; ``left`` is what draining finds."""

    def __init__(self):
        self.ended = False
        self.sent = []
        self.connection = SimpleNamespace(send=self.sent.append)
        self.events = None
        self.on_drain = None
        self.nbytes = 0

    def flush(self):
        pass

    def drain(self):
        if self.on_drain:
            self.on_drain()

    def close(self):
        self.ended = True

    def end(self, error=None):
        self.ended = True
        self.events.ended(self, error)


class Runner:
    """A host that keeps a record of what its seats tell it."""

    def __init__(self):
        self.spec = HostSpec("play", "box", 2)
        self.local = True
        self.host = Host("box", 2, number=3)
        self.told, self.ready, self.lost, self.failed, self.later = [], [], [], [], []
        self.suspended, self.answers, self.recalls, self.gone = [], [], [], 0
        self.dismissed = []
        self.numbers = iter(range(1, 100))
        engine = SimpleNamespace(
            scheduler=SimpleNamespace(suspend=self.suspended.append),
            dismiss=self.dismissed.append,
            answered=lambda worker, messages: self.answers.append((worker, messages)),
            worker_lost=lambda w, report, known: self.lost.append((w, report, known)),
            worker_recalled=lambda worker, message: self.recalls.append(worker),
        )
        self.fleet = SimpleNamespace(
            engine=engine, setup="set-up", next_worker=lambda: next(self.numbers)
        )
        self.timers = SimpleNamespace(later=lambda *timer: self.later.append(timer))
        self.seats = Seats(self)

    def tell(self, message):
        self.told.append(message)

    def worker_ready(self, seat):
        self.ready.append(seat)

    def worker_gone(self):
        self.gone += 1

    def worker_failed(self, error, slot):
        self.failed.append((error, slot))

    def tail(self):
        return "\nits last words"


@pytest.fixture
def runner():
    runner = Runner()
    runner.seats.order([runner.host.slot(0), runner.host.slot(1)])
    return runner


def sit(runner, number=1, ready=True):
    """Let a worker come; returns its seat and its link."""
    link = Link()
    assert runner.seats.connected(number, link)
    if ready:
        link.events.received(link, [Ready(pid=700 + number, python="3.12", version="9")])
    return runner.seats.by_id[number], link


def report(number=1, exitcode=-9, reason=""):
    return Lost(number, 700 + number, exitcode, 0, 0, reason)


def test_a_seat_shows_how_far_its_worker_is():
    seat = Seat(7, 3, None)
    assert repr(seat) == "<Seat 7 slot 3 ordered>"
    assert seat.stream_ended
    seat.worker = "a worker"
    assert repr(seat) == "<Seat 7 slot 3 a worker>"


def test_workers_are_ordered_set_up_and_ready(runner):
    assert runner.told == [Start([1, 2])]
    assert (len(runner.seats), runner.seats.unconnected, runner.seats.ready) == (2, 2, 0)
    seat, link = sit(runner, 2)
    assert link.sent == ["set-up"]
    assert (runner.seats.unconnected, runner.seats.ready) == (1, 1)
    assert runner.ready == [seat]
    worker = seat.worker
    assert (worker.id, worker.pid, worker.python, worker.version) == (2, 702, "3.12", "9")
    assert runner.host.holds(worker.slot)


def test_a_slot_has_one_seat_at_a_time(runner):
    runner.seats.order([runner.host.slot(0)])
    assert runner.told == [Start([1, 2])]
    runner.seats.order([runner.host.slot(2)])
    assert runner.told[1:] == [Start([3])]
    runner.seats.order([])
    assert len(runner.told) == 2


def test_who_is_not_expected_is_not_seated(runner):
    assert not runner.seats.connected(99, Link())
    sit(runner, 1)
    assert not runner.seats.connected(1, Link()), "its seat is taken"


def test_what_comes_behind_ready_is_answered(runner):
    seat, link = sit(runner, 1, ready=False)
    ready = Ready(pid=1, python="3", version="1")
    link.events.received(link, [ready, "a result"])
    link.events.received(link, ["another"])
    assert runner.answers == [(seat.worker, ["a result"]), (seat.worker, ["another"])]


def test_nonsense_before_ready_is_dropped(runner):
    _, link = sit(runner, 1, ready=False)
    link.events.received(link, [Retire()])
    assert runner.answers == []
    assert runner.ready == []


@pytest.mark.parametrize("stream_first", [True, False])
def test_a_worker_is_lost_when_both_are_in(runner, stream_first):
    seat, link = sit(runner)
    if stream_first:
        link.end()
        assert runner.suspended == [seat.worker]
        assert runner.lost == []
        runner.seats.reported(report())
    else:
        runner.seats.reported(report())
        assert runner.lost == []
        link.end()
    assert runner.lost == [(seat.worker, report(), True)]
    assert runner.gone == 1
    assert len(runner.seats) == 1
    runner.seats.reported(report())
    assert len(runner.lost) == 1


def test_what_a_dead_worker_wrote_is_read_first(runner):
    seat, link = sit(runner)
    order = []
    link.on_drain = lambda: (order.append("drained"), link.end())
    runner.seats.reported(report())
    assert order == ["drained"]
    assert runner.lost == [(seat.worker, report(), True)]


def test_a_stream_that_somebody_else_holds_open(runner):
    seat, link = sit(runner)
    runner.seats.reported(report())
    assert runner.suspended == [seat.worker], "nobody will do what it gets now"
    [(_, function, *args)] = runner.later
    function(*args)
    assert link.ended
    assert runner.lost == [(seat.worker, report(), True)]
    function(*args)
    assert len(runner.lost) == 1


def test_results_may_take_longer_than_the_report(runner):
    """Over a slow line, on another connection: as long as there come any, the end is awaited."""
    runner.local = False
    seat, link = sit(runner)
    runner.seats.reported(report())
    for number in range(3):
        seconds, function, *args = runner.later[number]
        assert seconds > 1
        link.nbytes += 100
        function(*args)
        assert not link.ended
    seconds, function, *args = runner.later[3]
    function(*args)
    assert link.ended
    assert runner.lost == [(seat.worker, report(), True)]


def test_a_worker_that_does_not_end_is_killed(runner):
    _, link = sit(runner)
    link.end()
    [(_, function, *args)] = runner.later
    function(*args)
    assert runner.told[-1] == Kill(1)
    runner.seats.reported(report())
    function(*args)
    assert runner.told.count(Kill(1)) == 1


def test_one_that_breaks_the_protocol_is_killed_at_once(runner):
    _, link = sit(runner)
    link.end(ValueError("nonsense"))
    assert runner.told[-1] == Kill(1)


@pytest.mark.parametrize(
    ("exitcode", "reason", "words"),
    [(23, "", "it exited with code 23"), (0, "over the cap", "over the cap")],
)
def test_a_worker_that_never_got_ready(runner, exitcode, reason, words):
    runner.seats.reported(report(2, exitcode, reason))
    [(error, slot)] = runner.failed
    assert isinstance(error, HostError)
    assert str(error) == f"box: a worker ended before it was ready: {words}\nits last words"
    assert slot == runner.host.slot(1)
    assert runner.lost == []


@pytest.mark.parametrize(
    ("initializer", "error", "words"),
    [
        (print, ValueError("no"), "the initializer failed on box: ValueError('no')"),
        (
            print,
            Speechless(),
            "the initializer failed on box: Speechless('<str() of it raised ValueError>')",
        ),
        (None, ImportError("no uvloop"), "box cannot do what was asked for: no uvloop"),
        (print, SerializerMissing("no dill"), "box cannot do what was asked for: no dill"),
    ],
)
def test_a_set_up_that_fails_says_whose_fault_it_is(runner, initializer, error, words):
    """The user's initializer, or what the host lacks."""
    runner.fleet.options = SimpleNamespace(initializer=initializer)
    _, link = sit(runner, 2, ready=False)
    link.events.received(link, [SetupFailed(702, packed_error(error))])
    runner.seats.reported(report(2, 1))
    link.end()
    [(told, slot)] = runner.failed
    assert isinstance(told, PoolBroken)
    assert str(told) == words
    assert type(told.__cause__) is type(error)
    assert slot == runner.host.slot(1)


def test_recalls_go_to_workers_that_are_there(runner):
    seat, _ = sit(runner, 1)
    for number in (1, 2, 99):
        runner.seats.recalled(Recalled(number, 0, 0))
    assert runner.recalls == [seat.worker]


def test_with_its_host_every_worker_is_lost(runner):
    runner.seats.order([runner.host.slot(2)])
    first, link = sit(runner, 1)
    second, other = sit(runner, 2)
    sit(runner, 3, ready=False)
    runner.seats.reported(report(2, exitcode=3))
    drained = []
    link.on_drain = lambda: drained.append(link)
    runner.seats.lose_all("the power is out")
    assert drained == [link]
    assert link.ended
    assert other.ended
    assert [(worker, known) for worker, _, known in runner.lost] == [
        (first.worker, False),
        (second.worker, True),
    ]
    assert runner.lost[0][1].reason == "the power is out"
    assert runner.lost[1][1].exitcode == 3
    assert len(runner.seats) == 0


def test_a_worker_that_would_have_been_ready_does_not_bring_a_lost_host_back(runner):
    runner.seats.order([runner.host.slot(0)])
    seat, link = sit(runner, 1, ready=False)
    link.on_drain = lambda: link.events.received(link, [Ready(7, "3.11", "0.1.0")])
    runner.seats.lose_all("the power is out")
    assert link.ended
    assert (seat.worker, runner.ready) == (None, [])


def test_closing_lets_go_of_every_link(runner):
    seat, link = sit(runner)
    assert runner.seats.links() == [link]
    runner.seats.close()
    assert link.ended
    assert len(runner.seats) == 0
    assert runner.lost == []
    assert runner.dismissed == [seat.worker]


def test_with_its_host_no_worker_gets_anything_more(runner):
    """Before the first is lost: what it held would go to the next."""
    seats = [sit(runner, number)[0] for number in (1, 2)]
    suspended = []
    runner.engine = runner.fleet.engine
    runner.engine.worker_lost = lambda *_, known: suspended.append(list(runner.suspended))
    runner.seats.lose_all("the power is out")
    assert suspended == [[seat.worker for seat in seats]] * 2


def test_who_is_not_ready_can_be_cancelled(runner):
    """It is killed, and what comes of it later is nobody's."""
    runner.seats.order([runner.host.slot(2)])
    sit(runner, 1)
    _, link = sit(runner, 2, ready=False)
    runner.seats.cancel()
    assert runner.told[-2:] == [Kill(2), Kill(3)]
    assert link.ended
    assert list(runner.seats.by_id) == [1]
    assert not runner.seats.connected(3, Link())
    runner.seats.reported(report(2))
    assert (runner.lost, runner.failed) == ([], [])


def test_other_threads_look_while_workers_come(runner):
    """Their count is no error."""
    seats = runner.seats.by_id

    class Coming:
        @property
        def worker(self):
            seats[len(seats) + 1] = Seat(len(seats) + 1, 9, runner.seats)

    seats[99] = Coming()
    assert runner.seats.ready == 0
