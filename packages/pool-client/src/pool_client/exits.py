"""What happens to open pools when the interpreter exits or forks."""

import atexit
import logging
import os
import sys
import threading
import weakref
from typing import Protocol

logger = logging.getLogger("pool_client")


class Closable(Protocol):
    """What a pool's core can do at such times."""

    def at_exit(self, interrupted: bool) -> None:
        """Finish what was submitted, or after a Ctrl-C what has begun, then end."""

    def after_fork(self) -> None:
        """This is the copy in a forked child: let go, and refuse to work."""


_open: "weakref.WeakSet[Closable]" = weakref.WeakSet()


def register(core: Closable) -> None:
    """From now on, look after a pool."""
    _open.add(core)


def forget(core: Closable) -> None:
    """The pool is closed."""
    _open.discard(core)


def _at_exit() -> None:
    interrupted = _was_interrupted()
    for core in list(_open):
        try:
            core.at_exit(interrupted)
        except Exception:  # the others shall end too
            logger.exception("a pool could not be ended at the interpreter's exit")


def _was_interrupted() -> bool:
    """Does the interpreter exit for a Ctrl-C? At a prompt the last error says nothing of that."""
    return getattr(sys, "last_type", None) is KeyboardInterrupt and not hasattr(sys, "ps1")


def _after_fork() -> None:
    for core in list(_open):
        try:
            core.after_fork()
        except Exception:
            logger.exception("the copy of a pool in a forked child could not be let go")
    # The child's own exit must not wait for the parent's engines, whose threads it does not have.
    _open.clear()


# As concurrent.futures does: before the interpreter joins its threads, when new threads and
# callbacks still work. atexit itself would come too late for pending tasks.
_hook = getattr(threading, "_register_atexit", atexit.register)
_hook(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
