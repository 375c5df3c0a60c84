"""One start of a host's ``pool-worker``: from the launcher's call to the end of the program.

A launcher may be somebody else's. Whatever it raises is told with the host's name, and neither
holds the host up nor ends the loop.
"""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable
from typing import Any

from pool_client.errors import HostError
from pool_client.launchers import HostSpec, Launched, Launcher, Order, launcher
from pool_client.patience import Patience
from pool_protocol.errors import text_of

logger = logging.getLogger("pool_client")

#: Seconds between looks at a program that has not connected yet, or that is to end.
_LOOK = 0.02
_LOOK_END = 0.001
#: Seconds for a program to end after its standard input was closed, before it is killed; and for a
#: launcher that was cancelled.
_PATIENCE = 5.0

#: What a launcher may raise: SystemExit too, which a loop would pass on to its thread.
_FAULTS = (Exception, SystemExit)


def make_launcher(spec: HostSpec) -> Launcher:
    """A host's launcher. Raises ValueError for an unknown scheme, HostError for a broken one."""
    try:
        made = launcher(spec.scheme)
    except ImportError as error:
        raise HostError(spec.name, str(error)) from error
    local = getattr(made, "local", None)
    if local is None:
        text = f"the launcher of {spec.scheme}:// does not say whether it is local: {made!r}"
        raise HostError(spec.name, text)
    return made


class Launch:
    """Starts the program on the running loop, and ends it.

    ``failed`` is called, once at most, with the reason why the program did not get as far as
    connecting back within ``timeout`` seconds; nothing of it is left then.
    """

    def __init__(
        self,
        launcher: Launcher,
        spec: HostSpec,
        order: Order,
        timeout: float,
        failed: Callable[[HostError], None],
    ) -> None:
        self.connected = False
        self._launcher = launcher
        self._spec = spec
        self._order = order
        self._timeout = timeout
        self._failed = failed
        self._launched: Launched | None = None
        self._task = asyncio.get_running_loop().create_task(self._run())

    def __repr__(self) -> str:
        state = "connected" if self.connected else "running" if self._launched else "starting"
        return f"<Launch of {self._spec.name}: {state}>"

    async def _run(self) -> None:
        error: HostError
        try:
            async with asyncio.timeout(self._timeout) as limit:
                self._launched = await self._launcher.launch(self._spec, self._order)
                await self._connect(self._launched)
            return
        except HostError as refused:
            error = refused
        except (*_FAULTS, asyncio.CancelledError) as trouble:
            if isinstance(trouble, asyncio.CancelledError) and self._task.cancelling():
                raise
            if isinstance(trouble, TimeoutError) and limit.expired():
                error = self.overdue()
            else:
                error = HostError(self._spec.name, _text(trouble))
                error.__cause__ = trouble
        if self.connected:
            return  # in the last moment; how it goes on is its connection's affair
        self.drop()
        self._failed(error)

    async def _connect(self, launched: Launched) -> None:
        """Until the program has connected. Raises HostError when it ends before."""
        while not self.connected:
            reason = launched.ended()
            if reason is not None:
                raise HostError(self._spec.name, f"{reason}{self.tail()}")
            await asyncio.sleep(_LOOK)

    def overdue(self) -> HostError:
        """How far it has come, if that is too late."""
        reason = "could not be started" if self._launched is None else "did not connect back"
        stage = self._stage()
        text = f"pool-worker {reason} within {self._timeout:g} s{': ' if stage else ''}{stage}"
        return HostError(self._spec.name, f"{text}{self.tail()}")

    def _stage(self) -> Any:
        try:
            return getattr(self._launcher, "stage", "")
        except _FAULTS as trouble:
            self._tell("stage cannot be told", trouble)
            return ""

    async def wait_for_end(self, seconds: float) -> str | None:
        """Why and how the program ended, if it does within so many seconds; else None."""
        patience = Patience(seconds)
        while self._launched is not None:
            try:
                reason = self._launched.ended()
            except _FAULTS as trouble:
                return _text(trouble)
            if reason is not None or patience.over():
                return reason
            await asyncio.sleep(_LOOK_END)
        return None

    def tail(self) -> str:
        """What the program said on its standard error, on a line of its own; or nothing."""
        tail = self._call("errors")
        return f"\n{tail}" if tail else ""

    def _call(self, method: str) -> Any:
        """What a method of the program's says; None if it fails, or there is no program."""
        if self._launched is None:
            return None
        try:
            return getattr(self._launched, method)()
        except _FAULTS as trouble:
            self._tell(f"{method}() has failed", trouble)
            return None

    def _tell(self, what: str, trouble: BaseException) -> None:
        """A fault that changes nothing but must not be lost."""
        logger.warning("%s: its launcher's %s: %s", self._spec.name, what, _text(trouble))

    # -- the end

    def hang_up(self) -> None:
        """Close the program's standard input: it ends, and everything that it started."""
        self._call("hang_up")

    async def cancel(self) -> None:
        """Give up a start that is under way."""
        if self._task is not asyncio.current_task():
            self._task.cancel()
            done, _ = await asyncio.wait((self._task,), timeout=_PATIENCE)
            if not done:
                logger.warning("%s: its launcher cannot be cancelled", self._spec.name)

    async def give_up(self) -> None:
        """End it by force, however far it has come."""
        await self.cancel()
        self.drop()

    async def close(self) -> None:
        """Let the program end by itself, say what it still had to say, and let go of it."""
        await self.cancel()
        self.hang_up()
        await self.wait_for_end(_PATIENCE)
        if sys.stderr is not None and (tail := self.tail()):
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(tail[1:] + "\n")
        self.drop()

    def drop(self) -> None:
        """End the program by force, now. Needs no loop."""
        self._call("kill")
        self._call("close")
        self._launched = None

    def sweep(self) -> None:
        """Let the program end by itself when there is no loop any more."""
        self._call("close")
        self._launched = None

    def abandon(self) -> None:
        """Close the descriptors in a forked child."""
        self._call("abandon")


def _text(trouble: BaseException) -> str:
    return f"{type(trouble).__name__}: {text_of(trouble)}"
