"""How a worker process is made. Forked, it costs about 2 ms and 2 MB."""

import gc
import os
import signal
import sys
from typing import NamedTuple, NoReturn, Protocol

import cloudpickle  # noqa: F401 - loaded once here instead of once in each worker

from pool_worker import linux
from pool_worker.page import Page, Pages
from pool_worker.process import work
from pool_worker.settings import Settings


class Starter(Protocol):
    """Makes worker processes."""

    def start(self, number: int, slot: int) -> int:
        """The process id of a new worker whose page is ``slot``. Raises OSError."""


class Forker:
    """Makes workers as copies of this process."""

    def __init__(self, settings: Settings, pages: Pages) -> None:
        self._settings = settings
        self._pages = pages
        self._parent = os.getpid()
        self._signals = signal.valid_signals()
        # What is there now stays there: the collector of a copy must not touch it.
        gc.collect()
        gc.freeze()

    def start(self, number: int, slot: int) -> int:
        """See ``Starter``."""
        # Until the copy has its own handlers, a signal would run ours in it.
        signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)
        try:
            pid = os.fork()
            if not pid:
                become_worker(self._settings, Place(number, self._pages.fd, slot, self._parent))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
        return pid


class Place(NamedTuple):
    """Where a new process stands."""

    number: int
    pages: int
    """Descriptor of the pages' file."""
    slot: int
    parent: int
    """The supervisor's process id."""


def become_worker(settings: Settings, place: Place) -> NoReturn:
    """Turn this process, a new one, into a worker."""
    try:
        os.setsid()
        linux.die_with_parent(signal.SIGKILL)
        if os.getppid() != place.parent:
            os._exit(1)
        _reset_signals()
        page = Page(place.pages, place.slot)
        _take_descriptors(settings.stderr)
        line_buffered()
        work(settings, place.number, page)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    # Ctrl-C is the client's affair; it reaches every process of a terminal.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _take_descriptors(stderr: int | None) -> None:
    """Standard input from nowhere, standard error where it is wanted, and nothing else."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if stderr is not None and stderr != 2:
        os.dup2(stderr, 2)
    limit = os.sysconf("SC_OPEN_MAX")
    os.closerange(3, limit if limit > 0 else 65536)


def line_buffered() -> None:
    """What tasks print appears line by line."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)
