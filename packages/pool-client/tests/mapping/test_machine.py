"""A map under anything that can happen: every result once, in order, never read too far."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mapping.hand import Clock, double
from pool_client.mapping.chunking import Policy
from pool_client.mapping.feed import Feed
from pool_client.mapping.flow import Flow
from pool_client.mapping.taking import Failure, Taker
from pool_client.testing import FakeChunks


def place_of(value: Any) -> Any:
    """Return a result; for an error what the result would have been."""
    if not isinstance(value, Failure):
        return value
    with pytest.raises(ValueError) as caught:
        value.throw()
    return 2 * caught.value.args[0]


sizes = st.none() | st.integers(1, 12)


class MapMachine(RuleBasedStateMachine):
    """One map with sync inputs; the engine finishes chunks in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[Any] = []
        self.error: BaseException | None = None
        self.over = False
        self.woken = True
        self.read = 0

    @initialize(
        chunksize=sizes,
        buffersize=sizes,
        single=st.booleans(),
        ordered=st.booleans(),
        length=st.integers(0, 400),
        known=st.booleans(),
        failing=st.sets(st.integers(0, 400), max_size=2),
        breaks=st.booleans(),
        workers=st.integers(1, 4),
    )
    def begin(
        self,
        chunksize: int | None,
        buffersize: int | None,
        single: bool,
        ordered: bool,
        length: int,
        known: bool,
        failing: set[int],
        breaks: bool,
        workers: int,
    ) -> None:
        self.ordered, self.length, self.buffersize = ordered, length, buffersize
        self.items = [-n - 1 if n in failing else n for n in range(length)]
        self.input_error = KeyError("input") if breaks else None
        self.chunks = FakeChunks(double, workers)
        self.flow = Flow(
            self.chunks,
            Policy(chunksize, buffersize, single),
            ordered,
            length if known else None,
        )
        self.feed = Feed(self.flow, self.source(), Clock(1000))
        self.taker = Taker(self.flow, None, Clock())
        self.feed.fill(started=False)

    def source(self) -> Any:
        for item in self.items:
            self.read += 1
            yield item
        if self.input_error is not None:
            raise self.input_error

    @rule(workers=st.integers(1, 8))
    def workers_change(self, workers: int) -> None:
        self.chunks.workers = workers

    @precondition(lambda self: self.chunks.queue)
    @rule(data=st.data(), nanos=st.sampled_from([0, 1000, 10**6, 10**9]))
    def finish_a_chunk(self, data: st.DataObject, nanos: int) -> None:
        place = data.draw(st.integers(0, len(self.chunks.queue) - 1))
        handle = self.chunks.queue[place]
        del self.chunks.queue[place]
        delivery = self.chunks.execute(handle.payload)
        delivery.nanos = nanos
        handle.done(delivery)

    @precondition(lambda self: not self.over)
    @rule()
    def take(self) -> None:
        """What the iterator does, up to where it would wait."""
        taker = self.taker
        try:
            taker.begin()
            self.feed.fill()
            if (values := taker.take()) is not None:
                assert taker.flawed == any(isinstance(value, Failure) for value in values)
                self.taken += [place_of(value) for value in values]
            elif taker.over():
                self.over = True
            else:
                self.woken = False
                if not self.flow.expect(self.wake, reads=True):
                    self.woken = True
        except KeyError as error:
            self.error = error
            self.over = True
            self.flow.close()

    def wake(self) -> None:
        self.woken = True

    @precondition(lambda self: self.over)
    @rule()
    def close(self) -> None:
        self.flow.close()

    @invariant()
    def what_was_taken_is_right(self) -> None:
        expected = [2 * item for item in self.items]
        if self.ordered:
            assert self.taken == expected[: len(self.taken)]
        else:
            assert len(set(self.taken)) == len(self.taken)
            assert set(self.taken) <= set(expected)
        if self.over:
            assert len(self.taken) == len(expected)
            assert self.error is self.input_error

    @invariant()
    def nothing_is_read_too_far(self) -> None:
        assert self.flow.read == self.read
        if self.buffersize is not None:
            assert self.read - len(self.taken) <= self.buffersize or self.error is not None

    @invariant()
    def nobody_sleeps_for_ever(self) -> None:
        """If the engine has nothing to do, whoever waits was woken."""
        if not self.woken and not self.over:
            assert self.chunks.queue

    def teardown(self) -> None:
        """Whatever happened, it can be finished."""
        if not hasattr(self, "flow"):
            return
        for _ in range(10_000):
            if self.over:
                return
            self.chunks.run()
            self.take()
            self.what_was_taken_is_right()
        raise AssertionError("the map does not end")


TestMap = MapMachine.TestCase
TestMap.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
