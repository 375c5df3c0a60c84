"""The state of a map: what may be read, what is out, what can be taken, who is woken."""

import gc
import weakref
from collections import deque
from typing import Any

import pytest

from mapping.hand import calls, make_flow
from pool_client.mapping.chunking import DEPTH
from pool_client.mapping.flow import Flow, Part
from pool_client.mapping.seam import Delivery
from pool_client.testing import FakeChunks, FakeHandle


def values(flow: Flow) -> list[Any]:
    """Take everything that can be taken."""
    taken = []
    while (part := flow.take()) is not None:
        assert part.delivery is not None
        taken.extend(part.delivery.result().values)
        flow.count_taken(part.count)
    return taken


def test_in_order() -> None:
    flow, chunks = make_flow()
    for number in range(4):
        flow.submit([number])
    chunks.step(2)
    assert not flow.deliverable
    assert flow.take() is None
    chunks.step()
    assert flow.deliverable
    assert values(flow) == [0]
    chunks.run()
    assert values(flow) == [2, 4, 6]
    assert flow.take() is None
    assert not flow.finished
    flow.end()
    assert flow.finished
    assert repr(flow).startswith("<Flow ended: 4 read, 4 taken, ")


def test_as_completed() -> None:
    flow, chunks = make_flow(ordered=False)
    for number in range(4):
        flow.submit([number])
    flow.end()
    assert flow.take() is None
    chunks.step(2)
    assert flow.deliverable
    assert values(flow) == [4]
    assert not flow.finished
    chunks.run()
    assert values(flow) == [0, 2, 6]
    assert flow.finished


def test_the_quota_is_bounded_by_depth() -> None:
    flow, chunks = make_flow(3)
    for _ in range(DEPTH * 2):
        assert flow.quota() == 3
        flow.submit([1, 2, 3])
    assert flow.quota() == 0
    assert flow.plan() == (0, 0)
    chunks.step()
    assert flow.quota() == 3


@pytest.mark.parametrize("ordered", [True, False])
def test_the_quota_is_bounded_by_what_was_taken(ordered: bool) -> None:
    flow, chunks = make_flow(2, 5, ordered=ordered)
    flow.submit([0, 1])
    assert flow.quota() == 2
    flow.submit([2, 3])
    assert flow.quota() == 0, "one would do, but not a whole chunk"
    chunks.run()
    assert flow.quota() == 0, "finished results count"
    part = flow.take()
    assert flow.quota() == 0, "handed over is not taken"
    assert part is not None
    flow.count_taken(part.count)
    assert flow.quota() == 2
    flow.whole = True
    assert flow.plan()[1] > 1


def test_the_rest_of_a_known_length() -> None:
    flow, _ = make_flow(length=2)
    assert flow.unread == 2
    flow.submit([0, 1, 2])
    assert flow.unread == 1
    assert make_flow()[0].unread is None


def test_limits() -> None:
    flow, _ = make_flow(5, 100)
    assert flow.limits() == (100, 10)
    flow, _ = make_flow(None)
    assert flow.limits()[1] == DEPTH * 2


def test_long_chunks_are_noticed() -> None:
    flow, chunks = make_flow(None)
    flow.submit([0])
    flow.submit([1])
    handles = list(chunks.queue)
    for handle, nanos in zip(handles, [100, 10**10], strict=True):
        delivery = chunks.execute(handle.payload)
        delivery.nanos = nanos
        handle.done(delivery)
    assert flow.quota() == 1
    assert flow.unfinished == 0
    flow.submit([2])
    delivery = chunks.execute(handles[0].payload)
    delivery.nanos = 10**10
    flow.parts[-1].done(delivery)
    assert flow.quota() == 1
    assert "item=10000000000 ns" in repr(flow)


class Refusing(FakeChunks):
    """An engine that takes no chunks any more."""

    error: BaseException = RuntimeError("shut down")

    def submit_chunk(self, items: list[Any], done: Any) -> FakeHandle:
        """Refuse."""
        raise self.error


@pytest.mark.parametrize("ordered", [True, False])
def test_an_engine_that_refuses_ends_the_inputs_there(ordered: bool) -> None:
    flow, chunks = make_flow(ordered=ordered)
    flow.submit([1])
    refusing = Refusing(abs)
    flow._chunks = refusing
    flow.submit([2])
    assert flow.error is refusing.error
    flow.submit([3])
    flow.end(KeyError())
    assert flow.error is refusing.error
    assert not flow.finished
    chunks.run()
    assert values(flow) == [2]
    assert flow.finished
    assert flow.quota() == 0


def test_an_interrupt_while_packing_is_passed_on() -> None:
    refusing = Refusing(abs)
    refusing.error = KeyboardInterrupt()
    flow, _ = make_flow()
    flow._chunks = refusing
    with pytest.raises(KeyboardInterrupt):
        flow.submit([1])
    assert flow.finished


class Immediate(FakeChunks):
    """An engine that is done with a chunk before it returns its handle."""

    def submit_chunk(self, items: list[Any], done: Any) -> FakeHandle:
        """Queue and run it."""
        handle = super().submit_chunk(items, done)
        self.step()
        return handle


def test_done_before_submit_returns() -> None:
    flow, _ = make_flow()
    flow._chunks = Immediate(abs)
    flow.submit([-1])
    assert flow.parts[0].handle is None
    assert values(flow) == [1]


class Closing(FakeChunks):
    """An engine during whose submission the map is closed, unseen by its closer."""

    flow: Flow

    def submit_chunk(self, items: list[Any], done: Any) -> FakeHandle:
        """Queue it."""
        self.flow.closed = True
        return super().submit_chunk(items, done)


def test_closed_while_submitting() -> None:
    flow, _ = make_flow()
    flow._chunks = chunks = Closing(abs)
    chunks.flow = flow
    flow.submit([1])
    assert chunks.queue[0].cancelled


@pytest.mark.parametrize("ordered", [True, False])
def test_close_cancels_what_was_not_sent(ordered: bool) -> None:
    flow, chunks = make_flow(ordered=ordered)
    for number in range(3):
        flow.submit([number])
    first = chunks.queue[0]
    chunks.step()
    second = chunks.queue[0]
    second.sent = True
    flow.close()
    flow.close()
    assert not first.cancelled
    assert not second.cancelled
    assert chunks.queue[1].cancelled
    second.done(chunks.execute(second.payload))
    assert flow.take() is None
    assert not flow.deliverable
    assert flow.quota() == 0
    assert repr(flow).startswith("<Flow closed: ")


def test_chunks_and_parts_are_no_circle() -> None:
    flow, chunks = make_flow()
    for number in range(3):
        flow.submit([number])
    handles = [weakref.ref(handle) for handle in chunks.queue]
    gc.disable()
    try:
        chunks.step()
        handle = chunks.queue.popleft()
        flow.close()
        del handle
        chunks.queue.clear()
        assert [handle() for handle in handles] == [None, None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("ordered", [True, False])
def test_an_abandoned_map_runs_on_without_results(ordered: bool) -> None:
    flow, chunks = make_flow(ordered=ordered)
    flow.submit([1])
    chunks.step()
    flow.submit([2])
    delivered: list[weakref.ref[Delivery]] = []
    flow.abandon()
    chunks.step()
    for part in flow.arrived:
        assert part.delivery is not None
        delivered.append(weakref.ref(part.delivery))
    del part
    flow.submit([3])
    assert flow.quota() == 1
    assert [one() for one in delivered] == [None, None]
    assert flow.unfinished == 1
    assert flow.take() is None
    chunks.run()
    flow.quota()
    assert flow.unfinished == 0


# -- waking


def test_a_taker_is_woken_by_the_first_in_order() -> None:
    flow, chunks = make_flow()
    for number in range(3):
        flow.submit([number])
    seen, wake = calls()
    assert flow.expect(wake, reads=False)
    chunks.step(1)
    chunks.step(1)
    assert seen == []
    chunks.step()
    assert seen == [1]
    assert not flow.expect(wake, reads=False)
    assert not flow.wake_taker


def test_a_taker_out_of_order_is_woken_by_any() -> None:
    flow, chunks = make_flow(ordered=False)
    for number in range(3):
        flow.submit([number])
    seen, wake = calls()
    assert flow.expect(wake, reads=False)
    chunks.step(1)
    assert seen == [1]
    chunks.step(1)
    assert seen == [1], "once for all that came"
    assert not flow.expect(wake, reads=False)


def test_a_taker_that_reads_is_woken_to_read() -> None:
    flow, chunks = make_flow()
    for number in range(6):
        flow.submit([number])
    seen, wake = calls()
    assert flow.expect(wake, reads=True)
    chunks.step(1)
    chunks.step(1)
    assert seen == []
    chunks.step(1)
    assert seen == [1], "half of what was out is finished"
    assert not flow.expect(wake, reads=True)
    assert flow.quota()
    flow.end()
    assert flow.expect(wake, reads=True), "nothing to read any more"


def test_a_taker_that_only_reads() -> None:
    flow, chunks = make_flow(ordered=False)
    for number in range(4):
        flow.submit([number])
    chunks.step()
    flow.quota()
    seen, wake = calls()
    flow.submit([4])
    assert flow.expect(wake, reads=True, takes=False)
    chunks.step()
    assert seen == []
    chunks.step()
    assert seen == [1]
    assert not flow.expect(wake, reads=True, takes=False)


def test_a_taker_is_woken_by_the_end() -> None:
    flow, _ = make_flow()
    seen, wake = calls()
    assert flow.expect(wake, reads=False)
    flow.end()
    assert seen == [1]
    assert not flow.expect(wake, reads=False)


def test_a_taker_is_woken_by_closing() -> None:
    flow, _ = make_flow()
    flow.submit([1])
    seen, wake = calls()
    assert flow.expect(wake, reads=False)
    flow.close()
    assert seen == [1]
    assert not flow.expect(wake, reads=False)


def test_a_taker_is_woken_by_a_pump_that_needs_rows() -> None:
    flow, _ = make_flow()
    flow.submit([1])
    seen, wake = calls()
    assert flow.expect(wake, reads=False)
    flow.hungry = True
    flow.ring()
    assert seen == [1]
    assert not flow.expect(wake, reads=False)


def test_what_arrived_concerns_only_who_submits() -> None:
    """A taker that gives rows to a pump would find nothing to do: the pump counts it."""
    flow, chunks = make_flow()
    for number in range(4):
        flow.submit([number])
    seen, wake = calls()
    for _ in range(3):
        chunks.step(1)
        assert flow.expect(wake, reads=False)
    assert seen == []
    chunks.step()
    assert seen == [1]


def test_a_wake_up_among_another() -> None:
    """None is lost: who was woken by one thread may wait again before another one goes on."""
    flow, chunks = make_flow()
    flow.submit([0])
    flow.submit([1])
    seen, wake = calls()
    again, wake_again = calls()
    worth_waking = flow.worth_waking

    def meanwhile(part: Part) -> bool:
        flow.end()
        assert seen == [1]
        assert flow.take() is part
        assert flow.expect(wake_again, reads=False)
        return True

    assert flow.expect(wake, reads=False)
    flow.worth_waking = meanwhile  # type: ignore[method-assign]
    chunks.step()
    flow.worth_waking = worth_waking  # type: ignore[method-assign]
    chunks.step()
    assert again == [1]


class Vanishing(deque[Any]):
    """Has something in it until somebody wants it."""

    def __getitem__(self, place: Any) -> Any:
        self.clear()
        return super().__getitem__(place)

    def popleft(self) -> Any:
        """Remove what is not there."""
        self.clear()
        return super().popleft()


def test_taking_while_the_map_is_being_closed() -> None:
    flow, chunks = make_flow()
    flow.submit([1])
    chunks.step()
    parts = list(flow.parts)
    flow.parts = Vanishing(parts)
    assert flow.take() is None
    flow.parts = Vanishing(parts)
    assert not flow.deliverable
    flow, chunks = make_flow(ordered=False)
    flow.submit([1])
    chunks.step()
    flow.ready = Vanishing(flow.ready)
    assert flow.take() is None


def test_a_delivery_while_the_map_is_being_closed() -> None:
    flow, _ = make_flow()
    flow.submit([1])
    part = flow.parts[0]
    _, wake = calls()
    assert flow.expect(wake, reads=False)
    flow.parts.clear()
    assert flow.worth_waking(part)


def test_a_reader_is_woken_by_room() -> None:
    flow, chunks = make_flow(1, 2)
    seen, wake = calls()
    assert not flow.expect_room(wake)
    flow.submit([1])
    flow.submit([2])
    assert flow.expect_room(wake)
    chunks.step()
    assert seen == [1]
    assert not flow.expect_room(wake), "something arrived"
    flow.quota()
    assert flow.expect_room(wake), "but nothing was taken"
    flow.take()
    flow.count_taken(1)
    assert seen == [1, 1]
    assert not flow.expect_room(wake)
    flow.count_taken(0)
    assert seen == [1, 1]


def test_a_reader_is_woken_by_closing() -> None:
    flow, _ = make_flow(1, 1)
    flow.submit([1])
    seen, wake = calls()
    assert flow.expect_room(wake)
    flow.close()
    assert seen == [1]
    assert not flow.expect_room(wake)


def test_no_room_after_the_end() -> None:
    flow, _ = make_flow()
    flow.end()
    _, wake = calls()
    assert not flow.expect_room(wake)
