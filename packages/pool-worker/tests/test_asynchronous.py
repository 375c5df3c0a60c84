"""pool_worker.asynchronous: tasks whose results are awaited."""

import asyncio
import contextlib
import os
import pickle
import sys
from typing import Any

import cloudpickle
import pytest
from driver import Client, RemoteError, Worker, unpack
from test_children import until

from pool_protocol import LoopType
from pool_protocol.messages import Cancel, Ready, Result, Setup, SetupFailed, TaskFlag

EMPTY = pickle.dumps(())


@pytest.fixture(params=[LoopType.asyncio, LoopType.uvloop])
def worker(client: Client, request: pytest.FixtureRequest) -> Worker:
    if request.param is LoopType.uvloop:
        pytest.importorskip("uvloop")
    (worker,) = client.start(1, setup=Setup(1, 0, request.param, None))
    worker.pid = worker.wait(Ready).pid
    return worker


async def give(value: Any) -> Any:
    await asyncio.sleep(0.001)
    return value


async def fail(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


def test_a_coroutine(worker: Worker) -> None:
    assert worker.call(give, 5) == 5
    assert worker.call(lambda: give(6)) == 6
    assert worker.call(lambda: 7) == 7


def test_the_loop_that_was_asked_for(worker: Worker) -> None:
    async def name() -> str:
        return type(asyncio.get_running_loop()).__module__

    assert worker.call(name).startswith(("asyncio", "uvloop"))


def test_one_at_a_time_and_in_order(worker: Worker) -> None:
    async def step(log: str, number: int) -> tuple[int, int]:
        before = len(os.environ.get(log, ""))
        os.environ[log] = os.environ.get(log, "") + "x"
        await asyncio.sleep(0.002)
        assert len(os.environ[log]) == before + 1
        return number, before

    f = worker.function(step)
    plain = worker.function(lambda: "plain")
    for number in range(5):
        worker.post(f, pickle.dumps(("LOG", number)))
        worker.post(plain, EMPTY)
    worker.write()
    values = [unpack(worker.wait(Result)) for _ in range(10)]
    assert values == [v for n in range(5) for v in ((n, n), "plain")]


def test_errors(worker: Worker) -> None:
    for error in (KeyError("x"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()):
        with pytest.raises(RemoteError) as caught:
            worker.call(fail, error)
        assert type(caught.value.original()) is type(error)
        assert "in fail" in caught.value.traceback
    assert worker.call(give, 1) == 1


def test_a_synchronous_task_sees_no_loop(worker: Worker) -> None:
    def look() -> int:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return asyncio.run(give(8))

    assert worker.call(look) == 8
    worker.call(give, 1)
    for _ in range(3):
        assert worker.call(look) == 8
        assert worker.call(give, 2) == 2


def test_background_tasks_go_on(worker: Worker) -> None:
    async def begin() -> None:
        async def later() -> None:
            await asyncio.sleep(0.02)
            sys.modules["later"] = asyncio  # type: ignore[assignment]

        sys.modules["kept"] = asyncio.create_task(later())  # type: ignore[assignment]

    worker.call(begin)
    until(lambda: worker.call(lambda: "later" in sys.modules))


def test_chunks(worker: Worker) -> None:
    async def invert(number: int) -> float:
        await asyncio.sleep(0)
        return 1 / number

    for flags in (0, TaskFlag.SEPARATE):
        assert worker.chunk(give, [1, 2, 3], flags) == [1, 2, 3]
        values = worker.chunk(invert, [1, 0, 2], flags)
        assert values[::2] == [1.0, 0.5] and values[1].type == "ZeroDivisionError"
    mixed = worker.chunk(lambda n: give(n) if n % 2 else n, range(6))
    assert mixed == list(range(6))
    assert worker.chunk(give, [1, 2], timeout=100) == [1, 2]


def test_a_result_that_cannot_be_pickled(worker: Worker) -> None:
    with pytest.raises(RemoteError, match="generator"):
        worker.call(lambda: give(n for n in ()))  # type: ignore[arg-type]


def test_cancel(worker: Worker) -> None:
    async def sleep() -> None:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            os.environ["WAS_CANCELLED"] = "yes"
            raise

    f = worker.function(sleep)
    running, queued, last = (worker.post(f, EMPTY) for _ in range(3))
    worker.write()
    worker.send(Cancel(queued))
    for id in (running, queued):
        worker.send(Cancel(running))
        result = worker.wait(Result)
        assert result.id == id
        with pytest.raises(RemoteError) as caught:
            unpack(result)
        assert type(caught.value.original()) is asyncio.CancelledError
    worker.send(Cancel(999_999_999))
    worker.send(Cancel(last))
    assert worker.wait(Result).id == last
    assert worker.call(lambda: os.environ["WAS_CANCELLED"]) == "yes"


def test_cancel_a_chunk(worker: Worker) -> None:
    payload = pickle.dumps([1000, 1000])
    id = worker.post(worker.function(asyncio.sleep), payload, TaskFlag.CHUNK)
    worker.write()
    worker.send(Cancel(id))
    with pytest.raises(RemoteError, match="CancelledError"):
        unpack(worker.wait(Result))


def test_earlier_results_do_not_wait(worker: Worker) -> None:
    worker.call(give, 1)
    worker.post(worker.function(lambda: 5), EMPTY)
    worker.post(worker.function(asyncio.sleep), pickle.dumps((1000,)))
    worker.write()
    assert unpack(worker.wait(Result)) == 5


def test_a_task_may_stop_the_loop(worker: Worker) -> None:
    async def stop() -> int:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.01)
        return 4

    assert worker.call(stop) == 4


def test_large_results(worker: Worker) -> None:
    data = os.urandom(3_000_000)
    assert worker.call(give, data) == data


@pytest.mark.parametrize("function", [give, lambda value: value], ids=["async", "sync"])
def test_results_that_the_socket_does_not_take_at_once(worker: Worker, function: Any) -> None:
    assert worker.call(give, 1) == 1
    number = worker.function(lambda size: function(bytes(size)))
    for _ in range(3):
        worker.post(number, pickle.dumps((40_000_000,)))
    worker.write()
    assert [len(unpack(worker.wait(Result))) for _ in range(3)] == [40_000_000] * 3


def test_a_task_may_close_the_standard_streams(worker: Worker) -> None:
    """Also again: none of them is a descriptor of the loop by then."""

    def close() -> None:
        for descriptor in range(3):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    for number in range(3):
        worker.call(close)
        assert worker.call(give, number) == number


def test_the_end(client: Client, worker: Worker) -> None:
    worker.call(give, 1)
    id = worker.post(worker.function(give), pickle.dumps((2,)))
    assert [r.id for r in worker.retire() if isinstance(r, Result)] == [id]
    assert client.lost().exitcode == 0


def test_the_end_of_the_connection(client: Client, worker: Worker) -> None:
    worker.call(give, 1)
    worker.post(worker.function(asyncio.sleep), pickle.dumps((1000,)))
    worker.write()
    worker.socket.close()
    assert client.lost().exitcode == 0


def test_an_asynchronous_initializer(client: Client) -> None:
    async def prepare(value: int) -> None:
        await asyncio.sleep(0)
        os.environ["PREPARED"] = str(value)
        sys.modules["ticker"] = asyncio.create_task(tick())  # type: ignore[assignment]

    async def tick() -> None:
        while True:
            await asyncio.sleep(0.001)
            os.environ["TICKS"] = str(int(os.environ.get("TICKS", "0")) + 1)

    async def loop_is_the_same() -> bool:
        task: Any = sys.modules["ticker"]
        return task.get_loop() is asyncio.get_running_loop()

    blob = cloudpickle.dumps((prepare, (5,)))
    (worker,) = client.start(1, setup=Setup(1, 0, LoopType.asyncio, None, blob))
    worker.wait(Ready)
    assert worker.call(lambda: os.environ["PREPARED"]) == "5"
    assert worker.call(loop_is_the_same)
    until(lambda: worker.call(lambda: os.environ.get("TICKS")))


def test_an_asynchronous_initializer_that_fails(client: Client) -> None:
    blob = cloudpickle.dumps((fail, (KeyError("prepare"),)))
    (worker,) = client.start(1, setup=Setup(1, 0, LoopType.asyncio, None, blob))
    failed: SetupFailed = worker.wait(SetupFailed)
    with pytest.raises(RemoteError, match="prepare"):
        raise RemoteError(bytes(failed.blob))


def test_memory_for_large_arguments_is_given_back(client: Client) -> None:
    """On the loop, too."""

    def prepare() -> None:
        from pool_protocol import areas
        from pool_worker import asynchronous

        class Area(areas._Area):
            def __init__(self, size: int) -> None:
                os.environ["AREAS"] = os.environ.get("AREAS", "") + "x"
                super().__init__(size)

        areas._Area = Area  # type: ignore[misc]
        asynchronous.KEEP_MEMORY = 0.01

    async def kept(data: Any) -> int:
        import gc

        from pool_protocol import Areas

        return sum(len(o.kept) for o in gc.get_objects() if isinstance(o, Areas))

    (worker,) = client.start(1)
    worker.call(prepare)
    worker.call(give, 1)
    worker.call(kept, bytes(5_000_000))
    assert worker.call(os.getenv, "AREAS") == "x"
    until(lambda: worker.call(kept, b"") == 0)
