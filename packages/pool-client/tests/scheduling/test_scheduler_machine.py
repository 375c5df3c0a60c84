"""The scheduler against a model of workers, in any order of events.

Each worker runs what it was sent one after the other, at its own pace: it begins a task, ends it,
its answers lie in the socket until they are delivered, it dies at any of these moments, and its
supervisor takes back what it has not begun. The machine knows the truth of all that; the scheduler
is told what it would be told in reality.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from scheduler_model import (
    MS,
    SECOND,
    Item,
    Recorder,
    RecordingBroadcast,
    function,
    lost,
    result,
    unaccounted,
    worker,
)

from pool_client.errors import PoolBroken, TaskTimeout, WorkerLost
from pool_client.scheduling import policy
from pool_client.scheduling.assigning import Assignment
from pool_client.scheduling.barren import MAX_BARREN
from pool_client.scheduling.scheduler import Scheduler
from pool_client.scheduling.tasks import (
    BreakPool,
    DropHost,
    Host,
    RecallTasks,
    ReplaceWorker,
    RetireWorker,
    Task,
    WatchHost,
    Worker,
)
from pool_protocol.messages import Result, TaskFlag

#: The workers of the hosts at the start.
SLOTS = (2, 1)
NANOS = st.sampled_from([0, 100, 10_000, 1 * MS, 100 * MS, 2 * SECOND])
STEPS = st.sampled_from([0, 1, 1 * MS, 11 * MS, 100 * MS, 3 * SECOND, 60 * SECOND])


@dataclass(eq=False)
class Process:
    """A worker process as it really is."""

    record: Worker
    inbox: deque[tuple[int, Task]] = field(default_factory=deque)
    """Sent to it, not begun."""
    running: tuple[int, Recorder] | None = None
    at: int = 0
    """The item that it is running."""
    last_begun: int = 0
    answers: list[Result] = field(default_factory=list)
    """Given, not delivered yet."""
    delivered: list[Result] = field(default_factory=list)
    recalls: list[int] = field(default_factory=list)
    """Questions of the scheduler's that its supervisor has not answered."""
    retired: bool = False
    stream_ended: bool = False
    calls: int = 0
    """What it was sent, less what was taken back."""

    def begin_item(self, index: int) -> None:
        """It gets to an item of what it runs."""
        _, task = self.running
        self.at = index
        task.calls[index].begun += 1


class SchedulerMachine(RuleBasedStateMachine):
    """Events in any order; the invariants hold after each."""

    @initialize(qsize=st.sampled_from([None, 1, 3]), max_tasks=st.sampled_from([None, None, 1, 4]))
    def make(self, qsize, max_tasks):
        self.qsize = qsize
        self.max_tasks = max_tasks
        self.scheduler = Scheduler(qsize, max_tasks)
        self.functions = [function(id) for id in range(1, 4)]
        self.now = SECOND
        self.workers_made = 0
        self.processes: dict[int, Process] = {}
        self.hosts: list[Host] = []
        self.empty_slots: set[int] = set()
        #: Where each part of a broadcast belongs.
        self.places: dict[int, int] = {}
        for slots in SLOTS:
            self.add_host(slots)
        #: Everything that was submitted, in order.
        self.order: list[Recorder | RecordingBroadcast] = []
        self.last_id = 0
        self.watching: dict[int, bool] = {}
        self.broken: BaseException | None = None

    # -- the model

    def add_host(self, slots: int) -> None:
        host = Host(f"box{len(self.hosts)}", slots, number=len(self.hosts))
        self.hosts.append(host)
        self.scheduler.expect(host, slots)
        self.empty_slots |= {host.slot(index) for index in range(slots)}

    def host(self, slot: int) -> Host:
        [host] = [host for host in self.hosts if host.holds(slot)]
        return host

    def open_hosts(self) -> list[Host]:
        return [host for host in self.hosts if host.closed is None]

    def staying(self) -> list[Process]:
        """The workers for which a broadcast is meant."""
        return self.some(lambda process: process.record.host.closed is None)

    def close_host(self, host: Host) -> None:
        """Nobody sits in its empty places any more."""
        self.empty_slots = {slot for slot in self.empty_slots if not host.holds(slot)}

    def items(self) -> list[Item]:
        """Every call so far."""
        found = []
        for entry in self.order:
            for task in [entry] if isinstance(entry, Recorder) else entry.parts:
                found += task.calls
        return found

    def pump(self) -> None:
        """What the engine does after each event."""
        if self.scheduler.broken is not None:
            self.scheduler.cancel_waiting(self.scheduler.broken)
        high = [entry for entry in self.order if getattr(entry, "lowered", True) is False]
        sent = self.scheduler.assign(self.now)
        for broadcast in high:
            if broadcast.lowered:
                for entry in self.order[: self.order.index(broadcast)]:
                    assert over(entry), "a broadcast went ahead of what came before it"
                slots = sorted(process.record.slot for process in self.staying())
                assert len(slots) == len(broadcast.parts)
                self.places.update(zip(map(id, broadcast.parts), slots, strict=True))
        self.send(sent)
        names = [record.id for record, _ in sent]
        assert all(names.count(name) <= 2 for name in names)
        for action in self.scheduler.take_actions():
            self.act(action)

    def send(self, sent: Sequence[Assignment]) -> None:
        for record, tasks in sent:
            process = self.processes[record.id]
            assert not process.stream_ended, "sent to a worker whose stream has ended"
            assert not process.retired, "sent to a worker that was told to leave"
            for task in tasks:
                assert task.id > self.last_id, "a dispatch id was used twice"
                self.last_id = task.id
                process.inbox.append((task.id, task))
                process.calls += task.items

    def act(self, action: object) -> None:
        match action:
            case ReplaceWorker(host, slot):
                assert host.closed is None
                assert host.holds(slot)
                self.empty_slots.add(slot)
            case DropHost(host, _):
                assert host.barren >= MAX_BARREN
                if host.closed is None:
                    self.drop_it(host)
            case RecallTasks(record, last):
                assert record.id in self.processes, "asked a worker that is gone"
                process = self.processes[record.id]
                assert not process.recalls, "asked twice"
                process.recalls.append(last)
            case WatchHost(host, on):
                assert self.watching.get(id(host), False) != on
                self.watching[id(host)] = on
            case RetireWorker(record):
                process = self.processes[record.id]
                assert not process.retired
                process.retired = True
            case BreakPool(error):
                assert self.broken is None
                self.broken = error

    def deliver(self, process: Process, count: int) -> None:
        answers, process.answers = process.answers[:count], process.answers[count:]
        process.delivered += answers
        held = dict(process.record.tasks)
        expected = [answer for answer in answers if answer.id in held]
        tasks, taken = self.scheduler.results(process.record, answers, self.now)
        assert tasks == [held[answer.id] for answer in expected]
        assert taken == expected
        for task, answer in zip(tasks, taken, strict=True):
            task.resolve(answer)

    def pick(self, data, processes: list[Process]) -> Process:
        return data.draw(st.sampled_from(sorted(processes, key=lambda p: p.record.id)))

    def some(self, condition) -> list[Process]:
        return [process for process in self.processes.values() if condition(process)]

    # -- the user

    @rule(
        count=st.integers(1, 6),
        which=st.integers(0, 2),
        retries=st.integers(0, 2),
        timed=st.booleans(),
        nbytes=st.sampled_from([0, 100, 100, policy.LARGE_BYTES + 1, policy.MAX_BYTES]),
    )
    def submit(self, count, which, retries, timed, nbytes):
        tasks = [self.task([Item(retries)], which, nbytes, timed) for _ in range(count)]
        self.order += tasks
        self.scheduler.submit(iter(tasks))
        self.pump()

    @rule(
        count=st.integers(1, 5),
        which=st.integers(0, 2),
        retries=st.integers(0, 2),
        timed=st.booleans(),
    )
    def submit_chunk(self, count, which, retries, timed):
        items = [Item(retries, single=count == 1) for _ in range(count)]
        task = self.task(items, which, 100, timed)
        self.order.append(task)
        self.scheduler.submit([task])
        self.pump()

    @rule(which=st.integers(0, 2), timed=st.booleans(), withdrawn=st.booleans())
    def submit_lone(self, which, timed, withdrawn):
        """What the engine does with each task that comes by itself."""
        task = self.task([Item(1, withdrawn=withdrawn)], which, 100, timed)
        self.order.append(task)
        sent = self.scheduler.lone(task, self.now)
        if sent is None:
            self.scheduler.submit([task])
            self.pump()
            return
        assert all(over(entry) for entry in self.order[:-1]), "something else is under way"
        self.send(sent)

    def task(self, items, which, nbytes, timed):
        func = self.functions[which]
        timeout = 1.0 if timed else None
        return Recorder(func, items, nbytes=nbytes, retries=items[0].retries, timeout=timeout)

    @rule(which=st.integers(0, 2), retries=st.integers(0, 2), timed=st.booleans())
    def broadcast(self, which, retries, timed):
        timeout = 1.0 if timed else None
        broadcast = RecordingBroadcast(self.functions[which], retries, timeout)
        self.order.append(broadcast)
        self.scheduler.broadcast(broadcast)
        self.pump()

    @rule(data=st.data())
    def withdraw(self, data):
        """Its user cancels what was never sent; the scheduler only finds out when it looks."""
        waiting = [
            entry
            for entry in self.order
            if (isinstance(entry, Recorder) and not entry.id and not entry.calls[0].outcomes)
            or (isinstance(entry, RecordingBroadcast) and not entry.lowered and not entry.error)
        ]
        if waiting:
            entry = data.draw(st.sampled_from(waiting))
            if isinstance(entry, RecordingBroadcast):
                entry.withdrawn = True
            else:
                for item in entry.calls:
                    item.withdrawn = True

    @rule(unlikely=st.integers(0, 30))
    def cancel_all_that_waits(self, unlikely):
        if not unlikely:
            self.scheduler.cancel_waiting(ValueError("cancelled"))
            assert self.scheduler.waiting == 0
            self.pump()

    @rule(unlikely=st.integers(0, 60))
    def break_it(self, unlikely):
        if not unlikely:
            self.scheduler.break_with(PoolBroken("by hand"))
            self.pump()
            assert self.broken is self.scheduler.broken
            assert self.scheduler.finished

    # -- the workers

    @precondition(lambda self: self.empty_slots)
    @rule(data=st.data())
    def join(self, data):
        slot = data.draw(st.sampled_from(sorted(self.empty_slots)))
        self.empty_slots.discard(slot)
        self.workers_made += 1
        record = worker(self.workers_made, self.host(slot), slot)
        self.processes[record.id] = Process(record)
        self.scheduler.joined(record, self.now)
        self.pump()

    @precondition(lambda self: self.some(can_begin))
    @rule(data=st.data())
    def begin(self, data):
        process = self.pick(data, self.some(can_begin))
        id, _ = process.running = process.inbox.popleft()
        process.last_begun = id
        process.begin_item(0)

    @precondition(lambda self: self.some(lambda p: p.running))
    @rule(data=st.data(), nanos=NANOS, at_once=st.booleans())
    def end(self, data, nanos, at_once):
        process = self.pick(data, self.some(lambda p: p.running))
        id, task = process.running
        for index in range(process.at + 1, task.items):
            process.begin_item(index)
        process.running = None
        process.answers.append(result(id, nanos))
        if at_once and not process.stream_ended:
            self.deliver(process, len(process.answers))
            self.pump()

    @precondition(lambda self: self.some(can_begin))
    @rule(data=st.data(), nanos=NANOS)
    def work_through(self, data, nanos):
        """The usual case: all of it is done, in one go."""
        process = self.pick(data, self.some(can_begin))
        while process.inbox:
            id, _ = process.running = process.inbox.popleft()
            process.last_begun = id
            for index in range(process.running[1].items):
                process.begin_item(index)
            process.running = None
            process.answers.append(result(id, nanos))
        self.deliver(process, len(process.answers))
        self.pump()

    @precondition(lambda self: self.some(lambda p: p.running and p.at + 1 < p.running[1].items))
    @rule(data=st.data())
    def next_item(self, data):
        process = self.pick(data, self.some(lambda p: p.running and p.at + 1 < p.running[1].items))
        process.begin_item(process.at + 1)

    @precondition(lambda self: self.some(lambda p: p.answers))
    @rule(data=st.data(), everything=st.booleans())
    def receive(self, data, everything):
        process = self.pick(data, self.some(lambda p: p.answers))
        self.deliver(process, len(process.answers) if everything else 1)
        self.pump()

    @precondition(lambda self: self.some(lambda p: p.delivered))
    @rule(data=st.data(), id=st.integers(0, 10**6))
    def receive_nonsense(self, data, id):
        """Answers that were given before, and answers to nothing."""
        process = self.pick(data, self.some(lambda p: p.delivered))
        again = data.draw(st.sampled_from(process.delivered))
        answers = [again, result(id + 10**9), again]
        assert self.scheduler.results(process.record, answers, self.now) == ([], [])
        self.pump()

    # -- the supervisors

    @precondition(lambda self: self.some(lambda p: p.recalls))
    @rule(data=st.data(), in_time=st.booleans())
    def recall(self, data, in_time):
        """A supervisor stops its worker, and reads how far it has come."""
        process = self.pick(data, self.some(lambda p: p.recalls))
        last = process.recalls.pop()
        if not in_time:
            self.scheduler.recalled(process.record, 0, 0)
            self.pump()
            return
        back = [(id, task) for id, task in process.inbox if id <= last]
        process.inbox = deque(pair for pair in process.inbox if pair[0] > last)
        process.calls -= sum(task.items for _, task in back)
        self.deliver(process, len(process.answers))
        self.scheduler.recalled(process.record, process.last_begun, last)
        held = process.record.tasks
        assert not {id for id, _ in back} & held.keys()
        self.pump()

    @precondition(lambda self: self.processes)
    @rule(data=st.data(), reason=st.sampled_from(["", "", "killed", "timeout"]))
    def lose(self, data, reason):
        """A worker dies; its supervisor says what it was running."""
        process = self.pick(data, list(self.processes.values()))
        started = process.running[0] if process.running else 0
        if reason == "timeout" and not (started and process.running[1].flags & TaskFlag.TIMED):
            reason = ""
        self.deliver(process, len(process.answers))
        attempts = {id: task.attempts for id, task in process.record.tasks.items()}
        tasks = dict(process.record.tasks)
        self.gone(process)
        report = lost(process.record, started, process.at if started else 0, reason=reason)
        self.scheduler.lost(process.record, report, self.now)
        for id, task in tasks.items():
            if id != started:
                assert task.attempts == attempts[id], "blamed, but had not started"
        self.pump()

    @precondition(lambda self: self.processes)
    @rule(data=st.data())
    def lose_host(self, data):
        """A supervisor dies with all its workers, and nobody knows what they had started."""
        self.lose_all_of(data.draw(st.sampled_from(self.hosts)))

    def lose_all_of(self, host: Host) -> None:
        for process in self.some(lambda p: p.record.host is host):
            self.deliver(process, len(process.answers))
            if process.running:
                for index in range(process.at + 1, process.running[1].items):
                    process.begin_item(index)
            for _, task in process.inbox:
                for item in task.calls:
                    item.begun += 1
            self.gone(process)
            report = lost(process.record, reason="its supervisor ended")
            self.scheduler.lost(process.record, report, self.now, known=False)
            self.pump()

    @precondition(lambda self: len(self.hosts) < 6)
    @rule(slots=st.integers(1, 2))
    def host_joins(self, slots):
        self.add_host(slots)
        self.pump()

    @precondition(lambda self: self.open_hosts())
    @rule(data=st.data())
    def host_leaves(self, data):
        """It wants to go: its workers end when they have done what they run."""
        host = data.draw(st.sampled_from(self.open_hosts()))
        self.scheduler.leave(host, ConnectionError("it left"))
        self.close_host(host)
        self.pump()
        for process in self.some(lambda p: p.record.host is host and not p.stream_ended):
            assert process.retired
            assert len(process.record.tasks) < 2 or process.recalls

    @precondition(lambda self: len(self.open_hosts()) > 1)
    @rule(data=st.data())
    def host_is_given_up(self, data):
        self.drop_it(data.draw(st.sampled_from(self.open_hosts())))

    def drop_it(self, host: Host) -> None:
        self.scheduler.close(host, ConnectionError("given up"))
        self.close_host(host)
        self.pump()
        self.lose_all_of(host)

    @precondition(lambda self: self.open_hosts())
    @rule(data=st.data())
    def host_is_not_waited_for(self, data):
        """It cannot be reached; its workers may come later all the same."""
        host = data.draw(st.sampled_from(self.open_hosts()))
        self.scheduler.stop_waiting(host, ConnectionError("out of reach"))
        assert host.coming == 0
        self.pump()

    def gone(self, process: Process) -> None:
        del self.processes[process.record.id]

    @precondition(lambda self: self.some(lambda p: not p.stream_ended))
    @rule(data=st.data())
    def end_of_stream(self, data):
        """The end of a worker's stream is seen before the report of its death."""
        process = self.pick(data, self.some(lambda p: not p.stream_ended))
        self.deliver(process, len(process.answers))
        process.stream_ended = True
        self.scheduler.suspend(process.record)
        self.pump()

    @precondition(lambda self: self.some(has_left))
    @rule(data=st.data())
    def leave(self, data):
        """A worker that was told to has ended in good order."""
        process = self.pick(data, self.some(has_left))
        self.deliver(process, len(process.answers))
        before = self.scheduler.counts.workers_lost
        self.gone(process)
        self.scheduler.lost(process.record, lost(process.record, exitcode=0), self.now)
        assert self.scheduler.counts.workers_lost == before
        self.pump()

    # -- time

    @rule(step=STEPS)
    def tick(self, step):
        self.now += step
        self.scheduler.tick(self.now)
        self.pump()
        if step == 60 * SECOND:
            for process in self.some(lambda p: not p.stream_ended and not p.retired):
                assert len(process.record.tasks) < 2 or process.recalls, "left to wait in silence"
            for host in self.hosts:
                assert self.watching.get(id(host), False) == bool(host.timed)

    # -- what must hold

    @invariant()
    def every_outcome_came_once(self):
        for item in self.items():
            assert len(item.outcomes) <= 1

    @invariant()
    def nothing_unstarted_is_blamed(self):
        for item in self.items():
            if any(isinstance(o, WorkerLost | TaskTimeout) for o in item.outcomes):
                assert item.begun, "blamed, but had not started"

    @invariant()
    def nothing_is_started_too_often(self):
        for item in self.items():
            if item.single or not item.retries:
                assert item.begun <= item.retries + 1

    @invariant()
    def the_accounts_are_right(self):
        scheduler = self.scheduler
        held = [task for p in self.processes.values() for task in p.record.tasks.values()]
        assert scheduler.held == len(held)
        assert scheduler.coming == sum(host.coming for host in self.hosts)
        for host in self.hosts:
            empty = sum(map(host.holds, self.empty_slots))
            assert 0 <= host.coming <= empty, "it waits for workers that will not come"
        assert set(scheduler.workers) == set(self.processes)
        for process in self.processes.values():
            record = process.record
            tasks = record.tasks.values()
            assert all(id == task.id for id, task in record.tasks.items())
            assert list(record.tasks) == sorted(record.tasks), "not in the order of sending"
            if record.tasks or not record.dead:
                assert record.nbytes == sum(task.nbytes for task in tasks)
                expected = sum(task.cost for task in tasks)
                assert abs(record.work - expected) <= 1e-6 * max(1.0, SECOND)
            if self.qsize is not None:
                assert len(tasks) <= self.qsize
            assert record.sent == process.calls
        for host in self.hosts:
            timed = sum(
                bool(task.flags & TaskFlag.TIMED)
                for process in self.processes.values()
                for task in process.record.tasks.values()
                if process.record.host is host
            )
            assert host.timed == timed
            if timed:
                assert self.watching.get(id(host))

    @invariant()
    def every_task_is_in_one_place(self):
        assert unaccounted(self.scheduler) == 0
        answered = sum(
            isinstance(item.outcomes[0], Result) for item in self.items() if item.outcomes
        )
        assert self.scheduler.counts.completed <= answered, "a call in a chunk is one of many"
        if not any(isinstance(entry, RecordingBroadcast) for entry in self.order):
            assert self.scheduler.counts.submitted >= len(self.order)

    @invariant()
    def nothing_is_forgotten(self):
        """What has no outcome is in somebody's hands, or waits."""
        open_items = {id(item) for item in self.items() if not item.outcomes}
        held = [
            item
            for process in self.processes.values()
            for task in process.record.tasks.values()
            for item in task.calls
        ]
        assert {id(item) for item in held} <= open_items
        if not self.scheduler.waiting:
            assert {id(item) for item in held} == open_items
        unlowered = [b for b in self.order if isinstance(b, RecordingBroadcast) and not b.lowered]
        if not self.scheduler.waiting:
            assert all(b.error for b in unlowered)
        if self.scheduler.finished:
            assert not open_items
        if self.broken is None:
            for process in self.processes.values():
                real = {id for id, _ in process.inbox}
                real |= {answer.id for answer in process.answers}
                real |= {process.running[0]} if process.running else set()
                assert set(process.record.tasks) == real

    @invariant()
    def nobody_idles_while_work_waits(self):
        idle = self.some(lambda p: not p.record.tasks and not p.stream_ended and not p.retired)
        held = {id(t) for p in self.processes.values() for t in p.record.tasks.values()}
        blocked = False
        before_done = True
        for entry in self.order:
            if isinstance(entry, RecordingBroadcast):
                if not entry.lowered and not entry.error:
                    blocked = True
                    waits = self.scheduler.coming or not self.staying() or not before_done
                    assert waits, "a broadcast was forgotten"
                slots = {process.record.slot for process in idle}
                for part in entry.parts:
                    if not part.calls[0].outcomes and id(part) not in held:
                        place = self.places[id(part)]
                        assert place not in slots, "its worker is idle"
                        host = self.host(place)
                        assert host.closed is None, "it waits for a host that is gone"
                        there = {process.record.slot for process in self.processes.values()}
                        assert place in there | self.empty_slots, "it waits for nobody"
                before_done = before_done and entry.over
            else:
                before_done = before_done and over(entry)
                never_sent = not entry.id and not over(entry)
                if never_sent and not blocked:
                    assert not idle, "work waits, and a worker is idle"

    @invariant()
    def requeued_work_finds_idle_workers(self):
        """Without broadcasts everything that waits may go to anybody."""
        if any(isinstance(entry, RecordingBroadcast) for entry in self.order):
            return
        usable = self.some(lambda p: not p.stream_ended and not p.retired)
        idle = [process for process in usable if not process.record.tasks]
        away = self.scheduler._backlog.away
        if idle:
            assert self.scheduler.waiting == len(away)
        for task, host, until in away:
            assert not task.pinned
            assert all(process.record.host is host for process in idle), "it may go there"
            elsewhere = [process for process in usable if process.record.host is not host]
            assert elsewhere or not usable, "nobody is there whom it could wait for"
            assert until > self.now or not usable

    def teardown(self):
        """Whatever has happened, in the end everything has an outcome."""
        if not hasattr(self, "scheduler"):
            return
        for _ in range(10_000):
            if self.scheduler.finished:
                break
            self.drive_on()
        else:
            raise AssertionError(f"stuck: {self.scheduler.waiting} waiting")
        for item in self.items():
            assert len(item.outcomes) == 1
        assert all(host.timed == 0 for host in self.hosts)

    def drive_on(self):
        for process in self.some(lambda p: p.stream_ended or (p.retired and not p.record.tasks)):
            self.gone(process)
            started = process.running[0] if process.running else 0
            report = lost(process.record, started, process.at, exitcode=0)
            self.scheduler.lost(process.record, report, self.now)
        if not self.open_hosts():
            self.add_host(1)
        for slot in sorted(self.empty_slots):
            self.workers_made += 1
            record = worker(self.workers_made, self.host(slot), slot)
            self.processes[record.id] = Process(record)
            self.scheduler.joined(record, self.now)
        self.empty_slots.clear()
        self.pump()
        for process in self.some(lambda p: not p.stream_ended):
            if process.running:
                process.inbox.appendleft(process.running)
                process.running = None
            process.answers += [result(id, MS) for id, _ in process.inbox]
            process.inbox.clear()
            self.deliver(process, len(process.answers))
        self.pump()


def over(entry: Recorder | RecordingBroadcast) -> bool:
    """It has its outcome."""
    if isinstance(entry, RecordingBroadcast):
        return entry.over
    return all(item.outcomes for item in entry.calls)


def can_begin(process: Process) -> bool:
    """It has nothing to do, and something in its socket."""
    return bool(process.inbox) and process.running is None and not process.stream_ended


def has_left(process: Process) -> bool:
    """It was told to leave, and has done all that it held."""
    return process.retired and not process.inbox and process.running is None


TestScheduler = SchedulerMachine.TestCase
TestScheduler.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
