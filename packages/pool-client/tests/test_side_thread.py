"""A thread that is there only while there is something to do."""

import threading
from concurrent.futures import wait

import pytest
from support import run_script, wait_until

from pool_client.side_thread import SideThread


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_in_order_and_in_one_thread() -> None:
    """One thing after another, all in the same thread, which is not the caller's."""
    side = SideThread("test-side")
    done: list[tuple[int, int]] = []
    futures = [
        side.submit(lambda n=n: done.append((n, threading.get_ident()))) for n in range(1000)
    ]
    side.close()
    wait(futures, 30)
    assert [number for number, _ in done] == list(range(1000))
    assert threading.get_ident() not in {thread for _, thread in done}


def test_results_and_errors() -> None:
    """A function's value and its error go to its own future."""
    side = SideThread("test-side")
    assert side.submit(divmod, 7, 2).result(30) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        side.submit(divmod, 7, 0).result(30)
    assert side.submit(abs, -1).result(30) == 1
    side.close()


def test_no_thread_before_and_after() -> None:
    """It begins with the first thing to do, and ends when there is no more for a while."""
    side = SideThread("test-side", linger=0.01)
    assert "test-side" not in names()
    assert side.submit(names).result(30).count("test-side") == 1
    wait_until(lambda: "test-side" not in names())
    assert side.submit(names).result(30).count("test-side") == 1
    wait_until(lambda: "test-side" not in names())


def test_close_ends_the_lingering() -> None:
    """A closed one does what it has to, and its thread goes at once."""
    side = SideThread("test-side", linger=1000)
    for number in range(3):
        assert side.submit(abs, -number).result(30) == number
    side.close()
    wait_until(lambda: "test-side" not in names())
    assert side.submit(abs, -2).result(30) == 2
    wait_until(lambda: "test-side" not in names())


def test_cancelled_in_the_queue() -> None:
    """What is cancelled before its turn is not done."""
    side = SideThread("test-side")
    gate = threading.Event()
    side.submit(gate.wait, 30)
    done: list[int] = []
    unwanted = side.submit(done.append, 1)
    assert "jobs" in repr(side)
    assert unwanted.cancel()
    last = side.submit(done.append, 2)
    gate.set()
    last.result(30)
    assert done == [2]
    side.close()


def test_many_threads_ask() -> None:
    """Nothing is lost where the thread ends while others ask for more."""
    side = SideThread("test-side", linger=0)
    done: list[int] = []

    def ask(start: int) -> None:
        for number in range(start, start + 300):
            side.submit(done.append, number).result(30)

    threads = [threading.Thread(target=ask, args=(start,)) for start in (0, 1000, 2000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == [*range(300), *range(1000, 1300), *range(2000, 2300)]


def test_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit of threads it is done all the same; later there is a thread again."""
    side = SideThread("test-side")
    with monkeypatch.context() as patch:

        def fail(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", fail)
        assert side.submit(threading.get_ident).result(0) == threading.get_ident()
    assert side.submit(threading.get_ident).result(30) != threading.get_ident()
    side.close()


def test_exit_waits_for_what_is_to_be_done() -> None:
    """The interpreter's end does not cut anything off."""
    script = """
        import time
        from pool_client.side_thread import SideThread
        side = SideThread("side")
        side.submit(time.sleep, 0.2)
        side.submit(print, "done")
    """
    assert run_script(script).stdout == "done\n"
