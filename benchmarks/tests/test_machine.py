"""The echo and the sleepers: whether they do what they are compared for."""

import os

import pytest

from benchmarks.machine import Echo, Sleepers, sleep_together


def test_the_echo_sends_back_and_ends() -> None:
    echo = Echo()
    echo.trip()
    echo.trip()
    echo.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(echo.pid, 0)


def test_sleepers_are_counted() -> None:
    assert sleep_together(2, 0.1) > 0


def test_sleepers_of_another_process() -> None:
    sleepers = Sleepers()
    assert sleepers.rate(2, 0.1) > 0
    sleepers.close()
    assert sleepers.process.returncode == 0
