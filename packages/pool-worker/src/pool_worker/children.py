"""The worker processes of a supervisor: started, stopped for a look, killed, reaped.

Whatever a worker leaves behind is killed with it: its process group, and the orphans that the
kernel hands to us (we are their subreaper) unless they belong to a living worker's session.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass

from pool_protocol.messages import Lost, Recalled
from pool_worker import linux
from pool_worker.memory import OutOfMemory
from pool_worker.outputs import Outputs
from pool_worker.page import Pages
from pool_worker.starting import Starter

#: How long to wait for a worker to stop, in seconds: in a system call that nothing interrupts, or
#: ready to run, for it stops only once it has a CPU.
STOP_WAIT = 0.05
CPU_WAIT = 1.0


@dataclass(slots=True)
class Child:
    """A worker process."""

    number: int
    pid: int
    slot: int
    reason: str = ""
    """Why we killed it, if we did."""


class Children:
    """Every worker process, by its number. What they print goes to ``outputs``, if given."""

    def __init__(self, starter: Starter, pages: Pages, outputs: Outputs | None = None) -> None:
        self._starter = starter
        self._outputs = outputs
        self._pages = pages
        self._memory = OutOfMemory()
        self._by_number: dict[int, Child] = {}
        self._by_pid: dict[int, Child] = {}
        #: Orphans that we killed: what they leave behind is left to us in turn.
        self._doomed: set[int] = set()

    def __repr__(self) -> str:
        return f"<Children {sorted(self._by_number)}>"

    def __len__(self) -> int:
        return len(self._by_pid)

    def start(self, number: int) -> Lost | None:
        """Start a worker; a ``Lost`` if that cannot be done."""
        if number in self._by_number:
            return None
        slot = None
        try:
            slot = self._pages.take()
            with self._outputs.pipes(number) if self._outputs else nullcontext() as ends:
                pid = self._starter.start(number, slot, ends)
        except OSError as error:
            if slot is not None:
                self._pages.give_back(slot)
            return Lost(number, 0, 0, 0, 0, f"could not be started: {error}")
        self._by_number[number] = self._by_pid[pid] = Child(number, pid, slot)
        return None

    def kill(self, number: int, reason: str = "killed") -> None:
        """End a worker now; a ``Lost`` with the reason follows when it is reaped."""
        child = self._by_number.get(number)
        if child is not None:
            child.reason = child.reason or reason
            _kill(child.pid)

    # -- ends

    def reap(self) -> list[Lost]:
        """Take note of those that have ended, and end what they left behind."""
        lost = []
        orphaned = False
        while (ended := _reap_one(self._kill_group_of)) is not None:
            pid, status = ended
            child = self._by_pid.pop(pid, None)
            if child is not None:
                lost.append(self._bury(child, os.waitstatus_to_exitcode(status)))
            orphaned = orphaned or child is not None or pid in self._doomed
            self._doomed.discard(pid)
        if orphaned:
            self.kill_orphans()
        return lost

    def _kill_group_of(self, pid: int) -> None:
        if pid in self._by_pid:
            _kill_group(pid)

    def _bury(self, child: Child, exitcode: int) -> Lost:
        del self._by_number[child.number]
        if self._outputs is not None:
            self._outputs.finish(child.number)
        words = self._pages.read(child.slot)
        blob = self._pages.gathered(child.slot, words)
        self._pages.give_back(child.slot)
        reason = child.reason
        if exitcode == -signal.SIGKILL and not reason and self._memory.killed():
            reason = "memory"
        return Lost(child.number, child.pid, exitcode, words.running, words.item, reason, blob)

    def kill_orphans(self) -> bool:
        """Kill what was left to us and belongs to no living worker; True if there was any."""
        strangers = [pid for pid in linux.children() if pid not in self._by_pid]
        found = False
        for pid in strangers:
            state, session = linux.state_and_session(pid)
            if state and state != "Z" and session not in self._by_pid:
                found = True
                self._doomed.add(pid)
                _kill_group(pid)
                _kill(pid)
        return found

    def end(self, patience: float = 10.0) -> None:
        """Kill everything and wait for it, at most ``patience`` seconds."""
        for child in list(self._by_pid.values()):
            _kill(child.pid)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            self.reap()
            if not self._by_pid and not self.kill_orphans():
                return
            time.sleep(0.002)

    def close(self) -> None:
        """Let go of the pages."""
        self._pages.close()

    # -- looks

    def recall(self, number: int, last: int) -> Recalled | None:
        """Let a worker start nothing more of what was sent up to ``last``.

        None for a worker that is not there; ``last`` is 0 in the answer if it could not be done.
        """
        child = self._by_number.get(number)
        if child is None:
            return None
        with _stopped(child.pid) as stopped:
            if not stopped:
                return Recalled(number, 0, 0)
            words = self._pages.read(child.slot)
            # What was taken back before stays taken back.
            self._pages.mark(child.slot, words.last_started, max(words.skip_to, last))
            blob = self._pages.gathered(child.slot, words)
        return Recalled(number, words.last_started, last, blob)

    def check_limits(self) -> None:
        """Kill the workers whose call has run past its limit."""
        now = time.monotonic_ns()
        for child in list(self._by_pid.values()):
            seen = self._pages.read(child.slot)
            if not seen.overdue(now) or child.reason:
                continue
            with _stopped(child.pid) as stopped:
                words = self._pages.read(child.slot)
                same = (words.running, words.item) == (seen.started, seen.item)
                if stopped and same and words.overdue(now):
                    self.kill(child.number, "timeout")


def _reap_one(before: Callable[[int], None]) -> tuple[int, int] | None:
    """Reap a child that has ended: its id and its status.

    ``before`` is called while nothing else can have got the id, where the system allows that.
    """
    try:
        if not hasattr(os, "waitid"):
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return None
            before(pid)
            return pid, status
        result = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if result is None:
            return None
        before(result.si_pid)
        return os.waitpid(result.si_pid, 0)
    except ChildProcessError:
        return None


def _kill(pid: int, number: int = signal.SIGKILL) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


@contextmanager
def _stopped(pid: int) -> Iterator[bool]:
    """Stop a process for a look at its page; gives whether it has stopped.

    A process that somebody else had stopped stays so.
    """
    if linux.state_and_session(pid)[0] in ("T", "t"):
        yield True
        return
    _kill(pid, signal.SIGSTOP)
    try:
        yield _has_stopped(pid)
    finally:
        _kill(pid, signal.SIGCONT)


def _has_stopped(pid: int) -> bool:
    began = time.monotonic()
    pause = 0.00002
    while True:
        state = linux.state_and_session(pid)[0]
        if state in ("T", "t"):
            return True
        waited = time.monotonic() - began
        if state in ("", "Z", "X") or waited > (STOP_WAIT if state == "D" else CPU_WAIT):
            return False
        time.sleep(pause)
        pause = min(2 * pause, 0.001)
