"""The event loops on which asynchronous tasks can run.

Nothing of asyncio is loaded before a loop is made, unless a loop was asked for by name.
"""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pool_protocol import LoopType

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop


def loop_maker(kind: LoopType) -> "Callable[[], AbstractEventLoop]":
    """What makes a loop of this kind. Raises RuntimeError or ImportError, naming what it needs."""
    if kind is LoopType.proactor and sys.platform != "win32":
        raise RuntimeError("the proactor event loop needs Windows")
    if kind is LoopType.uvloop:
        _need("uvloop", "uvloop")
    if kind is LoopType.qt:
        _need("qasync", "qasync and a Qt binding such as PySide6")

    def make() -> "AbstractEventLoop":
        _hold_standard_streams()
        return _MAKERS[kind]()

    return make


def _hold_standard_streams() -> None:
    """Let no descriptor of a loop be one of the first three, which a task has closed.

    The next task may do so too. Besides, libuv ends a process in which it closes one of them.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # the lowest that is free
        pass
    os.close(descriptor)


def _need(module: str, what: str) -> None:
    try:
        import_module(module)
    except ImportError as error:
        raise ImportError(
            f"the {module} event loop needs {what}: pip install {what.split()[0]} ({error})"
        ) from error


def _default() -> "AbstractEventLoop":
    try:
        return _uvloop()
    except ImportError:
        return _asyncio()


def _asyncio() -> "AbstractEventLoop":
    import asyncio

    if sys.platform == "win32":
        # The proactor has no add_reader, which the connection needs.
        return asyncio.SelectorEventLoop()
    return asyncio.new_event_loop()


def _uvloop() -> "AbstractEventLoop":
    import uvloop

    loop: AbstractEventLoop = uvloop.new_event_loop()
    return loop


def _proactor() -> "AbstractEventLoop":
    import asyncio

    maker: Any = getattr(asyncio, "ProactorEventLoop")  # noqa: B009 - exists on Windows only
    loop: AbstractEventLoop = maker()
    return loop


def _qt() -> "AbstractEventLoop":
    import qasync

    application = qasync.QApplication.instance() or qasync.QApplication(sys.argv[:1])
    loop: AbstractEventLoop = qasync.QEventLoop(application)
    return loop


_MAKERS: "dict[LoopType, Callable[[], AbstractEventLoop]]" = {
    LoopType.default: _default,
    LoopType.asyncio: _asyncio,
    LoopType.uvloop: _uvloop,
    LoopType.proactor: _proactor,
    LoopType.qt: _qt,
}
