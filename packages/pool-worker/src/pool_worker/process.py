"""One worker: a loop that receives, runs and sends, one task at a time.

It waits in the kernel and in nothing else; an event loop exists only once a task gave something
to await (``asynchronous``). The loop over tiny tasks is written out in ``Worker.run``: whatever
it does not handle itself goes to ``runner`` and ``outbox``.
"""

import atexit
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from pool_protocol import (
    FrameTooLarge,
    LoopType,
    Payload,
    PickleType,
    PoolError,
    RemoteProtocolError,
    Role,
)
from pool_protocol.frames import HEADER, HEADER_SIZE, too_large
from pool_protocol.messages import (
    RESULT,
    Cancel,
    Forget,
    Function,
    Message,
    Ready,
    ResultFlag,
    Retire,
    Setup,
    SetupFailed,
    Task,
)
from pool_protocol.parts import pack_part
from pool_worker.__about__ import __version__
from pool_worker.channel import Channel, Closed, of_the_socket
from pool_worker.failures import CANCELLED, exit_status, pack_error, type_name
from pool_worker.functions import PYTHON, FunctionTable, unpacker
from pool_worker.loops import loop_maker
from pool_worker.outbox import MAX_NANOS, Outbox
from pool_worker.page import AREA, DONE, END, SIZE, SKIP_FROM, SKIP_TO, STARTED, Page
from pool_worker.parts import cut
from pool_worker.runner import ERROR, SEPARATE_RESULT, TINY, Pending, Runner, is_awaitable
from pool_worker.settings import Settings

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

#: A plain number, as all flags here.
PART = int(ResultFlag.PART)
#: Results wait for company no longer than this, in ns.
GATHER_NS = 1_000_000
#: How long exit functions may take, in seconds.
EXIT_PATIENCE = 5.0


class Waiting(NamedTuple):
    """A task whose results are to be awaited, by the event loop."""

    id: int
    began: int
    pending: Pending


class Worker:
    """A worker that is connected."""

    def __init__(self, channel: Channel, page: Page) -> None:
        self.channel = channel
        self.page = page
        self.outbox = Outbox(page, channel)
        self.cancelled: set[int] = set()
        self.runner: Runner
        self.make_loop = loop_maker(LoopType.default)
        #: Where tasks are awaited, once there is anything to await.
        self.loop: AbstractEventLoop | None = None
        #: This is a process that a task has forked: nothing here is its own.
        self.forked = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._note_fork)
        self._most = SIZE - AREA

    def __repr__(self) -> str:
        return f"<Worker {self.channel.connection!r}>"

    # -- the beginning

    def set_up(self, setup: Setup) -> None:
        """Get ready to work as the client wants it. Raises whatever goes wrong."""
        self.outbox.limit = setup.max_message
        self._most = min(setup.max_message or SIZE, SIZE) - HEADER_SIZE
        self.make_loop = loop_maker(LoopType(setup.worker_loop))
        unpack = unpacker(PickleType(setup.func_pickle))
        self.runner = Runner(PickleType(setup.data_pickle), FunctionTable(unpack), self.page.words)
        if setup.blob:
            initializer, arguments = unpack(setup.blob)
            if initializer is not None:
                self._initialize(initializer, arguments)

    def _initialize(self, initializer: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        value = initializer(*arguments)
        if is_awaitable(value):
            from pool_worker.asynchronous import awaited

            self.loop = self.make_loop()
            self.loop.run_until_complete(awaited(value))

    def begin(self) -> list[Message]:
        """Wait for the set-up and answer it; what was received with it. Exits if it fails."""
        messages: list[Message] = []
        while not messages:
            messages = self.channel.receive()
        setup = messages.pop(0)
        if not isinstance(setup, Setup):
            raise RemoteProtocolError("the first message to a worker must be its set-up")
        try:
            self.set_up(setup)
        except BaseException as error:
            self._tell_failure(error)
            self._flush_streams()
            os._exit(1)
        self.channel.send(Ready(os.getpid(), PYTHON, __version__))
        return messages

    def _tell_failure(self, error: BaseException) -> None:
        try:
            self.channel.send(SetupFailed(os.getpid(), pack_error(error)))
        except FrameTooLarge as large:
            text = f"the error of the set-up, {type_name(type(error))}, cannot be told: {large}"
            self.channel.send(SetupFailed(os.getpid(), pack_error(FrameTooLarge(text))))

    # -- the middle

    def serve(self) -> NoReturn:
        """Work until the client says otherwise. Raises Closed, OSError, PoolError."""
        messages = self.begin()
        while True:
            self.note_cancelled(messages)
            rest = iter(messages)
            waiting = None if self.loop is not None else self.run(rest)
            if waiting is not None or self.loop is not None:
                from pool_worker.asynchronous import LoopMode

                LoopMode(self).run(waiting, rest)
            del messages, rest
            self.cancelled.clear()
            self.idle()
            messages = self.channel.receive()

    def note_cancelled(self, messages: list[Message]) -> None:
        """Tasks among these messages that were cancelled by later ones will not be run."""
        if messages and set(map(type, messages)) != {Task}:
            self.cancelled.update(m.id for m in messages if type(m) is Cancel)

    def idle(self) -> None:
        """There is nothing left to do: let the client have everything."""
        self.outbox.flush()
        words = self.page.words
        words[DONE] = words[STARTED]

    def run(self, messages: Iterator[Message]) -> Waiting | None:
        """Handle messages until there are no more, or until a result must be awaited."""
        page, runner, cancelled, most = self.page, self.runner, self.cancelled, self._most
        words, area = page.words, page.map
        functions, loads, dumps = runner.functions.ready, runner.loads, pickle.dumps
        pack_header, clock = HEADER.pack, time.monotonic_ns
        began = clock()
        flush_at = began + GATHER_NS
        for message in messages:
            if type(message) is not Task:
                self._control(message)
                continue
            _, flags, number, id, payload, buffers = message
            words[STARTED] = id
            if id <= words[SKIP_TO] and id > words[SKIP_FROM]:
                continue
            function = functions.get(number)
            if flags or buffers or cancelled or function is None:
                if id in cancelled:
                    self.deliver(id, 0, ERROR, CANCELLED)
                    continue
                outcome = runner.start(message)
                if isinstance(outcome, Pending):
                    return Waiting(id, began, outcome)
                flags, data = outcome
                runner.done()
            else:
                try:
                    value = function(*loads(payload))
                    if type(value) in TINY:
                        data = dumps(value, 5)
                    elif is_awaitable(value):
                        return Waiting(id, began, Pending(number, False, False, [value]))
                    else:
                        data = runner.pack(value, number)
                except BaseException as error:
                    flags, data = runner.failure(error)
                value = None
            if self.forked:
                self.end_copy(flags, data)
            now = clock()
            end = words[END] or AREA
            if (
                type(data) is bytes
                and (size := len(data)) <= most
                and ((stop := end + HEADER_SIZE + size) <= SIZE)
            ):
                nanos = now - began
                if nanos > MAX_NANOS:
                    nanos = MAX_NANOS
                area[end:stop] = pack_header(size, RESULT, flags, 0, nanos, id) + data
                words[END] = stop
            else:
                self.deliver(id, now - began, flags, data)
            if now > flush_at:
                self.outbox.flush()
                flush_at = now + GATHER_NS
            began = now
        return None

    def deliver(self, id: int, nanos: int, flags: int, payload: Payload) -> None:
        """Let the outbox have a result; if it is too large, parts of it, or the error instead."""
        try:
            self.outbox.put(id, nanos, flags, payload)
        except FrameTooLarge as error:
            found = self.runner.bodies(flags, payload)
            limit = self.outbox.limit
            if found is None or limit is None:
                self.outbox.put(id, nanos, *self.runner.failure(error))
                return
            *parts, rest = cut(*found, limit, lambda size: self._refusal(size, limit))
            for part in parts:
                self.outbox.write(0, 0, PART, pack_part(id, *part))
            self.outbox.write(id, nanos, SEPARATE_RESULT, rest.payload)

    def _refusal(self, size: int, limit: int) -> bytes:
        return self.runner.pack_error(FrameTooLarge(too_large(size, limit)))

    def _control(self, message: Message) -> None:
        if isinstance(message, Function):
            self.runner.functions.add(message)
        elif isinstance(message, Forget):
            self.runner.functions.forget(message.id)
        elif isinstance(message, Retire):
            self.retire()

    # -- the end

    def _note_fork(self) -> None:
        self.forked = True

    def end_copy(self, flags: int, payload: Payload) -> NoReturn:
        """End a process that a task has forked and that has come back from the task.

        The page that it would write to is its parent's. It ends as any program does.
        """
        status = 0
        if flags & ERROR:
            status, text = exit_status(payload)
            with suppress(OSError, ValueError, AttributeError):
                sys.stderr.write(text)
        self._flush_streams()
        os._exit(status)

    def retire(self) -> NoReturn:
        """End in good order."""
        self.idle()
        # Exit functions may wait for what a task has left behind, such as a process.
        signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
        signal.setitimer(signal.ITIMER_REAL, EXIT_PATIENCE)
        try:
            atexit._run_exitfuncs()
        finally:
            self._flush_streams()
            os._exit(0)

    @staticmethod
    def _flush_streams() -> None:
        for stream in (sys.stdout, sys.stderr):
            # It may be closed by a task, or nobody listens any more.
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()


def connect(settings: Settings, number: int) -> Channel:
    """Connect worker ``number`` to the client; ends the process if that cannot be done."""
    try:
        return Channel.connect(settings, Role.TASK, number)
    except (OSError, PoolError, Closed) as error:
        print(f"pool-worker: worker {number} cannot connect: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def work(channel: Channel, page: Page) -> NoReturn:
    """Be a worker: serve the client, end the process."""
    try:
        Worker(channel, page).serve()
    except Closed:
        os._exit(0)
    except PoolError as error:
        with suppress(OSError, ValueError, AttributeError):
            print(f"pool-worker: this worker ends: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    except BaseException as error:
        if not of_the_socket(error):  # else the client is gone
            sys.excepthook(*sys.exc_info())
        os._exit(1)
