"""The blocking map under anything that can happen, step by step: nobody spins, nobody is forgotten.

The real front end runs over an engine by hand; what it waits for, and the loop of its async inputs,
are the machine's. Each step is one that a thread could make before another goes on.
"""

import itertools
import random
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from mapping.hand import Clock

from pool_client import map_sync
from pool_client.map_sync import _Source
from pool_client.mapping import Flow, Policy, check
from pool_client.mapping.flow import Wake
from pool_client.mapping.stash import Stash
from pool_client.testing import FakeChunks
from pool_client.waiting import Bell

SECOND = 10**9
ENDLESS = 10**6


class Waits(Exception):
    """The consumer waits."""


class Spins(BaseException):
    """Somebody asks for ever; no Exception, which would be taken for one of an input."""


class Interrupted(BaseException):
    """As asyncio.CancelledError: no Exception."""


@types.coroutine
def suspend(name: str) -> Generator[str, None, None]:
    """Suspend whatever awaits this."""
    yield name


def double(number: int, other: int | None = None) -> int:
    """Return twice the number."""
    return number + (number if other is None else other)


class ByHand:
    """Whoever asks whether to wait; fails if it is told twice, for nothing, to look again."""

    def __init__(self) -> None:
        self.waits = False
        self.woken = False
        self.vain = 0

    def wake(self) -> None:
        """Let it go on."""
        self.woken = True

    def answered(self, waits: bool) -> bool:
        """It has asked."""
        self.vain = 0 if waits else self.vain + 1
        if self.vain > 1:
            raise Spins
        self.waits = waits
        return waits

    def go_on(self) -> None:
        """It looks again."""
        self.waits = self.woken = False
        self.vain = 0

    @property
    def asleep(self) -> bool:
        """Whether somebody must wake it."""
        return self.waits and not self.woken


class Rung(Bell):
    """Whoever waits for it leaves what it is doing, and begins anew when it is rung."""

    def __init__(self, waiter: ByHand) -> None:
        self.ring = waiter.wake  # type: ignore[method-assign]

    def wait(self, seconds: float | None = None) -> None:
        """Wait."""
        raise Waits


class Machine:
    """One map: sync inputs, an async one, or both."""

    def __init__(
        self,
        kind: str,
        chunksize: int | None,
        buffersize: int | None,
        ordered: bool,
        timeout: float | None,
        lengths: tuple[int, int],
        pauses: Any,
        breaks: bool,
    ) -> None:
        self.kind, self.ordered, self.pauses, self.breaks = kind, ordered, pauses, breaks
        self.consumer = ByHand()
        self.reader = ByHand()
        self.clock = Clock()
        self.chunks = FakeChunks(double, star=kind == "mixed")
        self.taken: list[int] = []
        self.error: BaseException | None = None
        self.over = self.closed = self.refused = False
        self.pump: Any = None
        self.pump_over: Callable[[], None] = lambda: None
        self.cancelled = self.cancel_came = False
        self.patch = mock.patch.multiple(map_sync, wait_on_loop=self.wait_on_loop, _now=self.clock)
        self.patch.start()
        columns: list[Any] = []
        counts: list[int] = []
        if kind != "sync":
            columns.append(self.ainput(lengths[0]))
            counts.append(lengths[0])
        if kind != "async":
            columns.append(self.input(lengths[1]))
            counts.append(lengths[1])
        self.length = min(counts)
        self.flow = Flow(self.chunks, Policy(chunksize, buffersize), ordered)
        expect = self.flow.expect

        def asked(*args: Any, **kwargs: Any) -> bool:
            return self.consumer.answered(expect(*args, **kwargs))

        self.flow.expect = asked  # type: ignore[method-assign]
        self.source = _Source(self.flow, timeout)
        self.source._bell = Rung(self.consumer)
        self.source.begin(check(double, tuple(columns)), self.spawn, None)

    # -- what the front end has of its surroundings

    def input(self, length: int) -> Iterator[int]:
        """Give so many numbers, and perhaps an error."""
        yield from range(length)
        if self.breaks:
            raise KeyError("input")

    async def ainput(self, length: int) -> AsyncIterator[int]:
        """Give so many numbers, with pauses, and perhaps an error."""
        for number in range(length):
            self.reader.vain = 0
            if number in self.pauses:
                await suspend("input")
            yield number
        if self.breaks:
            raise KeyError("input")

    async def wait_on_loop(self, expect: Callable[[Wake], bool]) -> None:
        """Suspend the pump if there is something to wait for."""
        one = self.reader
        one.woken = False
        if one.answered(expect(lambda: one.wake())):
            await suspend("wait")

    def spawn(
        self, coroutine: Coroutine[Any, Any, None], over: Callable[[], None]
    ) -> Callable[[], None]:
        """Have a pump."""
        self.pump, self.pump_over = coroutine, over

        def cancel() -> None:
            self.cancelled = True

        return cancel

    # -- what can happen

    @property
    def pump_can_go_on(self) -> bool:
        """Whether the pump's loop has something to do."""
        return self.pump is not None and (self.cancel_came or not self.reader.asleep)

    def pump_goes_on(self) -> None:
        """The pump runs up to where it suspends."""
        if not self.pump_can_go_on:
            return
        self.reader.go_on()
        try:
            if self.cancel_came:
                self.cancel_came = False
                self.pump.throw(Interrupted())
            else:
                self.pump.send(None)
        except (StopIteration, Interrupted):
            self.pump = None
            self.pump_over()

    def take(self) -> None:
        """What the iterator does, up to where it would wait."""
        if self.over or self.consumer.asleep:
            return
        self.consumer.go_on()
        try:
            self.taken += self.source._advance()
        except Waits:
            return
        except (StopIteration, KeyError, TimeoutError, RuntimeError) as error:
            self.over, self.error = True, error
            self.source.close()

    def finish_a_chunk(self, place: int = 0, nanos: int = SECOND // 500) -> None:
        """A worker has done its work."""
        if place >= len(self.chunks.queue):
            return
        handle = self.chunks.queue[place]
        del self.chunks.queue[place]
        if not handle.cancelled:
            delivery = self.chunks.execute(handle.payload)
            delivery.nanos = nanos
            handle.done(delivery)

    def finish_another(self) -> None:
        """Not the first chunk, which is a slow one."""
        self.finish_a_chunk(1, SECOND)

    def close(self) -> None:
        """By another thread."""
        self.closed = True
        self.source.close(wait=True)

    def close_at_the_last_row(self) -> None:
        """While the pump has it, and the consumer has not given more."""
        stash = self.source._reader
        for _ in range(50):
            if isinstance(stash, Stash) and stash.rows:
                self.pump_goes_on()
                self.finish_a_chunk()
        self.close()
        self.pump_goes_on()

    def let_cancelling_arrive(self) -> None:
        """It takes its time to the pump's loop."""
        if self.pump is not None and self.cancelled:
            self.cancelled, self.cancel_came = False, True

    def let_time_pass(self) -> None:
        """More than there is, where it is limited."""
        self.clock.now += 2 * SECOND
        if self.source._taker.deadline is not None:
            self.consumer.wake()  # it does not wait longer than that

    def refuse_chunks(self) -> None:
        """The pool is shut down."""
        self.chunks.closed = self.refused = True

    def cancel_the_pump(self) -> None:
        """The engine does."""
        if self.pump is not None:
            self.cancel_came = self.refused = True

    # -- what always holds

    def what_was_taken_is_right(self) -> None:
        expected = range(0, 2 * self.length, 2)
        if self.ordered:
            assert self.taken == list(expected[: len(self.taken)])
        else:
            assert len(set(self.taken)) == len(self.taken)
            assert all(one in expected for one in self.taken)

    def it_ends_for_a_reason(self) -> None:
        if isinstance(self.error, StopIteration):
            assert self.closed or len(self.taken) == self.length
        elif isinstance(self.error, KeyError):
            assert self.breaks
            assert len(self.taken) == self.length
        elif isinstance(self.error, RuntimeError):
            assert self.refused

    def a_consumer_that_sleeps_has_nothing_to_do(self) -> None:
        if self.over or not self.consumer.asleep:
            return
        flow = self.flow
        assert not (flow.closed or flow.deliverable or flow.finished or flow.hungry)
        if self.pump is None:
            assert self.chunks.queue, "nobody will wake it"
        elif not self.pump_can_go_on:
            assert self.chunks.queue or self.cancelled, "they wait for each other"
        if self.kind == "sync" and not flow.ended:
            assert len(flow.arrived) < max(1, flow.unfinished // 2)

    def a_pump_that_sleeps_has_nothing_to_do(self) -> None:
        if self.pump is None or not self.reader.asleep or self.cancelled or self.cancel_came:
            return
        flow, stash = self.flow, self.source._reader
        assert not flow.closed
        if isinstance(stash, Stash) and stash._wake is not None:
            # The flow may have ended: what was read before was refused at this pause.
            assert not (stash.rows or stash.ended)
            ahead, soon = flow.limits()
            room = min(soon, ahead - stash._read + flow.taken)
            assert room <= 0 or not self.consumer.asleep, "the consumer is not asked"
        else:
            assert not (flow.ended or flow.arrived or flow.quota())

    def check(self) -> None:
        """After each step."""
        self.what_was_taken_is_right()
        self.it_ends_for_a_reason()
        self.a_consumer_that_sleeps_has_nothing_to_do()
        self.a_pump_that_sleeps_has_nothing_to_do()

    def finish(self) -> None:
        """Whatever happened, it can be finished, and the pump ends with the map."""
        for turn in itertools.count():
            assert turn < 2000, "the map does not end"
            if self.over:
                break
            while self.chunks.queue:
                self.finish_a_chunk()
            self.pump_goes_on()
            self.take()
            if turn > 30 and not self.closed:
                self.close()
            self.check()
        self.let_cancelling_arrive()
        self.pump_goes_on()
        assert self.pump is None


STEPS = [
    Machine.pump_goes_on,
    Machine.take,
    Machine.finish_a_chunk,
    Machine.finish_another,
    Machine.let_cancelling_arrive,
]
ENDS = [
    Machine.close,
    Machine.close_at_the_last_row,
    Machine.let_time_pass,
    Machine.refuse_chunks,
    Machine.cancel_the_pump,
    Machine.check,
]


def run_one(choose: random.Random) -> None:
    """One map, in an order of events that nobody has thought of."""
    lengths = [ENDLESS, choose.choice([ENDLESS, ENDLESS, 20, 4, 1, 0])]
    choose.shuffle(lengths)
    often = choose.choice([0.0, 0.3, 0.9])
    one = Machine(
        kind=choose.choice(["mixed", "mixed", "async", "sync"]),
        chunksize=choose.choice([None, 1, 3, 10]),
        buffersize=choose.choice([None, None, 1, 5]),
        ordered=choose.random() < 0.5,
        timeout=choose.choice([None, 1.0]),
        lengths=(lengths[0], lengths[1]),
        pauses={number for number in range(200) if choose.random() < often},
        breaks=choose.random() < 0.2,
    )
    try:
        for end in (Machine.check, Machine.check, choose.choice(ENDS), Machine.check):
            # Now and then some of them are busy elsewhere.
            weights = [choose.choice([0, 1, 8]) for _ in STEPS]
            for step in choose.choices(STEPS, weights, k=30) if any(weights) else ():
                step(one)
                one.check()
            end(one)
            one.check()
        one.finish()
    finally:
        one.patch.stop()


@settings(max_examples=50)
@given(seed=st.integers(0, 2**64))
def test_any_order_of_events(seed: int) -> None:
    """Whoever is told to look again finds something; whoever sleeps has nothing to do."""
    choose = random.Random(seed)
    for _ in range(25):
        run_one(choose)
