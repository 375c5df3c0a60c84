"""A loop in a thread of its own."""

import asyncio
import subprocess
import sys
import threading

import pytest

from pool_client import loop_thread
from pool_client.loop_thread import LoopThread, new_loop


def call(thread, coroutine):
    return asyncio.run_coroutine_threadsafe(coroutine, thread.loop).result(20)


def test_it_runs_what_it_is_given_until_it_is_stopped():
    thread = LoopThread("a loop")

    async def where():
        return threading.get_ident(), threading.current_thread().name, asyncio.get_running_loop()

    assert call(thread, where()) == (thread.ident, "a loop", thread.loop)
    thread.stop()
    assert thread.loop.is_closed()
    assert "a loop" not in {one.name for one in threading.enumerate()}
    thread.stop()


def test_it_does_not_keep_the_interpreter_alive():
    thread = LoopThread("a loop")
    assert thread._thread.daemon
    thread.stop()


def test_it_can_stop_itself():
    thread = LoopThread("a loop")
    thread.loop.call_soon_threadsafe(thread.stop)
    thread._thread.join(20)
    assert not thread._thread.is_alive()
    assert thread.loop.is_closed()


@pytest.mark.parametrize("wish", [SystemExit(3), KeyboardInterrupt()])
def test_user_code_that_wants_to_exit_does_not_end_it(wish, caplog):
    thread = LoopThread("a loop")

    async def leave():
        raise wish

    with pytest.raises(type(wish)):
        call(thread, leave())
    assert call(thread, asyncio.sleep(0, "still there")) == "still there"
    thread.stop()
    assert "has asked for the program's end" in caplog.text


def test_user_code_that_stops_the_loop_does_not_end_it():
    thread = LoopThread("a loop")
    thread.loop.call_soon_threadsafe(thread.loop.stop)
    assert call(thread, asyncio.sleep(0, "still there")) == "still there"
    thread.stop()
    assert thread.loop.is_closed()


@pytest.mark.parametrize("stubborn", [False, True])
def test_what_else_runs_on_it_is_cancelled_and_not_waited_for_for_ever(
    stubborn, monkeypatch, caplog
):
    monkeypatch.setattr(loop_thread, "_PATIENCE", 0.05 if stubborn else 60)
    thread = LoopThread("a loop")
    begun, released = threading.Event(), threading.Event()

    async def wait():
        begun.set()
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if released.is_set() or not stubborn:
                    raise

    future = asyncio.run_coroutine_threadsafe(wait(), thread.loop)
    assert begun.wait(60)
    call(thread, thread.cancel_others())
    assert ("not waiting for what cannot be cancelled" in caplog.text) is stubborn
    assert future.done() is not stubborn
    released.set()
    call(thread, thread.cancel_others())
    thread.stop()


@pytest.mark.parametrize("trouble", [RuntimeError("can't start new thread"), KeyboardInterrupt()])
def test_a_start_that_fails_leaves_nothing(monkeypatch, trouble):
    started, loops = [], []

    def start(thread, begin=threading.Thread.start):
        if isinstance(trouble, KeyboardInterrupt):
            begin(thread)
            started.append(thread)
        raise trouble

    def make():
        loops.append(new_loop())
        return loops[0]

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        patch.setattr("pool_client.loop_thread.new_loop", make)
        with pytest.raises(type(trouble)):
            LoopThread("a loop")
    for thread in started:
        thread.join(60)
    assert loops[0].is_closed()


def test_uvloop_is_taken_where_it_is():
    uvloop = pytest.importorskip("uvloop")
    loop = new_loop()
    assert isinstance(loop, uvloop.Loop)
    loop.close()


@pytest.mark.parametrize("closed", ["0", "1", "2", "0, 1, 2"])
def test_a_process_without_standard_streams(closed):
    """libuv ends a process that closes one of the first three descriptors."""
    program = (
        "import os\n"
        f"for descriptor in ({closed},): os.close(descriptor)\n"
        "from pool_client.loop_thread import LoopThread\n"
        "thread = LoopThread('a loop')\n"
        "thread.stop()\n"
        "os._exit(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 7


@pytest.mark.parametrize("platform", ["win32", sys.platform])
def test_otherwise_a_loop_that_can_watch_descriptors(monkeypatch, platform):
    monkeypatch.setitem(sys.modules, "uvloop", None)
    monkeypatch.setattr(sys, "platform", platform)
    loop = new_loop()
    assert isinstance(loop, asyncio.SelectorEventLoop)
    loop.close()
