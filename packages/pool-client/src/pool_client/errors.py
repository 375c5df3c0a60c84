"""The errors that a user of the pool can meet.

BrokenProcessPool (concurrent.futures.process)
├── WorkerLost        one task took its worker down too often; the pool goes on
└── PoolBroken        the pool as a whole cannot go on
TimeoutError
└── TaskTimeout       one task ran longer than it may; its worker was replaced
PoolError (pool_protocol)
├── RemoteException   an error in a worker whose own type could not be brought back;
│                     also the ``__cause__`` of every error that was
├── HostError         a host could not be started; names it, and says why
├── AuthenticationError, CredentialError, VersionMismatch, FrameTooLarge    from pool_protocol
"""

import signal
from concurrent.futures.process import BrokenProcessPool

from pool_protocol import (
    AuthenticationError,
    CredentialError,
    FrameTooLarge,
    PoolError,
    VersionMismatch,
)

__all__ = [
    "AuthenticationError",
    "CredentialError",
    "FrameTooLarge",
    "HostError",
    "PoolBroken",
    "PoolError",
    "RemoteException",
    "TaskTimeout",
    "VersionMismatch",
    "WorkerLost",
]


class RemoteException(PoolError):
    """An error in a worker; ``str`` is its traceback there."""

    def __init__(self, text: str, type_name: str = "") -> None:
        super().__init__(text)
        self.type_name = type_name

    def __reduce__(self) -> tuple[object, ...]:
        return RemoteException, (str(self), self.type_name)


class HostError(PoolError):
    """A host could not be started, or was lost for good."""

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(f"{host}: {reason}")
        self.host = host
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        return HostError, (self.host, self.reason)


class PoolBroken(BrokenProcessPool):
    """The pool cannot go on; ``__cause__`` says why where there is a cause."""


class TaskTimeout(TimeoutError):
    """A task ran longer than its limit; its worker was killed and replaced. It is not retried."""


class WorkerLost(BrokenProcessPool):
    """A task's worker ended while the task was running, as often as it may be tried.

    ``host`` and ``pid`` name the last worker, ``exitcode`` how it ended (negative: the signal),
    ``attempts`` how often the task was started.
    """

    def __init__(
        self, host: str, pid: int, exitcode: int, attempts: int, reason: str = "", task: str = ""
    ) -> None:
        self.host = host
        self.pid = pid
        self.exitcode = exitcode
        self.attempts = attempts
        self.reason = reason
        self.task = task
        times = "once" if attempts == 1 else f"{attempts} times"
        super().__init__(
            f"{task or 'the task'} lost its worker: {describe_exit(exitcode, reason)} "
            f"(host {host}, pid {pid}; the task was started {times})"
        )

    def __reduce__(self) -> tuple[object, ...]:
        fields = (self.host, self.pid, self.exitcode, self.attempts, self.reason, self.task)
        return WorkerLost, fields


def describe_exit(exitcode: int, reason: str = "") -> str:
    """How a process ended, in words, with a hint at memory where that is likely."""
    if exitcode >= 0:
        text = f"it exited with code {exitcode}"
    else:
        try:
            name = signal.Signals(-exitcode).name
        except ValueError:
            name = f"signal {-exitcode}"
        text = f"it was ended by {name}"
    if reason == "memory":
        return f"{text}: the kernel killed it for want of memory"
    if exitcode == -signal.SIGKILL and not reason:
        return f"{text}; if nobody sent that, the kernel may have been short of memory"
    return f"{text} ({reason})" if reason else text
