"""The log of those who were turned away."""

import logging

import pytest

from pool_client.links import refusals as refusals_module
from pool_client.links.refusals import Refusals


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(refusals_module, "time", clock)
    return clock


def lines(caplog):
    return [record.getMessage() for record in caplog.records]


def test_the_first_is_told_at_once(caplog, clock):
    refusals = Refusals()
    with caplog.at_level(logging.WARNING, "pool_client"):
        refusals.note("192.0.2.9", ValueError("nonsense"))
        refusals.note("", "again")
    assert lines(caplog) == ["refused a connection from 192.0.2.9: nonsense"]


def test_a_thousand_are_one_line_and_a_count(caplog, clock):
    refusals = Refusals()
    for _ in range(1000):
        refusals.note("192.0.2.9", "nonsense")
    clock.now += refusals_module.INTERVAL
    refusals.note("", "other nonsense")
    clock.now += refusals_module.INTERVAL
    refusals.note("", "the last")
    assert lines(caplog) == [
        "refused a connection from 192.0.2.9: nonsense",
        "refused a connection: other nonsense (and 999 more since the last such line)",
        "refused a connection: the last",
    ]
