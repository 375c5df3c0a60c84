"""A thread with an event loop of its own, for pools that no running loop carries."""

import asyncio
import contextlib
import logging
import os
import sys
import threading

logger = logging.getLogger("pool_client")

#: Seconds for what runs on the loop to end after it was cancelled.
_PATIENCE = 5.0


def new_loop() -> asyncio.AbstractEventLoop:
    """uvloop where it is installed, else asyncio's selector loop, which can watch descriptors.

    libuv ends a process in which it has got one of the first three descriptors and closes it.
    """
    if sys.platform == "win32" or not _has_standard_streams():
        return asyncio.SelectorEventLoop()
    with contextlib.suppress(ImportError):
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        return loop
    return asyncio.SelectorEventLoop()


def _has_standard_streams() -> bool:
    """False in a process, such as a daemon, that has closed one of descriptors 0 to 2."""
    try:
        for descriptor in range(3):
            os.fstat(descriptor)
    except OSError:
        return False
    return True


class LoopThread:
    """Runs a new loop until ``stop``. A daemon: the pool's exit hook ends it in good order.

    Nothing else ends it, whatever user code does on the loop, where inputs of maps may be read.
    """

    def __init__(self, name: str) -> None:
        self.loop = new_loop()
        self._over = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no thread can be had
            self.loop.close()
            raise
        except BaseException:  # Ctrl-C, while it starts
            self.loop.call_soon_threadsafe(self.end)
            raise

    @property
    def ident(self) -> int | None:
        """The thread's identifier."""
        return self._thread.ident

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            while not self._over:
                try:
                    self.loop.run_forever()
                except (SystemExit, KeyboardInterrupt) as error:  # a loop passes these on
                    text = "user code on the loop of a pool has asked for the program's end"
                    self.loop.call_exception_handler({"message": text, "exception": error})
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()

    async def cancel_others(self) -> None:
        """Cancel what else runs on the loop, such as inputs of maps that nobody reads any more."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            _, stubborn = await asyncio.wait(others, timeout=_PATIENCE)
            for task in stubborn:
                logger.warning("not waiting for what cannot be cancelled: %r", task)

    def end(self) -> None:
        """End the loop with this turn. In its thread only."""
        self._over = True
        self.loop.stop()

    def stop(self) -> None:
        """End the loop, and wait for the thread unless this is it."""
        with contextlib.suppress(RuntimeError):  # stopped before
            self.loop.call_soon_threadsafe(self.end)
        if threading.current_thread() is not self._thread:
            self._thread.join()
