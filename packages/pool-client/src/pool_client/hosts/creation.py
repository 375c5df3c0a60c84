"""Whether a pool could be created: once, for everybody who waits for it."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pool_client.errors import HostError, PoolBroken

if TYPE_CHECKING:
    from pool_client.hosts.fleet import Fleet
    from pool_client.hosts.host import HostRunner


class Creation:
    """Watches the hosts come up, until all are there, too many have failed, or time is over."""

    def __init__(self, fleet: "Fleet") -> None:
        self.done = False
        self._fleet = fleet
        self._failed: dict[HostRunner, BaseException] = {}
        self._callbacks: list[Callable[[BaseException | None], None]] = []
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """From now on the time counts."""
        loop = self._fleet.engine.loop
        self._timer = loop.call_later(self._fleet.options.connect_timeout, self._timed_out)

    def when_done(self, callback: Callable[[BaseException | None], None]) -> None:
        """Call back, on the loop, once the pool is up (None) or has failed."""
        if self.done:
            callback(self._fleet.engine.scheduler.broken)
        else:
            self._callbacks.append(callback)

    def settle(self, error: BaseException | None) -> None:
        """This is the outcome; later ones count for nothing."""
        if self._timer is not None:
            self._timer.cancel()
        if not self.done:
            self.done = True
            callbacks, self._callbacks = self._callbacks, []
            for callback in callbacks:
                callback(error)

    def look(self) -> None:
        """Something has changed: is that an outcome?"""
        if self.done:
            return
        missing = self._missing()
        if not missing:
            self.settle(None)
        elif self._failed and all(runner in self._failed for runner in missing):
            # Everybody else is up: no more errors will come.
            self._fleet.fail(combined(list(self._failed.values())))
        elif self._enough() and all(runner.error is not None for runner in missing):
            self._do_without(missing)

    def _missing(self) -> list["HostRunner"]:
        """The hosts that the pool was made of, and that are not there; who joins is not one."""
        active = self._fleet.active
        return [runner for runner in active if not (runner.complete or runner.joined)]

    def _enough(self) -> bool:
        least = self._fleet.options.min_workers
        return least is not None and len(self._fleet.engine.scheduler.workers) >= least

    def _do_without(self, missing: "Sequence[HostRunner]") -> None:
        """There are workers enough; those that are missing may come later."""
        for runner in missing:
            error = runner.overdue() or HostError(runner.spec.name, "its workers are not ready yet")
            self._fleet.engine.scheduler.stop_waiting(runner.host, error)
        self.settle(None)
        self._fleet.engine.pump()

    def failed(self, runner: "HostRunner", error: BaseException) -> None:
        """A host has failed for good; it is named when the others have failed or come up."""
        self._failed.setdefault(runner, error)
        self.look()

    def _timed_out(self) -> None:
        fleet = self._fleet
        missing = self._missing()
        if self._enough():
            self._do_without(missing)
            return
        late = {r: error for r in missing if (error := r.overdue()) is not None}
        errors: dict[HostRunner, BaseException] = {**late, **self._failed}
        if not errors:
            errors = dict.fromkeys(missing, self._slow(missing))
        fleet.fail(combined(list(dict.fromkeys(errors.values()))))

    def _slow(self, missing: "Sequence[HostRunner]") -> PoolBroken:
        """Every host is up, but not every worker."""
        each = [f"{r.spec.name} ({r.seats.ready} of {r.wanted or 'auto'})" for r in missing]
        return PoolBroken(
            f"only {len(self._fleet.engine.scheduler.workers)} of {self._fleet.wanted} workers "
            f"were ready within {self._fleet.options.connect_timeout:g} s: {', '.join(each)}; "
            "does the initializer hang, or is connect_timeout too short?"
        )


def combined(errors: Sequence[BaseException]) -> BaseException:
    """One error that names every host that failed, with its reason."""
    if len(errors) == 1:
        return errors[0]
    for error in errors:
        if isinstance(error, PoolBroken):
            return error  # an initializer fails in the same way everywhere
    hosts = [error.host for error in errors if isinstance(error, HostError)]
    reasons = "".join(f"\n  {str(error).replace(chr(10), chr(10) + '    ')}" for error in errors)
    together = HostError(", ".join(hosts), f"{len(errors)} hosts could not be started:{reasons}")
    together.__cause__ = errors[0]
    return together


def broken(error: BaseException) -> PoolBroken:
    """The error of a pool that cannot go on, for a reason that may be another kind of error."""
    if isinstance(error, PoolBroken):
        return error
    made = PoolBroken(f"no worker can be started: {error}")
    made.__cause__ = error
    return made
