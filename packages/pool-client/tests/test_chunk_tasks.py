"""Chunks of map: packed, sent, cancelled, split, and put together again."""

import functools
import gc
import pickle
import threading

import numpy
import pytest
import support
from packing_model import (
    Exits,
    Interrupted,
    Moody,
    Silent,
    Unpicklable,
    Unreadable,
    nested,
    packed_error,
)

from pool_client.chunk_tasks import Chunk, pack_items, pack_whole, unpicklable
from pool_client.errors import RemoteException, WorkerLost
from pool_client.scheduling.tasks import Function, Terms
from pool_protocol import FrameTooLarge, Packed, PickleType, serializer
from pool_protocol.frames import LARGE
from pool_protocol.messages import RESULT, Result, ResultFlag, TaskFlag
from pool_protocol.serializers import pack_separate, unpack_separate

PICKLE = serializer(PickleType.pickle)


class Plain:
    """Not an atom, so its like are pickled one by one."""

    def __init__(self, number):
        self.number = number

    def __eq__(self, other):
        return self.number == other.number

    __hash__ = None


def make(items, star=False, **terms):
    """A chunk, and the list in which its Answers appear once they are complete."""
    done = []
    function = Function(1, "work", b"", by_value=False)
    return Chunk(items, function, star, Terms(**terms), PICKLE, done.append), done


def unpack(task):
    """The items of a task, as the worker reads them."""
    payload = task.payload
    if isinstance(payload, Packed):
        payload = b"".join(payload.stream)
    if task.flags & TaskFlag.TIMED:
        payload = payload[8:]
    if task.flags & TaskFlag.SEPARATE:
        return [pickle.loads(body) for body in unpack_separate(payload)[0]]
    return pickle.loads(payload)


def answer(task, func=lambda x: x, nanos=100):
    """What a worker would answer."""
    values = [func(item) for item in unpack(task)]
    task.resolve(Result(RESULT, ResultFlag.CHUNK, nanos, 1, pickle.dumps(values), ()))


# -- packing


def test_plain_items_travel_in_one_pickle():
    chunk, _ = make([1, "two", (3, [4])])
    [task] = chunk.tasks()
    assert task.flags == TaskFlag.CHUNK
    assert (task.items, task.nbytes, chunk.nbytes) == (3, len(task.payload), len(task.payload))
    assert unpack(task) == [1, "two", (3, [4])]


def test_other_items_are_pickled_one_by_one():
    chunk, _ = make([Plain(1), Plain(2)], star=True, timeout=1.0)
    [task] = chunk.tasks()
    kinds = TaskFlag.CHUNK | TaskFlag.SEPARATE | TaskFlag.STAR | TaskFlag.TIMED
    assert task.flags == kinds
    assert type(task.flags) is int
    assert unpack(task) == [Plain(1), Plain(2)]


def test_one_item_is_not_pickled_separately():
    assert pack_items([Plain(1)], PICKLE)[1:] == (0, {})


def test_when_plain_items_cannot_be_packed_together_each_is_tried_alone():
    class Scant:
        def pack(self, value, streamed=False):
            if isinstance(value, list):
                raise MemoryError
            return PICKLE.pack(value)

    payload, flags, errors = pack_items([1, 2], Scant())
    assert (flags, errors) == (TaskFlag.SEPARATE, {})
    assert [pickle.loads(body) for body in unpack_separate(payload)[0]] == [1, 2]


def test_a_large_item_is_not_copied_once_the_function_is_known():
    data = bytes(4 * LARGE)
    chunk, _ = make([data])
    [first] = chunk.tasks()
    chunk.function.estimate.add(1)
    [task] = chunk.tasks()
    assert isinstance(task.payload, Packed)
    assert any(piece is data for piece in task.payload.stream)
    assert unpack(task) == unpack(first) == [data]


def test_large_buffers_in_separate_items_are_packed_inside():
    array = numpy.arange(LARGE)
    chunk, _ = make([{"array": array}, {"array": array}])
    [task] = chunk.tasks()
    assert all((item["array"] == array).all() for item in unpack(task))
    assert isinstance(pack_whole(bytes(LARGE), PICKLE), bytes)
    assert pack_whole(1, PICKLE) == PICKLE.pack(1)


def test_what_only_cloudpickle_can_take_goes_beside_large_buffers():
    array = numpy.arange(LARGE)
    item = pickle.loads(pack_whole((array, lambda: 7, functools.cache(lambda: 8)), PICKLE))
    assert (item[1](), item[2]()) == (7, 8)


@pytest.mark.parametrize("bad", [Unpicklable(), Exits(), nested(), Silent(), threading.Lock()])
def test_items_that_cannot_be_pickled_are_answered_and_the_others_sent(bad):
    chunk, done = make([1, 2, bad, 3, bad, bad, 4])
    tasks = chunk.tasks()
    assert [unpack(task) for task in tasks] == [[1, 2], [3], [4]]
    assert not done
    for task in tasks:
        answer(task)
    result = done[0].result()
    assert result.failed == {2, 4, 5}
    assert [result.values[index] for index in (0, 1, 3, 6)] == [1, 2, 3, 4]
    error = result.values[2]
    if isinstance(error, RecursionError):
        return
    assert isinstance(error, pickle.PicklingError)
    assert type(bad).__qualname__ in str(error)
    assert error.__cause__ is not None


def test_a_recursion_error_stays_one():
    error = RecursionError()
    assert unpicklable([], error) is error


@pytest.mark.parametrize("items", [[Unpicklable()], [Unpicklable(), Unpicklable()]])
def test_when_no_item_can_be_pickled_all_is_said_at_once(items):
    chunk, done = make(items)
    assert chunk.tasks() == []
    assert chunk.nbytes == 0
    assert done[0].result().failed == set(range(len(items)))


@pytest.mark.parametrize("items", [[Interrupted()], [Plain(1), Interrupted()]])
def test_ctrl_c_while_packing_is_not_an_error_of_an_item(items):
    chunk, _ = make(items)
    with pytest.raises(KeyboardInterrupt):
        chunk.tasks()


def test_a_chunk_over_the_limit_is_sent_in_parts():
    chunk, done = make([bytes([number]) * 1000 for number in range(10)])
    tasks = chunk.tasks(max_message=3000)
    assert len(tasks) > 3
    assert all(task.nbytes < 3000 for task in tasks)
    assert chunk.nbytes == sum(task.nbytes for task in tasks)
    for task in tasks:
        answer(task, len)
    assert done[0].result().values == [1000] * 10


def test_an_item_over_the_limit_fails_alone():
    chunk, done = make([b"x", b"x" * 5000, b"y"])
    for task in chunk.tasks(max_message=3000):
        answer(task)
    result = done[0].result()
    assert result.failed == {1}
    assert isinstance(result.values[1], FrameTooLarge)
    assert (result.values[0], result.values[2]) == (b"x", b"y")


# -- sending and cancelling


def test_a_chunk_is_withdrawn_or_sent_but_never_both():
    withdrawn, done = make([1, 2])
    [task] = withdrawn.tasks()
    assert withdrawn.cancel()
    assert withdrawn.cancel()
    assert not task.start()
    task.fail(ValueError())
    assert not done, "nobody waits for it"
    sent, _ = make([1, 2])
    [task] = sent.tasks()
    assert task.start()
    assert task.start(), "again"
    assert not sent.cancel()
    assert task.start()


def test_cancelling_and_sending_at_the_same_moment():
    for _ in range(300):
        chunk, _ = make([1])
        [task] = chunk.tasks()
        results = {}
        barrier = threading.Barrier(2)

        def run(name, function, barrier=barrier, results=results):
            barrier.wait(30)
            results[name] = function()

        threads = [
            threading.Thread(target=run, args=("sent", task.start)),
            threading.Thread(target=run, args=("withdrawn", chunk.cancel)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results["sent"] != results["withdrawn"]


def test_a_finalizer_may_cancel_while_something_else_is_decided():
    """The collector runs wherever it likes, so cancelling must never wait for anything."""
    others = [make([1])[0] for _ in range(50)]

    class Canceller:
        def __init__(self, chunk):
            self.chunk = chunk
            self.me = self

        def __del__(self):
            self.chunk.cancel()

    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for other in others:
            Canceller(other)
            chunk, _ = make([1])
            assert chunk.begin()
            assert not chunk.cancel()
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert not any(other.begin() for other in others)


# -- answers


def test_a_chunk_is_delivered_once_all_is_in():
    chunk, done = make(list(range(6)))
    [task] = chunk.tasks()
    answer(task, lambda x: x * 2)
    [answers] = done
    assert answers.nanos == 100
    assert answers.nbytes > 0
    assert answers.result() == ([0, 2, 4, 6, 8, 10], frozenset(), 100)


def separate(values, failed=()):
    bodies = [
        packed_error(value) if index in failed else pickle.dumps(value)
        for index, value in enumerate(values)
    ]
    flags = ResultFlag.CHUNK | ResultFlag.SEPARATE
    return Result(RESULT, flags, 100, 1, pack_separate(bodies, failed), ())


def test_a_result_in_parts():
    """Whichever order they are seen in, and however often."""
    chunk, done = make(list(range(8)))
    [task] = chunk.tasks()
    task.start()
    first, second = separate([0, 1, 2]).payload, separate([3, 4], failed=[1]).payload
    for start, payload in ((3, second), (0, first), (3, second)):
        task.take_part(start, payload)
    with pytest.raises(ValueError, match="chunk"):
        task.take_part(6, b"noise")
    assert not done
    task.resolve(separate([5, 6, 7]))
    [answers] = done
    result = answers.result()
    assert (result.failed, result.nanos) == ({4}, 100)
    assert [result.values[index] for index in (0, 1, 2, 3, 5, 6, 7)] == [0, 1, 2, 3, 5, 6, 7]
    assert answers.nbytes > len(first) + len(second)


@pytest.mark.parametrize("plain", [True, False])
def test_values_that_are_too_few_are_nobodys(plain):
    """Better an error than another item's value."""
    chunk, done = make([1, 2, 3])
    [task] = chunk.tasks()
    few = Result(RESULT, ResultFlag.CHUNK, 100, 1, pickle.dumps([2, 3]), ())
    task.resolve(few if plain else separate([2, 3]))
    result = done[0].result()
    assert result.failed == {0, 1, 2}
    assert "2 values came for 3 calls" in str(result.values[0])


def test_parts_from_a_worker_that_was_lost_are_not_kept():
    """The chunk is run again, and may be cut in other places."""
    chunk, done = make([1, 2, 3])
    [task] = chunk.tasks()
    assert task.start()
    task.take_part(0, separate([1]).payload)
    assert task.start()
    task.resolve(separate([1, 2, 3]))
    assert done[0].result().values == [1, 2, 3]


def test_results_that_are_too_large_together(tmp_path):
    """Each call runs once, and what fits alone is there; what does not fails in its place."""
    log = tmp_path / "log"

    def give(size):
        with log.open("a") as file:
            file.write(f"{size}\n")
        return bytes(size)

    sizes = [30_000, 40_000, 50_000, 200_000, 60_000, 1] * 4
    with support.running_pool(2, max_message=100_000) as pool:
        for retries in (0, 3):
            view = pool.options(retries=retries)
            results = view.map(give, sizes, chunksize=len(sizes))
            for size in sizes:
                if size < 100_000:
                    assert next(results) == bytes(size)
                else:
                    with pytest.raises(FrameTooLarge, match="raise max_message"):
                        next(results)
        stats = pool.stats()
        assert (stats.completed, stats.workers_lost, stats.retried) == (2, 0, 0)
    assert sorted(log.read_text().split()) == sorted(map(str, sizes * 2))


def test_values_and_errors_side_by_side():
    chunk, done = make([1, 2, 3])
    [task] = chunk.tasks()
    task.resolve(separate([1, KeyError("key"), Unreadable()], failed=[1]))
    result = done[0].result()
    assert result.failed == {1, 2}
    assert result.values[0] == 1
    assert isinstance(result.values[1], KeyError)
    assert isinstance(result.values[1].__cause__, RemoteException)
    assert isinstance(result.values[2], pickle.UnpicklingError)
    assert isinstance(result.values[2].__cause__, KeyError)


def test_an_error_of_the_whole_chunk():
    chunk, done = make([1, 2])
    [task] = chunk.tasks()
    flags = ResultFlag.CHUNK | ResultFlag.ERROR
    task.resolve(Result(RESULT, flags, 100, 1, packed_error(KeyError()), ()))
    result = done[0].result()
    assert result.failed == {0, 1}
    assert {type(value) for value in result.values} == {KeyError}
    assert result.nanos == 100


def test_values_that_cannot_be_unpickled_here():
    chunk, done = make([1, 2])
    [task] = chunk.tasks()
    task.resolve(Result(RESULT, ResultFlag.CHUNK, 1, 1, pickle.dumps(Unreadable()), ()))
    result = done[0].result()
    assert result.failed == {0, 1}
    assert isinstance(result.values[0], pickle.UnpicklingError)


def test_one_value_with_buffers():
    chunk, done = make([1])
    [task] = chunk.tasks()
    array = numpy.arange(LARGE)
    packed = PICKLE.pack([array])
    stream = b"".join(packed.stream)
    task.resolve(Result(RESULT, ResultFlag.CHUNK, 1, 1, stream, packed.buffers))
    assert done[0].nbytes > array.nbytes
    assert (done[0].result().values[0] == array).all()


def test_a_chunk_that_fails_as_a_whole():
    chunk, done = make([1, 2])
    [task] = chunk.tasks()
    error = WorkerLost("box", 1, -9, 1)
    task.fail(error)
    assert done[0].result() == ([error, error], {0, 1}, 0)


# -- splitting


@pytest.mark.parametrize("item", range(5))
def test_a_chunk_is_split_at_the_blamed_item(item):
    chunk, done = make(list(range(5)), timeout=2.0)
    [task] = chunk.tasks()
    before_bytes = chunk.nbytes
    task.attempts = 2
    before, blamed, after = task.split(item)
    parts = [*before, blamed, *after]
    assert [unpack(part) for part in parts] == [
        part for part in ([*range(item)], [item], [*range(item + 1, 5)]) if part
    ]
    assert [part.attempts for part in parts] == [2] * len(parts)
    assert chunk.nbytes == before_bytes
    for part in reversed(parts):
        assert not done
        answer(part)
    assert done[0].result().values == list(range(5))


def test_a_split_part_can_be_split_again():
    chunk, done = make(list(range(6)))
    [task] = chunk.tasks()
    [before], blamed, [after] = task.split(2)
    [first], again, [] = before.split(1)
    assert (unpack(first), unpack(again)) == ([0], [1])
    assert blamed.split(7) == ((), blamed, ())
    [], last, [rest] = after.split(0)
    for part in (first, again, last, rest):
        answer(part)
    blamed.fail(WorkerLost("box", 1, -9, 1))
    result = done[0].result()
    assert result.failed == {2}
    assert [value for index, value in enumerate(result.values) if index != 2] == [0, 1, 3, 4, 5]


def test_an_item_number_beyond_the_end_blames_the_last():
    chunk, _ = make([1, 2, 3])
    [task] = chunk.tasks()
    before, blamed, after = task.split(99)
    assert ([unpack(part) for part in before], unpack(blamed), after) == ([[1, 2]], [3], [])


def test_items_that_cannot_be_packed_any_more_do_no_harm():
    chunk, done = make([Plain(0), Moody(1), Moody(1), Plain(3), Moody(1)])
    [task] = chunk.tasks()
    before, blamed, after = task.split(2)
    assert not blamed.start()
    blamed.fail(ValueError("it has its answer"))
    assert [unpack(part) for part in (*before, *after)] == [[Plain(0)], [Plain(3)]]
    for part in (*before, *after):
        answer(part)
    result = done[0].result()
    assert result.failed == {1, 2, 4}
    assert {type(result.values[index]) for index in result.failed} == {pickle.PicklingError}


def test_functools_partial_is_an_item_like_any_other():
    chunk, _ = make([functools.partial(int, "7"), functools.partial(int, "8")])
    [task] = chunk.tasks()
    assert [item() for item in unpack(task)] == [7, 8]
