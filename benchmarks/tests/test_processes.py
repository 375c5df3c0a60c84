"""What /proc says about this process."""

import os

from benchmarks.processes import own_processor_time, processor_time, resident, unshared


def test_memory_of_this_process() -> None:
    assert 1 < unshared(os.getpid()) <= resident() + 1


def test_memory_that_is_taken_is_seen() -> None:
    before = unshared(os.getpid())
    block = b"x" * 50_000_000
    assert unshared(os.getpid()) - before > 40
    del block


def test_work_takes_processor_time() -> None:
    before, ours = processor_time(os.getpid()), own_processor_time()
    sum(range(3_000_000))
    assert processor_time(os.getpid()) > before
    assert own_processor_time() > ours
