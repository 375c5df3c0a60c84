"""The arithmetic of the scheduler: what it must keep to, whatever its constants are."""

import math

from hypothesis import given
from hypothesis import strategies as st

from pool_client.scheduling import policy

NANOS = st.floats(0, 1e12)
MEANS = st.none() | NANOS
COUNTS = st.integers(0, 1_000_000)


def test_estimate_begins_unknown_and_takes_the_first_sample_as_it_is():
    estimate = policy.Estimate()
    assert estimate.mean is None
    estimate.add(1000)
    assert estimate.mean == 1000


def test_estimate_follows_slowly():
    estimate = policy.Estimate()
    estimate.add(1000)
    estimate.add(1_000_000)
    assert 1000 < estimate.mean < 500_000
    for _ in range(200):
        estimate.add(1_000_000)
    assert estimate.mean > 990_000


@given(st.lists(st.floats(0, 1e12), min_size=1))
def test_estimate_stays_within_its_samples(samples):
    estimate = policy.Estimate()
    for sample in samples:
        estimate.add(sample)
    slack = 1e-6 * max(samples)
    assert min(samples) - slack <= estimate.mean <= max(samples) + slack


def test_a_chunk_counts_for_as_many_calls_as_it_has():
    single, chunked = policy.Estimate(), policy.Estimate()
    for estimate in (single, chunked):
        estimate.add(100)
    for _ in range(50):
        single.add(1000)
    chunked.add(50_000, 50)
    assert abs(single.mean - chunked.mean) < 1


def test_a_call_that_goes_on_only_ever_raises_the_estimate():
    estimate = policy.Estimate()
    estimate.at_least(500)
    assert estimate.mean == 500
    estimate.at_least(100)
    assert estimate.mean == 500
    estimate.at_least(5000)
    assert estimate.mean > 500


def test_round_trip_leaves_out_what_the_worker_was_busy_with():
    trip = policy.RoundTrip()
    trip.sent(first=1, now=1000, busy=0)
    trip.received(last=1, now=9000, busy=8000)
    assert trip.mean == 0
    trip.sent(first=2, now=10_000, busy=8000)
    trip.received(last=2, now=14_000, busy=8000)
    assert 0 < trip.mean <= 4000


def test_round_trip_has_one_probe_at_a_time():
    trip = policy.RoundTrip()
    trip.sent(first=1, now=0, busy=0)
    trip.sent(first=5, now=1_000_000, busy=0)
    trip.received(last=0, now=5_000_000, busy=0)
    assert trip.mean == 0, "an answer to something older says nothing"
    trip.received(last=3, now=4000, busy=0)
    known = trip.mean
    assert known == 1000
    trip.received(last=5, now=9_000_000, busy=0)
    assert trip.mean == known, "the second write was not timed"


def test_a_forgotten_probe_is_not_counted():
    trip = policy.RoundTrip()
    trip.sent(first=1, now=0, busy=0)
    trip.forget()
    trip.received(last=1, now=10**9, busy=0)
    assert trip.mean == 0
    trip.sent(first=2, now=10**9, busy=0)
    trip.received(last=2, now=10**9 + 400, busy=0)
    assert trip.mean == 100


def test_work_that_was_done_meanwhile_does_not_hide_the_way():
    trip = policy.RoundTrip()
    for task in range(1, 50):
        now = 100_000_000 * task
        trip.sent(first=task, now=now, busy=now)
        trip.received(last=task, now=now + 40_000_000, busy=now + 40_000_000, delay=4e7)
    assert trip.least == 4e7
    assert trip.goal > 7e7, "the next half is there before the first is done"


def test_a_line_with_a_delay_carries_more_bytes():
    assert policy.byte_limits(0) == (policy.LARGE_BYTES, policy.MAX_BYTES)
    large, most = policy.byte_limits(40_000_000)
    assert policy.LARGE_BYTES < large < most / 2, "one is never alone in the worker's hands"
    assert most == policy.MAX_BYTES + 10_000_000, "250 MB/s for 40 ms"
    large, most = policy.byte_limits(100_000)
    assert large < 1.2 * policy.LARGE_BYTES, "nothing changes on a local network"


def test_round_trip_is_never_negative():
    trip = policy.RoundTrip()
    trip.sent(first=1, now=1000, busy=0)
    trip.received(last=1, now=1001, busy=10**9)
    assert trip.mean == 0


@given(NANOS, NANOS)
def test_the_target_covers_the_round_trip_and_grows_with_it(shorter, longer):
    shorter, longer = sorted((shorter, longer))
    assert policy.target(shorter, shorter) <= policy.target(longer, longer)
    assert policy.target(longer, longer) >= max(policy.FLOOR_NS, longer)
    assert policy.target(longer, shorter) <= max(policy.CEILING_NS, 2 * shorter)


@given(NANOS, MEANS, st.integers(1, 1000))
def test_a_given_qsize_is_kept_to_whatever_the_work(goal, mean, qsize):
    assert policy.limits(goal, mean, qsize) == (qsize, math.inf)


@given(NANOS)
def test_nothing_queues_behind_a_function_of_unknown_length(goal):
    assert policy.limits(goal, None, None)[0] == 1


def test_adaptive_room_ends_with_the_work_and_with_the_count():
    assert policy.limits(100.0, 5.0, None) == (policy.MAX_TASKS, 100.0)
    assert policy.limits(100.0, 0.0, None) == (policy.MAX_TASKS, 100.0)


@given(MEANS, COUNTS, COUNTS)
def test_a_batch_is_never_empty_and_unknown_functions_go_one_by_one(mean, waiting, idle):
    limit = policy.batch_limit(mean, waiting, idle)
    assert limit >= 1
    if mean is None:
        assert limit == 1


def test_long_tasks_are_dealt_out_evenly_and_tiny_ones_together():
    second = 1e9
    assert policy.batch_limit(second, waiting=4, idle=8) == 1
    assert policy.batch_limit(second, waiting=80, idle=8) == 10
    assert policy.batch_limit(100.0, waiting=4, idle=8) > 100
    assert policy.batch_limit(0.0, waiting=0, idle=0) >= 100


def test_silence_is_measured_against_the_work():
    quiet = policy.SILENCE_NS
    assert not policy.silent_since(0, 0.0, 0.0, now=quiet)
    assert policy.silent_since(0, 0.0, 0.0, now=quiet + 1)
    assert not policy.silent_since(0, 1e9, 0.0, now=10 * quiet)
    assert not policy.silent_since(0, 0.0, 1e9, now=10 * quiet)
    assert policy.silent_since(0, 1e9, 1e9, now=10**11)
