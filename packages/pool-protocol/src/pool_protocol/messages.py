"""Messages: one class each, one table.

``Task`` and ``Result`` are made hundreds of thousands of times a second, so they are named tuples
over a frame's own fields; their payloads are opaque here. Every other message is a record, a
frozen dataclass that costs little to define: see ``codec`` for how it travels.
"""

import enum
from collections.abc import Sequence
from dataclasses import field
from typing import ClassVar, NamedTuple

from pool_protocol.frames import Buffer
from pool_protocol.records import record


class TaskFlag(enum.IntFlag):
    """How the payload of a Task is to be read."""

    CHUNK = 1
    """Many calls in one task: the payload packs a list of items."""
    STAR = 2
    """Each item of a chunk is a tuple of arguments."""
    KWARGS = 4
    """The payload is ``(args, kwargs)``; without it, it is ``args``."""
    TIMED = 8
    """The payload opens with the time limit of each call, in ns (u64)."""
    SEPARATE = 16
    """A chunk's items are pickled one by one."""


class ResultFlag(enum.IntFlag):
    """How the payload of a Result is to be read."""

    ERROR = 1
    """The payload packs an error, not a value."""
    CHUNK = 2
    """The payload packs a list of values."""
    SEPARATE = 4
    """A chunk's values are packed one by one, errors among them."""
    PART = 8
    """Some of a chunk's values, ahead of its result; ``id`` is 0, and the payload says whose."""


class Task(NamedTuple):
    """Client to worker: call function ``function`` (0: none). ``id`` rises with each sending."""

    kind: int
    flags: int
    function: int
    id: int
    payload: Buffer
    buffers: Sequence[Buffer]


class Result(NamedTuple):
    """Worker to client: the outcome of the task sent as ``id``; ``nanos`` is its service time."""

    kind: int
    flags: int
    nanos: int
    id: int
    payload: Buffer
    buffers: Sequence[Buffer]


@record
class Function:
    """Client to worker: ``blob`` is the pickle of function ``id``."""

    KIND: ClassVar[int] = 3
    id: int
    name: str
    by_value: bool
    python: str
    blob: Buffer = b""


@record
class Forget:
    """Client to worker: function ``id`` will not be used again."""

    KIND: ClassVar[int] = 4
    id: int


@record
class Cancel:
    """Client to worker: nobody wants the result of the task sent as ``id`` any more."""

    KIND: ClassVar[int] = 5
    id: int


@record
class Setup:
    """Client to worker, first: how to work; ``blob`` packs ``(initializer, initargs)``."""

    KIND: ClassVar[int] = 6
    func_pickle: int
    data_pickle: int
    worker_loop: int
    max_message: int | None
    blob: Buffer = b""


@record
class Ready:
    """Worker to client, after Setup: initialised, send tasks."""

    KIND: ClassVar[int] = 7
    pid: int
    python: str
    version: str


@record
class SetupFailed:
    """Worker to client: the set-up failed; ``blob`` packs the error. The worker ends."""

    KIND: ClassVar[int] = 8
    pid: int
    blob: Buffer = b""


@record
class Retire:
    """Client to worker: finish what you hold, then end."""

    KIND: ClassVar[int] = 9


@record
class HostReady:
    """Supervisor to client, first: who and what this host is."""

    KIND: ClassVar[int] = 16
    pid: int
    host: str
    python: str
    version: str
    cpus: int
    memory: int
    """Bytes of memory that its processes may use; 0: unknown."""


@record
class Start:
    """Client to supervisor: start these workers."""

    KIND: ClassVar[int] = 17
    workers: list[int]


@record
class Lost:
    """Supervisor to client: a worker has ended.

    ``exitcode`` is negative for a signal, ``started`` the dispatch id of the task that was
    running (0: none), ``item`` its item in a chunk, ``blob`` the results that the worker had
    gathered but not sent, as frames.
    """

    KIND: ClassVar[int] = 18
    worker: int
    pid: int
    exitcode: int
    started: int
    item: int
    reason: str
    blob: Buffer = b""


@record
class Kill:
    """Client to supervisor: end this worker now."""

    KIND: ClassVar[int] = 19
    worker: int


@record
class Recall:
    """Client to supervisor: let the worker start nothing more of what was sent up to ``last``."""

    KIND: ClassVar[int] = 20
    worker: int
    last: int


@record
class Recalled:
    """Supervisor to client: nothing sent after ``started`` and up to ``last`` will run.

    ``blob`` holds the results that the worker had gathered but not sent, as frames.
    """

    KIND: ClassVar[int] = 21
    worker: int
    started: int
    last: int
    blob: Buffer = b""


@record
class Watch:
    """Client to supervisor: watch the time limits of running tasks, or stop watching."""

    KIND: ClassVar[int] = 22
    on: bool


@record
class Stop:
    """Client to supervisor, or to spawner: end every worker now, then end."""

    KIND: ClassVar[int] = 23


@record
class Ping:
    """Either way on a control connection: answer with a Pong of the same number."""

    KIND: ClassVar[int] = 24
    number: int


@record
class Pong:
    """The answer to a Ping."""

    KIND: ClassVar[int] = 25
    number: int


@record
class Output:
    """Supervisor to client: whole lines that a worker printed, as bytes, in ``blob``.

    ``stream`` is 1 or 2, as the descriptor; ``dropped`` counts the lines that were lost just before
    these because there were too many.
    """

    KIND: ClassVar[int] = 26
    worker: int
    stream: int
    dropped: int
    blob: Buffer = b""


@record
class OutputTaken:
    """Client to supervisor: so many more bytes of Output have been printed; send as many again."""

    KIND: ClassVar[int] = 27
    nbytes: int


@record
class Leaving:
    """Supervisor to client: this host wants to leave; let its workers finish, and replace none."""

    KIND: ClassVar[int] = 28


@record
class Request:
    """Worker to client, on a service connection: ask ``service`` for something.

    ``number`` comes back in the reply; several requests may be under way, and replies come in any
    order. What ``blob`` holds is the service's affair.
    """

    KIND: ClassVar[int] = 32
    number: int
    service: str
    method: str
    blob: Buffer = b""


@record
class Reply:
    """Client to worker: the answer to the request ``number``; ``error`` is empty if it is good."""

    KIND: ClassVar[int] = 33
    number: int
    error: str
    blob: Buffer = b""


@record
class Join:
    """Supervisor to a listening client, first: take ``workers`` workers of this host in."""

    KIND: ClassVar[int] = 40
    host: str
    pid: int
    workers: int
    python: str
    version: str


@record
class Welcome:
    """Client to a supervisor that joins: ``blob`` holds its settings, as a launcher gives them."""

    KIND: ClassVar[int] = 41
    blob: Buffer = field(default=b"", repr=False)


@record
class Spawn:
    """Client to spawner, first: start ``pool-worker`` with the settings in ``blob``.

    The connection is its lifeline. ``workers`` counts against the spawner's cap; 0: as many as the
    host has CPUs.
    """

    KIND: ClassVar[int] = 48
    workers: int
    blob: Buffer = field(default=b"", repr=False)


@record
class SpawnQueued:
    """Spawner to client: its cap is reached by others; wait for your turn, or close."""

    KIND: ClassVar[int] = 49
    free: int
    cap: int


@record
class Spawned:
    """Spawner to client: ``pool-worker`` runs."""

    KIND: ClassVar[int] = 50
    pid: int


@record
class SpawnEnded:
    """Spawner to client, last: it ended, or was refused; ``blob`` is the tail of what it said.

    ``reason`` says why in a sentence; ``exitcode`` is negative for a signal.
    """

    KIND: ClassVar[int] = 51
    exitcode: int
    reason: str
    blob: Buffer = b""


Control = (
    Function
    | Forget
    | Cancel
    | Setup
    | Ready
    | SetupFailed
    | Retire
    | HostReady
    | Start
    | Lost
    | Kill
    | Recall
    | Recalled
    | Watch
    | Stop
    | Ping
    | Pong
    | Output
    | OutputTaken
    | Leaving
    | Request
    | Reply
    | Join
    | Welcome
    | Spawn
    | SpawnQueued
    | Spawned
    | SpawnEnded
)
Message = Task | Result | Control

TASK = 1
RESULT = 2
#: Every control message by its kind: the one table.
CONTROL: dict[int, type[Control]] = {
    cls.KIND: cls
    for cls in (
        *(Function, Forget, Cancel, Setup, Ready, SetupFailed, Retire),
        *(HostReady, Start, Lost, Kill, Recall, Recalled, Watch, Stop, Ping, Pong),
        *(Output, OutputTaken, Leaving, Request, Reply),
        *(Join, Welcome, Spawn, SpawnQueued, Spawned, SpawnEnded),
    )
}
