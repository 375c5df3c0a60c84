"""The hosts of a pool: where they connect, whether they are up, and what arrives from where.

The fleet owns the listener and the host runners, and sorts every link to the seat or the host
that it belongs to. It decides when the pool counts as created, and when it cannot be.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pool_client.descriptors import make_room
from pool_client.errors import PoolBroken
from pool_client.host import MAX_FAILURES, HostRunner, Seat
from pool_client.link import Link
from pool_client.listener import Listener
from pool_client.packing import check_size
from pool_client.tasks import Host
from pool_protocol import Role, serializer
from pool_protocol.messages import Message, Setup

if TYPE_CHECKING:
    from pool_client.engine import Engine
    from pool_client.options import Options


#: What a set-up message holds besides the initializer, in bytes, at most.
_SETTINGS = 256


def make_setup(options: "Options") -> Setup:
    """What every worker is told first.

    Raises PicklingError for an initializer that cannot be sent, or FrameTooLarge.
    """
    blob: Any = b""
    if options.initializer is not None:
        packed = serializer(options.func_pickle).pack((options.initializer, options.initargs))
        if not isinstance(packed, bytes):
            import cloudpickle

            packed = cloudpickle.dumps((options.initializer, options.initargs))
        blob = packed
    if options.max_message is not None:
        check_size(len(blob) + _SETTINGS, options.max_message)
    return Setup(
        func_pickle=int(options.func_pickle),
        data_pickle=int(options.data_pickle),
        worker_loop=int(options.worker_loop),
        max_message=options.max_message,
        blob=blob,
    )


def _broken(error: BaseException) -> PoolBroken:
    if isinstance(error, PoolBroken):
        return error
    broken = PoolBroken(f"no worker can be started: {error}")
    broken.__cause__ = error
    return broken


class Fleet:
    """All hosts of one pool, on the engine's loop."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self.options = engine.options
        self.runners: list[HostRunner] = []
        self.setup = make_setup(engine.options)
        self._created = False
        self._on_create: list[Callable[[BaseException | None], None]] = []
        self._timeout: asyncio.TimerHandle | None = None
        self._tokens: dict[bytes, tuple[bytes, HostRunner]] = {}
        self._listener: Listener | None = None
        self._seats: dict[Link, Seat] = {}
        self._controls: dict[Link, HostRunner] = {}
        self._workers_made = 0

    # -- creation

    def start(self) -> None:
        """Listen, and start every host side by side; see `when_created` for the outcome."""
        loop = self.engine.loop
        self._timeout = loop.call_later(self.options.connect_timeout, self._timed_out)
        try:
            make_room(self.options.workers)
            self._listener = Listener(loop, self._token, self, self.options.max_message)
            slot = 0
            for spec in self.options.hosts:
                self.runners.append(HostRunner(self, spec, slot))
                slot += spec.workers
            for runner in self.runners:
                runner.launch()
        except Exception as error:
            self.fail(error)

    def _token(self, launch: bytes) -> bytes | None:
        known = self._tokens.get(launch)
        return known[0] if known else None

    def new_launch(self, runner: HostRunner) -> tuple[bytes, dict[str, Any]]:
        """A name and a token for one start of a host, and the settings that carry them."""
        assert self._listener is not None
        self._tokens.pop(runner.launch_id, None)
        launch, token = os.urandom(8), os.urandom(32)
        self._tokens[launch] = (token, runner)
        try:
            folder: str | None = os.getcwd()
        except OSError:
            folder = None
        return launch, {
            "address": self._listener.address,
            "launch": launch.hex(),
            "token": token.hex(),
            "host": runner.spec.name,
            "cwd": folder,
            "sys_path": [path or folder for path in sys.path if path or folder],
            "client_pid": None,
            "stderr": None,
            "max_message": self.options.max_message,
        }

    def next_worker(self) -> int:
        """A number for a new worker process."""
        self._workers_made += 1
        return self._workers_made

    def worker_ready(self, seat: Seat) -> None:
        """A worker is initialised."""
        self.engine.worker_ready(seat)
        if len(self.engine.scheduler.workers) == self.options.workers:
            self.engine.ready.set()
            self._settle(None)

    def _timed_out(self) -> None:
        least = self.options.min_workers
        have = len(self.engine.scheduler.workers)
        if least is not None and have >= least:
            self.engine.scheduler.coming = 0
            self._settle(None)
            return
        missing = []
        for runner in self.runners:
            up = sum(seat.worker is not None for seat in runner.seats.values())
            if up < runner.spec.workers:
                missing.append(f"{runner.spec.name} ({up} of {runner.spec.workers})")
        self.fail(
            PoolBroken(
                f"only {have} of {self.options.workers} workers were ready within "
                f"{self.options.connect_timeout:g} s: {', '.join(missing)}; "
                "does the initializer hang, or is connect_timeout too short?"
            )
        )

    def _settle(self, error: BaseException | None) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
        if not self._created:
            self._created = True
            callbacks, self._on_create = self._on_create, []
            for callback in callbacks:
                callback(error)

    def when_created(self, callback: Callable[[BaseException | None], None]) -> None:
        """Call back, on the loop, once the pool is up (None) or has failed."""
        if self._created:
            callback(self.engine.scheduler.broken)
        else:
            self._on_create.append(callback)

    def fail(self, error: BaseException) -> None:
        """The pool cannot be, or cannot go on."""
        self.engine.break_with(error)
        self._settle(error)

    def start_failed(self, runner: HostRunner, error: BaseException) -> bool:
        """A host or a worker did not come up. True: try it again."""
        scheduler = self.engine.scheduler
        if self.engine.leaving or scheduler.broken is not None:
            return False
        if not self._created and self.options.min_workers is None:
            self.fail(error if runner.spec.scheme != "local" else _broken(error))
            return False
        scheduler.counts.trouble += 1
        if runner.failures < MAX_FAILURES or scheduler.workers:
            return True
        self.fail(_broken(error))
        return False

    def runner(self, host: Host) -> HostRunner:
        """The runner of a host."""
        return next(runner for runner in self.runners if runner.host is host)

    # -- events of the links

    def opened(self, link: Link) -> None:
        """A peer has authenticated itself."""
        identity = link.connection.identity
        assert identity is not None
        known = self._tokens.get(identity.launch)
        if known is None:
            link.close()
            return
        runner = known[1]
        if identity.role is Role.CONTROL:
            self._controls[link] = runner
            runner.control_opened(link)
            return
        seat = runner.seats.get(identity.worker)
        if seat is None or seat.link is not None:
            link.close()
            return
        self._seats[link] = seat
        runner.worker_opened(seat, link)

    def received(self, link: Link, messages: list[Message]) -> None:
        """Messages have come in."""
        seat = self._seats.get(link)
        if seat is None:
            runner = self._controls.get(link)
            if runner is not None:
                runner.control_received(messages)
            return
        worker = seat.worker
        if worker is None:
            messages = seat.runner.worker_received(seat, messages)
            worker = seat.worker
        if messages and worker is not None:
            self.engine.answered(worker, messages)

    def ended(self, link: Link, error: BaseException | None) -> None:
        """A stream has ended, or its peer broke the protocol."""
        seat = self._seats.get(link)
        if seat is not None:
            seat.runner.worker_ended(seat, error)
            return
        runner = self._controls.pop(link, None)
        if runner is not None and runner.control is link:
            runner.control_ended()

    def seat_gone(self, seat: Seat) -> None:
        """A worker process is over."""
        if seat.link is not None:
            self._seats.pop(seat.link, None)

    # -- the end

    async def close(self) -> None:
        """End every host, and stop listening."""
        if self._timeout is not None:
            self._timeout.cancel()
        await asyncio.gather(*(runner.close() for runner in self.runners))
        if self._listener is not None:
            self._listener.close()
        self._settle(self.engine.scheduler.broken)

    def abandon(self) -> None:
        """Close the descriptors in a forked child, whose copy of the pool is of no use."""
        if self._listener is not None:
            self._listener.abandon()
        for runner in self.runners:
            runner.abandon()

    def sweep(self) -> None:
        """The loop is gone for good: end the processes and remove the files without it."""
        for runner in self.runners:
            runner.sweep()
        if self._listener is not None:
            self._listener.remove_files()
