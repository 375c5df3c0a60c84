"""How a worker process is made. Forked, it costs about 2 ms and 2 MB."""

import gc
import os
import signal
import sys
from contextlib import suppress
from importlib import import_module
from typing import NamedTuple, NoReturn, Protocol, TextIO

import cloudpickle  # noqa: F401 - loaded once here instead of once in each worker

from pool_worker import limits, linux
from pool_worker.outputs import Ends
from pool_worker.page import Page, Pages
from pool_worker.process import connect, work
from pool_worker.settings import Settings

#: So many descriptors are closed without a look at which there are.
MANY_DESCRIPTORS = 65536


class Starter(Protocol):
    """Makes worker processes."""

    def start(self, number: int, slot: int, ends: Ends | None) -> int:
        """The process id of a new worker whose page is ``slot``, and which prints into ``ends``.

        Raises OSError.
        """


class Forker:
    """Makes workers as copies of this process."""

    def __init__(self, settings: Settings, pages: Pages) -> None:
        self._settings = settings
        self._pages = pages
        self._parent = os.getpid()
        self._signals = signal.valid_signals()
        if settings.modules:
            # Loaded once here instead of once in each worker.
            import_module("pool_worker.remote_modules")
        # What is there now stays there: the collector of a copy must not touch it.
        gc.collect()
        gc.freeze()

    def start(self, number: int, slot: int, ends: Ends | None) -> int:
        """See ``Starter``."""
        # Until the copy has its own handlers, a signal would run ours in it.
        signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)
        try:
            pid = os.fork()
            if not pid:
                place = Place(number, self._pages.fd, slot, self._parent, *(ends or ()))
                become_worker(self._settings, place)
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
    out: int = -1
    err: int = -1
    """What it prints goes here once it is connected; -1: where the supervisor's goes."""


def become_worker(settings: Settings, place: Place) -> NoReturn:
    """Turn this process, a new one, into a worker."""
    try:
        os.setsid()
        linux.die_with_parent(signal.SIGKILL)
        if os.getppid() != place.parent:
            os._exit(1)
        _reset_signals()
        page = Page(place.pages, place.slot)
        _take_descriptors(settings.stderr, (place.out, place.err))
        limits.restore()
        line_buffered()
        channel = connect(settings, place.number)
        if place.out >= 0:
            _print_into(place.out, place.err)
        if settings.modules:
            from pool_worker import remote_modules

            remote_modules.install(settings, place.number)
        work(channel, page)
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


def _take_descriptors(stderr: int | None, kept: tuple[int, ...]) -> None:
    """Standard input from nowhere, standard error where it is wanted, and nothing else."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if stderr is not None and stderr != 2:
        os.dup2(stderr, 2)
    first = 3
    for descriptor in sorted(kept):
        if descriptor >= first:
            os.closerange(first, descriptor)
            first = descriptor + 1
    os.closerange(first, _end_of_descriptors())


def _end_of_descriptors() -> int:
    """No open descriptor has this number, or a higher one.

    There may be a billion, and where the system cannot close them in one go, Python tries each.
    """
    limit = os.sysconf("SC_OPEN_MAX")
    if 0 < limit <= MANY_DESCRIPTORS:
        return limit
    for folder in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            return max(map(int, os.listdir(folder))) + 1
    return MANY_DESCRIPTORS


def line_buffered() -> None:
    """What tasks print appears line by line."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)


def _print_into(out: int, err: int) -> None:
    """From here on, what is printed is the client's; what came before was the launcher's."""
    for descriptor, number in ((out, 1), (err, 2)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    # The old ones may believe that they write to a file. The client is told bytes, and nothing
    # else about them: hence UTF-8, whatever is usual here.
    sys.stdout = _stream(1)
    sys.stderr = _stream(2)


def _stream(descriptor: int) -> TextIO:
    errors = "backslashreplace"
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors=errors, closefd=False)
