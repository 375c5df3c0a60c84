"""Whether a host in trouble is tried again, given up, or takes the pool with it."""

import itertools
from dataclasses import replace

import pytest

from pool_client.hosts.perseverance import MAX_FAILURES, Advice, Trouble, advise, backoff

TROUBLE = Trouble(failures=1, unreachable=False, others=False, alone=0.0, listens=False)
PATIENCE = 30.0


def advice(**given):
    return advise(replace(TROUBLE, **given), PATIENCE)


def test_the_first_failures_are_forgiven():
    for failures in range(1, MAX_FAILURES):
        for others in (False, True):
            assert advice(failures=failures, others=others) is Advice.AGAIN


def test_a_host_that_never_works_is_given_up():
    assert advice(failures=MAX_FAILURES, others=True) is Advice.DROP
    assert advice(failures=MAX_FAILURES + 1, others=True) is Advice.DROP


def test_the_last_host_takes_the_pool_with_it():
    assert advice(failures=MAX_FAILURES) is Advice.BREAK


@pytest.mark.parametrize("failures", [1, MAX_FAILURES, 10_000])
def test_a_machine_out_of_reach_is_tried_for_as_long_as_others_work(failures):
    away = {"unreachable": True, "failures": failures}
    assert advice(**away, others=True, alone=1000.0) is Advice.AGAIN


def test_alone_it_is_tried_for_a_while():
    away = {"unreachable": True, "failures": 100}
    assert advice(**away, alone=PATIENCE - 1) is Advice.AGAIN
    assert advice(**away, alone=PATIENCE) is Advice.BREAK


def test_a_pool_that_listens_waits_for_others():
    assert advice(unreachable=True, failures=100, alone=1000.0, listens=True) is Advice.AGAIN
    assert advice(failures=MAX_FAILURES, alone=1000.0, listens=True) is Advice.DROP


def test_backoff():
    """The first start is at once; then the waits double, up to a bound."""
    waits = [backoff(failures) for failures in range(3000)]
    assert waits[:4] == [0, 0.05, 0.1, 0.2]
    assert all(one <= other for one, other in itertools.pairwise(waits))
    assert waits[-1] == max(waits) == 5.0
