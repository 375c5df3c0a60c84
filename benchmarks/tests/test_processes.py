"""What /proc says about this process."""

import os
import subprocess
import sys

from benchmarks.processes import own_processor_time, processor_time, resident, unshared


def test_memory_of_this_process() -> None:
    # The kernel adds up the two in ways of which one is not exact.
    assert 1 < unshared(os.getpid()) < 2 * resident()


def test_memory_that_is_taken_is_seen() -> None:
    before = unshared(os.getpid())
    block = b"x" * 50_000_000
    assert unshared(os.getpid()) - before > 40
    del block


def test_work_takes_processor_time() -> None:
    before = own_processor_time()
    sum(range(3_000_000))
    assert own_processor_time() > before
    # In a process of its own: threads of this one may end, and take their time with them.
    script = "sum(range(3_000_000)); print(flush=True); input()"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert processor_time(child.pid) > 0.005
        child.communicate(b"\n")
