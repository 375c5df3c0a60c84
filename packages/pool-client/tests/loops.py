"""What the tests of links and listeners share: a loop that runs until something is so."""

import asyncio
import os
from collections.abc import Callable
from typing import Any, TypeVar

from link_model import Peer

T = TypeVar("T")

#: Seconds that anything may take here; it takes milliseconds, unless the machine is busy.
PATIENCE = 60


def until(loop: asyncio.AbstractEventLoop, condition: Callable[[], object]) -> None:
    """Run the loop until a condition holds."""

    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0.001)

    loop.run_until_complete(asyncio.wait_for(wait(), PATIENCE))


def in_thread(loop: asyncio.AbstractEventLoop, function: Callable[..., T], *args: Any) -> T:
    """Run the loop while a function runs in a thread; its result."""
    running = loop.run_in_executor(None, function, *args)
    return loop.run_until_complete(asyncio.wait_for(running, PATIENCE))


def greet(
    loop: asyncio.AbstractEventLoop, dial: Callable[..., Peer], *address: Any, **settings: Any
) -> Peer:
    """Dial while the loop runs; a peer after its handshake. One that is refused is closed."""

    def run() -> Peer:
        peer = dial(*address, **settings)
        try:
            peer.shake_hands()
        except BaseException:
            peer.close()
            raise
        return peer

    return in_thread(loop, run)


def holds_in_child(check: Callable[[], object]) -> bool:
    """Call a function in a forked child; whether it returned something true there."""
    child = os.fork()
    if not child:
        code = 2
        try:
            code = 0 if check() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
