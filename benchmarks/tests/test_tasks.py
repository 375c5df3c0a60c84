"""The functions that are run."""

import os

from benchmarks.tasks import closure, hold, identity, increment, nap


def test_tasks() -> None:
    assert increment(1) == closure()(1) == 2
    assert identity("value") == "value"
    assert hold(0) == os.getpid()
    nap(0)
