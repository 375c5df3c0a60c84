"""Tasks of one call, and how their outcomes get to futures on any loop."""

import asyncio
import copy
import gc
import pickle
import threading
import weakref
from concurrent.futures import CancelledError

import pytest
from packing_model import Unreadable, packed_error

from pool_client.calls import (
    AsyncCall,
    BroadcastCall,
    Mailbox,
    RemoteAsyncCall,
    SubmittedCall,
)
from pool_client.errors import RemoteException, WorkerLost
from pool_client.futures import AsyncTaskFuture
from pool_client.scheduling.tasks import Function, Terms
from pool_protocol import PickleType, serializer
from pool_protocol.messages import RESULT, Result, ResultFlag

PICKLE = serializer(PickleType.pickle)


def make(cls=SubmittedCall, **how):
    call = cls(**how)
    call.prepare(PICKLE, Function(1, "work", b"", by_value=False), 0, b"payload", 7, Terms())
    return call


def good(value):
    packed = PICKLE.pack(value)
    if isinstance(packed, bytes):
        return Result(RESULT, 0, 1, 1, packed, ())
    return Result(RESULT, 0, 1, 1, b"".join(packed.stream), packed.buffers)


def bad(error):
    return Result(RESULT, ResultFlag.ERROR, 1, 1, packed_error(error), ())


def in_loop(main):
    return asyncio.run(asyncio.wait_for(main(), 20))


def make_async(cls=AsyncCall):
    return make(cls, loop=asyncio.get_running_loop())


# -- submit


def test_a_call_is_one_item_that_was_not_sent():
    call = make()
    assert (call.id, call.items, call.attempts, call.cost, call.nbytes) == (0, 1, 0, 0.0, 7)
    assert call.split(0) == ((), call, ())


def test_a_good_result():
    call = make()
    assert call.start()
    assert call.start(), "again, after its worker was lost"
    call.resolve(good([1, 2]))
    assert call.result(0) == [1, 2]


def test_a_result_with_buffers():
    call = make()
    call.resolve(good(pickle.PickleBuffer(bytearray(b"x" * 100_000))))
    assert bytes(call.result(0)) == b"x" * 100_000


def test_an_error():
    call = make()
    call.resolve(bad(KeyError("key")))
    assert isinstance(call.exception(0), KeyError)
    assert isinstance(call.exception(0).__cause__, RemoteException)


@pytest.mark.parametrize("error", [KeyError("no way"), SystemExit("no way")])
def test_a_result_that_cannot_be_unpickled(error):
    call = make()
    call.resolve(good(Unreadable(error)))
    with pytest.raises(pickle.UnpicklingError, match="no way"):
        call.result(0)


class Once:
    """Cannot be unpickled the first time, for want of memory, say, and can be after that."""

    tries = 0

    def __setstate__(self, state):
        Once.tries += 1
        if Once.tries == 1:
            raise MemoryError("no room")

    def __getstate__(self):
        return 1


def test_a_result_is_unpickled_once(monkeypatch):
    """A second try might succeed, and then there would be no error to give to anybody."""
    monkeypatch.setattr(Once, "tries", 0)
    call = make()
    call.resolve(good(Once()))
    with pytest.raises(pickle.UnpicklingError, match="MemoryError: no room") as caught:
        call.result(0)
    assert isinstance(caught.value.__cause__, MemoryError)
    assert Once.tries == 1


def test_a_cancelled_call_is_not_sent():
    call = make()
    call.cancel()
    assert not call.start()


def test_an_error_of_the_pools():
    call = make()
    error = WorkerLost("box", 1, -9, 1)
    call.start()
    call.fail(error)
    assert call.exception(0) is error


def test_cancelled_by_the_pool():
    waiting, running, remote = make(), make(), make()
    waiting.fail(CancelledError())
    assert waiting.cancelled()
    running.start()
    running.fail(CancelledError())
    assert isinstance(running.exception(0), CancelledError)
    remote.start()
    remote.resolve(bad(CancelledError()))
    assert isinstance(remote.exception(0), CancelledError)


# -- run_async, on the engine's loop


def test_a_good_result_for_asyncio():
    async def main():
        call = make_async()
        assert call.start()
        call.resolve(good(1))
        assert await call == 1
        large = make_async()
        large.resolve(good(pickle.PickleBuffer(bytearray(100_000))))
        assert len(bytes(await large)) == 100_000

    in_loop(main)


@pytest.mark.parametrize("buffers", [(), (bytearray(9),)])
def test_a_result_for_asyncio_is_unpickled_once(monkeypatch, buffers):
    monkeypatch.setattr(Once, "tries", 0)

    async def main():
        call = make_async()
        call.resolve(good(Once())._replace(buffers=buffers))
        with pytest.raises(pickle.UnpicklingError, match="MemoryError: no room"):
            await call
        assert Once.tries == 1

    in_loop(main)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (bad(KeyError()), KeyError),
        (good(Unreadable()), pickle.UnpicklingError),
        (bad(StopIteration(1)), RuntimeError),
        (bad(CancelledError()), asyncio.CancelledError),
    ],
)
def test_errors_for_asyncio(answer, expected):
    async def main():
        call = make_async()
        call.resolve(answer)
        with pytest.raises(expected):
            await call
        if expected is RuntimeError:
            assert isinstance(call.exception().__cause__, StopIteration)

    in_loop(main)


@pytest.mark.parametrize("cls", [AsyncCall, RemoteAsyncCall])
def test_what_asyncio_has_cancelled_is_not_sent(cls):
    async def main():
        call = make_async(cls)
        assert call.start()
        call.cancel()
        assert not call.start()

    in_loop(main)


def test_what_comes_too_late_for_asyncio_is_dropped():
    async def main():
        call = make_async()
        call.cancel()
        call.resolve(good(1))
        call.resolve(bad(KeyError()))
        call.fail(KeyError())
        assert call.cancelled()

    in_loop(main)


# -- what is left of a call that is over


def call_on(loop, cls):
    """A call of each kind; the last argument of a call is a mailbox where it needs one."""
    if cls is SubmittedCall:
        return make(cls)
    call = make(cls, loop=loop)
    if cls is RemoteAsyncCall:
        call.mailbox = Mailbox(loop)
    return call


KINDS = pytest.mark.parametrize("cls", [SubmittedCall, AsyncCall, RemoteAsyncCall])


@KINDS
def test_whoever_keeps_the_future_does_not_keep_what_was_sent(cls):
    async def main():
        loop = asyncio.get_running_loop()
        ends = [
            lambda call: call.resolve(good(1)),
            lambda call: call.resolve(good(pickle.PickleBuffer(bytearray(100_000)))),
            lambda call: call.resolve(good(Unreadable())),
            lambda call: call.resolve(bad(KeyError())),
            lambda call: call.fail(KeyError()),
            lambda call: call.fail(CancelledError()),
            lambda call: (call.cancel(), call.start()),
            lambda call: (call.start(), call.cancel(), call.resolve(good(1))),
        ]
        for end in ends:
            call = call_on(loop, cls)
            sent = call.function
            end(call)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert call.done()
            assert call.payload == b""
            assert call.function is not sent
            call.cancelled() or call.exception()  # or asyncio would speak of it

    in_loop(main)


@KINDS
def test_a_call_is_freed_without_the_collector(cls):
    async def main():
        loop = asyncio.get_running_loop()
        call = call_on(loop, cls)
        gone = weakref.ref(call)
        call.start()
        call.resolve(good(1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert call.result() == 1
        gc.disable()
        try:
            del call
            assert gone() is None
        finally:
            gc.enable()

    in_loop(main)


@KINDS
def test_a_call_cannot_be_pickled_or_copied(cls):
    async def main():
        call = call_on(asyncio.get_running_loop(), cls)
        for take in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError):
                take(call)
        call.cancel()

    in_loop(main)


def test_a_call_is_one_object_for_the_collector():
    async def main():
        loop = asyncio.get_running_loop()
        function, terms = Function(1, "work", b"", by_value=False), Terms()
        calls = [None] * 100
        gc.collect()
        gc.disable()
        try:
            before = len(gc.get_objects())
            for number in range(100):
                calls[number] = call = AsyncCall(loop=loop)
                call.prepare(PICKLE, function, 0, b"payload", 7, terms)
            assert len(gc.get_objects()) - before < 110
        finally:
            gc.enable()

    in_loop(main)


# -- run_async, on another loop


def test_what_comes_when_the_loop_is_closed_is_dropped():
    async def make_one():
        call = make_async()
        call.add_done_callback(print)
        return call

    call = in_loop(make_one)
    call.fail(WorkerLost("box", 7, -9, 1))
    assert not call.done()


def test_outcomes_are_posted_to_another_loop():
    async def main():
        mailbox = Mailbox(asyncio.get_running_loop())
        calls = [make_async(RemoteAsyncCall) for _ in range(100)]
        for call in calls:
            call.mailbox = mailbox

        def engine():
            for number, call in enumerate(calls):
                call.resolve(good(number) if number % 10 else bad(KeyError()))

        thread = threading.Thread(target=engine)
        thread.start()
        results = await asyncio.gather(*(call for call in calls), return_exceptions=True)
        thread.join()
        assert [r for r in results if not isinstance(r, KeyError)] == [
            number for number in range(100) if number % 10
        ]

    in_loop(main)


def test_one_wake_up_for_a_burst():
    async def main():
        loop = asyncio.get_running_loop()
        woken = []
        wake = loop.call_soon_threadsafe
        mailbox = Mailbox(loop)
        pending = [AsyncTaskFuture(loop=loop) for _ in range(10)]
        loop.call_soon_threadsafe = lambda *args: woken.append(args) or wake(*args)
        for number, future in enumerate(pending):
            mailbox.put(future, number, None)
        assert await asyncio.gather(*pending) == list(range(10))
        assert len(woken) == 1
        more = AsyncTaskFuture(loop=loop)
        mailbox.put(more, 1, None)
        assert await more == 1
        assert len(woken) == 2

    in_loop(main)


@pytest.mark.parametrize("gone", [False, True], ids=["closed", "collected"])
def test_a_mailbox_of_a_loop_that_is_over_keeps_nothing(gone):
    loop = asyncio.new_event_loop()
    mailbox = Mailbox(loop)
    pending = [AsyncTaskFuture(loop=loop) for _ in range(3)]
    loop.close()
    if gone:
        kept = [object() for _ in pending]
        pending = kept
        del loop
        gc.collect()
    for future in pending:
        mailbox.put(future, 1, None)
        assert not mailbox._outcomes


# -- run_on_all


def answers(broadcast, count):
    parts = broadcast.tasks(count)
    assert all(part.start() for part in parts)
    return parts


def test_a_broadcast_gathers_its_answers_in_worker_order():
    broadcast = BroadcastCall(make())
    parts = answers(broadcast, 3)
    assert all(part.pinned and part.payload == b"payload" for part in parts)
    for number in (2, 0, 1):
        assert not broadcast.model.done()
        parts[number].resolve(good(number * 10))
    assert broadcast.model.result(0) == [0, 10, 20]


class Nothing(Exception):
    def __len__(self):
        return 0


@pytest.mark.parametrize("error", [KeyError(), Nothing()])
def test_the_first_error_of_a_broadcast_is_raised_after_all_have_answered(error):
    broadcast = BroadcastCall(make())
    parts = answers(broadcast, 4)
    parts[2].resolve(bad(error))
    parts[0].resolve(good(Unreadable()))
    parts[1].fail(WorkerLost("box", 1, -9, 1))
    assert not broadcast.model.done()
    parts[3].resolve(good(1))
    assert type(broadcast.model.exception(0)) is type(error)


def test_an_answer_that_cannot_be_unpickled_fails_the_broadcast():
    broadcast = BroadcastCall(make())
    [part] = answers(broadcast, 1)
    part.resolve(good(Unreadable()))
    assert isinstance(broadcast.model.exception(0), pickle.UnpicklingError)


def test_a_cancelled_broadcast_is_sent_to_nobody():
    broadcast = BroadcastCall(make())
    broadcast.model.cancel()
    assert [part.start() for part in broadcast.tasks(3)] == [False] * 3


def test_a_broadcast_that_cannot_be_sent():
    broadcast = BroadcastCall(make())
    error = KeyError()
    broadcast.fail(error)
    assert broadcast.model.exception(0) is error
