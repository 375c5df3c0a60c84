"""pool_worker.process: one worker of the real program."""

import atexit
import contextlib
import gc
import os
import pickle
import signal
import stat
import sys
import time
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from driver import Client, RemoteError, Worker, frames, unpack

from pool_protocol import LoopType, PickleType
from pool_protocol.messages import (
    Cancel,
    Forget,
    Ready,
    Result,
    ResultFlag,
    Setup,
    SetupFailed,
    Start,
    TaskFlag,
)
from pool_protocol.parts import unpack_part
from pool_protocol.serializers import unpack_separate

EMPTY = pickle.dumps(())


def setup(**changes: Any) -> Setup:
    values: dict[str, Any] = {
        "func_pickle": PickleType.cloudpickle,
        "data_pickle": PickleType.pickle,
        "worker_loop": LoopType.default,
        "max_message": None,
    }
    return Setup(**values | changes)


def initializer(function: Any, *arguments: Any) -> bytes:
    return cloudpickle.dumps((function, arguments))


# -- the beginning


def test_ready(client: Client) -> None:
    (worker,) = client.start(7, setup=setup())
    ready: Ready = worker.wait(Ready)
    assert ready.python.startswith(f"{sys.version_info[0]}.{sys.version_info[1]}.")
    assert worker.call(os.getpid) == ready.pid
    assert worker.connection.identity is not None
    assert worker.connection.identity.worker == 7


def test_the_initializer_runs_first(client: Client) -> None:
    def remember(value: int) -> None:
        os.environ["REMEMBERED"] = str(value)

    (worker,) = client.start(1, setup=setup(blob=initializer(remember, 5)))
    worker.wait(Ready)
    assert worker.call(lambda: os.environ["REMEMBERED"]) == "5"


def test_no_initializer(client: Client) -> None:
    (worker,) = client.start(1, setup=setup(blob=initializer(None)))
    assert worker.wait(Ready).pid


def fail() -> None:
    raise LookupError("in the initializer")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"blob": initializer(fail)}, "in the initializer"),
        ({"blob": initializer(sys.exit, 4)}, "4"),
        ({"blob": b"garbage"}, "pickle"),
        ({"worker_loop": LoopType.proactor}, "Windows"),
        ({"worker_loop": 99}, "99"),
        ({"data_pickle": 99}, "99"),
    ],
)
def test_a_set_up_that_fails(client: Client, change: dict[str, Any], named: str) -> None:
    (worker,) = client.start(1, setup=setup(**change))
    failed: SetupFailed = worker.wait(SetupFailed)
    assert named in str(RemoteError(bytes(failed.blob)))
    assert worker.drain() == []
    lost = client.lost()
    assert (lost.worker, lost.pid, lost.exitcode, lost.started) == (1, failed.pid, 1, 0)


def fail_at_length() -> None:
    raise LookupError("in the initializer" * 1000)


def test_a_set_up_that_fails_with_an_error_over_the_limit(folder: Path) -> None:
    """The client is told that much, rather than nothing."""
    with Client(folder, max_message=4096) as client:
        (worker,) = client.start(1, setup=setup(blob=initializer(fail_at_length)))
        failed: SetupFailed = worker.wait(SetupFailed)
        told = str(RemoteError(bytes(failed.blob)))
        assert "max_message" in told and "LookupError" in told
        assert client.lost().exitcode == 1


def test_it_must_begin_with_a_set_up(client: Client) -> None:
    client.control.send(Start([1]))
    client.workers[1] = worker = client.accept()
    worker.send(Forget(1))
    assert worker.drain() == []
    assert client.lost().exitcode == 1


def test_the_surroundings(folder: Path) -> None:
    where = str(folder)
    with Client(folder, cwd=where, sys_path=[*sys.path, where], share=1) as client:
        (worker,) = client.start(1)
        (folder / "beside.py").write_text("def f(): return 'beside'\n")
        assert worker.call(os.getcwd) == os.path.realpath(where)
        assert worker.call(lambda: __import__("beside").f()) == "beside"
        threads = os.environ.get("OMP_NUM_THREADS", str(client.hello.cpus))
        assert worker.call(lambda: os.environ["OMP_NUM_THREADS"]) == threads


def look() -> dict[str, Any]:
    names = os.listdir("/proc/self/fd")
    return {
        "descriptors": len(names) - 1,  # one of them lists the directory
        "leader": os.getsid(0) == os.getpid(),
        "interrupt": signal.getsignal(signal.SIGINT),
        "term": signal.getsignal(signal.SIGTERM),
        "mask": len(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "stdin": os.readlink("/proc/self/fd/0"),
        "frozen": gc.get_freeze_count() > 0,
        "argv": Path("/proc/self/cmdline").read_bytes(),
        "environ": Path("/proc/self/environ").read_bytes(),
    }


def test_a_worker_has_nothing_but_its_own(client: Client) -> None:
    for worker in client.start(1, 2):
        assert not worker.call(lambda: "asyncio" in sys.modules)
        seen = worker.call(look)
        # Standard streams, the socket, and the page's own.
        assert seen["descriptors"] <= 5
        assert seen["leader"] and seen["frozen"] and seen["mask"] == 0
        assert (seen["interrupt"], seen["term"]) == (signal.SIG_IGN, signal.SIG_DFL)
        assert seen["stdin"] == os.devnull
        for secret in (client.token.hex().encode(), client.token):
            assert secret not in seen["argv"] and secret not in seen["environ"]


# -- the middle


def test_many_tasks_of_two_functions_in_one_batch(worker: Worker) -> None:
    double, square = worker.function(lambda n: 2 * n), worker.function(lambda n: n * n)
    sent = [
        (worker.post(f, pickle.dumps((n,))), value)
        for n in range(500)
        for f, value in ((double, 2 * n), (square, n * n))
    ]
    worker.write()
    for id, value in sent:
        result: Result = worker.wait(Result)
        assert (result.id, unpack(result)) == (id, value)


def test_errors_are_theirs_alone(worker: Worker) -> None:
    f = worker.function(lambda n: 1 / n)
    ids = [worker.post(f, pickle.dumps((n,))) for n in (1, 0, 2)]
    ids.append(worker.post(99, pickle.dumps((1,))))
    ids.append(worker.post(f, b"garbage"))
    ids.append(worker.post(f, pickle.dumps((4,))))
    worker.write()
    results = [worker.wait(Result) for _ in ids]
    assert [r.id for r in results] == ids
    assert [bool(r.flags & ResultFlag.ERROR) for r in results] == [0, 1, 0, 1, 1, 0]
    with pytest.raises(RemoteError, match="never told of function 99"):
        unpack(results[3])


def test_a_task_may_exit(worker: Worker) -> None:
    with pytest.raises(RemoteError) as caught:
        worker.call(sys.exit, 5)
    assert isinstance(caught.value.original(), SystemExit)
    assert worker.call(os.getpid) == worker.pid


def test_service_times(worker: Worker) -> None:
    """From the end of the task before to its own, without the time in the queue."""

    def sleep(seconds: float) -> tuple[int, int]:
        began = time.monotonic_ns()
        time.sleep(seconds)
        return began, time.monotonic_ns()

    f = worker.function(sleep)
    for seconds in (0.05, 0.0):
        worker.post(f, pickle.dumps((seconds,)))
    worker.write()
    slow, fast = (worker.wait(Result) for _ in range(2))
    arrived = time.monotonic_ns()
    (slow_began, slow_ended), (fast_began, fast_ended) = unpack(slow), unpack(fast)
    assert slow.nanos >= slow_ended - slow_began >= 50_000_000
    assert fast_ended - fast_began <= fast.nanos <= arrived - slow_ended


def test_a_result_does_not_wait_for_the_next_task(worker: Worker) -> None:
    sleep = worker.function(time.sleep)
    worker.post(sleep, pickle.dumps((0.01,)))
    worker.post(sleep, pickle.dumps((1000,)))
    worker.write()
    assert unpack(worker.wait(Result)) is None


def test_large_values_both_ways(worker: Worker) -> None:
    data = os.urandom(5_000_000)
    assert worker.call(lambda x: x, data) == data
    assert worker.call(lambda x: [x, 1], data) == [data, 1]
    assert worker.call(lambda x: pickle.PickleBuffer(bytearray(x)), data) == data


def test_over_max_message(client: Client) -> None:
    (worker,) = client.start(1, setup=setup(max_message=1000))
    worker.wait(Ready)
    assert worker.call(lambda: b"x" * 900) == b"x" * 900
    for big in (lambda: b"x" * 1000, lambda: b"x" * 1_000_000):
        with pytest.raises(RemoteError, match="FrameTooLarge"):
            worker.call(big)
    assert worker.call(lambda: 1) == 1


@pytest.mark.parametrize("kind", [list, lambda size: {"size": bytes(size)}])
def test_a_chunk_over_max_message_is_answered_in_parts(client: Client, kind: Any) -> None:
    """Nothing is run twice for it; what is too large alone fails alone."""
    (worker,) = client.start(1, setup=setup(max_message=2000))
    worker.wait(Ready)
    sizes = [900, 900, 5000, 900, 10]
    ran: list[int] = []

    def give(size: int) -> Any:
        ran.append(size)
        return bytes(size) if kind is list else kind(size)

    function = worker.function(give)
    id = worker.post(function, pickle.dumps(sizes), TaskFlag.CHUNK)
    worker.post(worker.function(lambda: ran), EMPTY)
    worker.write()
    values: list[Any] = []
    failed: list[int] = []
    while (result := worker.wait(Result)).id != id + 1:
        payload = result.payload
        if result.flags == ResultFlag.PART:
            assert result.id == 0
            whose, first, payload = unpack_part(payload)
            assert (whose, first) == (id, len(values))
        else:
            assert (result.id, result.flags) == (id, ResultFlag.CHUNK | ResultFlag.SEPARATE)
        bodies, wrong = unpack_separate(payload)
        failed += [len(values) + index for index in wrong]
        values += bodies
    assert failed == [2]
    assert [pickle.loads(v) for i, v in enumerate(values) if i != 2] == [
        bytes(size) if kind is list else kind(size) for size in (900, 900, 900, 10)
    ]
    assert b"over the limit of 2,000 bytes; raise max_message" in bytes(values[2])


def test_a_death_with_more_in_the_page_than_one_message_may_hold(folder: Path) -> None:
    """The supervisor lives to tell it, and no result is lost."""
    with Client(folder, max_message=2000) as client:
        (worker,) = client.start(1, setup=setup(max_message=2000))
        worker.wait(Ready)
        give = worker.function(bytes)
        ids = [worker.post(give, pickle.dumps((900,))) for _ in range(5)]
        last = worker.post(worker.function(lambda: os.kill(os.getpid(), signal.SIGKILL)), EMPTY)
        worker.write()
        lost = client.lost()
        assert (lost.exitcode, lost.started) == (-signal.SIGKILL, last)
        found = [*worker.drain(), *frames(bytes(lost.blob))]
        assert {result.id for result in found if isinstance(result, Result)} == set(ids)
        (other,) = client.start(2, setup=setup(max_message=2000))
        other.wait(Ready)
        assert other.call(lambda: 1) == 1


def test_parts_do_not_lie_in_the_page(client: Client) -> None:
    """What a supervisor finds there may overtake what was written before it."""
    (worker,) = client.start(1, setup=setup(max_message=2000))
    worker.wait(Ready)
    id = worker.post(worker.function(bytes), pickle.dumps([900, 900, 900]), TaskFlag.CHUNK)
    worker.post(worker.function(lambda: os.kill(os.getpid(), signal.SIGKILL)), EMPTY)
    worker.write()
    assert client.lost().blob == b""
    results = [message for message in worker.drain() if isinstance(message, Result)]
    assert [result.id for result in results] == [0, id]


@pytest.mark.parametrize("data", list(PickleType))
def test_serializers(client: Client, data: PickleType) -> None:
    if data is PickleType.dill:
        pytest.importorskip("dill")
    (worker,) = client.start(1, setup=setup(data_pickle=data))
    worker.wait(Ready)
    worker.post(worker.function(lambda x: [x]), pickle.dumps(("a",)))
    worker.write()
    assert unpack(worker.wait(Result), data) == ["a"]


def test_a_tasks_output_and_closed_streams_do_no_harm(worker: Worker) -> None:
    def close() -> None:
        for descriptor in range(3):
            os.close(descriptor)

    worker.call(close)
    assert worker.call(lambda: 5) == 5
    worker.retire()


def test_a_forked_child_does_not_hold_the_connection(worker: Worker) -> None:
    def fork() -> str:
        reader, writer = os.pipe()
        if not os.fork():
            sockets = []
            for number in range(3, 50):
                with contextlib.suppress(OSError):
                    if stat.S_ISSOCK(os.fstat(number).st_mode):
                        sockets.append(number)
            os.write(writer, str(sockets).encode())
            os._exit(0)
        os.wait()
        return os.read(reader, 1000).decode()

    assert worker.call(fork) == "[]"


@pytest.mark.parametrize("how", ["return", "sys.exit()", "sys.exit(3)", "raise ValueError(3)"])
def test_a_forked_child_that_comes_back_from_its_task_ends(worker: Worker, how: str) -> None:
    """It neither answers in its parent's place nor writes to its parent's page."""

    def fork() -> tuple[str, int]:
        child = os.fork()
        if not child:
            exec(f"def leave():\n import sys\n {how}", names := {})
            return names["leave"]()
        return "parent", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    async def fork_later() -> tuple[str, int]:
        return fork()

    expected = {"return": 0, "sys.exit()": 0, "sys.exit(3)": 3}.get(how, 1)
    for function in (fork, fork_later, fork):
        assert worker.call(function) == ("parent", expected)


# -- cancelled, forgotten


def test_cancelled_before_it_starts(worker: Worker) -> None:
    f = worker.function(lambda n: n)
    ids = [worker.post(f, pickle.dumps((n,))) for n in range(3)]
    worker.connection.send(Cancel(ids[1]))
    worker.connection.send(Cancel(123456789))
    worker.write()
    results = {r.id: r for r in (worker.wait(Result) for _ in ids)}
    assert unpack(results[ids[0]]) == 0 and unpack(results[ids[2]]) == 2
    with pytest.raises(RemoteError, match="CancelledError"):
        unpack(results[ids[1]])
    worker.send(Cancel(ids[2]))
    assert worker.call(lambda: 1) == 1


def test_forgotten(worker: Worker) -> None:
    f = worker.function(lambda: 1)
    worker.post(f, EMPTY)
    worker.connection.send(Forget(f))
    worker.post(f, EMPTY)
    worker.write()
    assert unpack(worker.wait(Result)) == 1
    with pytest.raises(RemoteError, match="never told"):
        unpack(worker.wait(Result))


# -- the end


def test_retire_finishes_what_it_holds(client: Client, worker: Worker, folder: Path) -> None:
    file = str(folder / "atexit")

    def prepare() -> None:
        import pool_worker.process

        pool_worker.process.EXIT_PATIENCE = 1000.0  # the machine may be busy
        atexit.register(lambda: open(file, "w").close())

    worker.call(prepare)
    ids = [worker.post(worker.function(time.sleep), pickle.dumps((0.01,))) for _ in range(3)]
    results = worker.retire()
    assert [r.id for r in results if isinstance(r, Result)] == ids
    lost = client.lost()
    assert (lost.exitcode, lost.started, lost.reason) == (0, 0, "")
    assert os.path.exists(file)


def test_exit_functions_that_wait_for_ever(client: Client, worker: Worker) -> None:
    def wait() -> None:
        import pool_worker.process

        pool_worker.process.EXIT_PATIENCE = 0.05
        atexit.register(time.sleep, 1000)

    worker.call(wait)
    worker.retire()
    assert client.lost().exitcode == 0


def test_the_end_of_the_connection_ends_it(client: Client, worker: Worker) -> None:
    worker.socket.close()
    assert client.lost().exitcode == 0


def test_a_broken_message_ends_it(client: Client, worker: Worker) -> None:
    worker.socket.sendall(b"\xff" * 100)
    assert client.lost().exitcode == 1
    assert "a frame claims" in client.finish()


def test_a_handler_that_raises_between_tasks_ends_it(client: Client, worker: Worker) -> None:
    """The error is shown: it is not the connection's, though it is an OSError."""

    def arm() -> None:
        def late(number: int, frame: object) -> None:
            raise TimeoutError("too late")

        signal.signal(signal.SIGUSR1, late)

    worker.call(arm)
    os.kill(worker.pid, signal.SIGUSR1)
    assert client.lost().exitcode == 1
    assert "TimeoutError: too late" in client.finish()


def test_a_task_that_closes_the_connection_ends_it(client: Client, worker: Worker) -> None:
    id = worker.post(worker.function(os.closerange), pickle.dumps((3, 100)))
    worker.write()
    lost = client.lost()
    assert (lost.exitcode, lost.started) == (1, id)
    assert [(r.id, unpack(r)) for r in frames(lost.blob)] == [(id, None)]  # type: ignore[union-attr, arg-type]


def test_a_client_that_refuses_it(client: Client) -> None:
    client.control.send(Start([1]))
    client.listener.accept()[0].close()
    client.listener.close()
    lost = client.lost()
    assert (lost.exitcode, lost.started) == (1, 0)


def test_shut_out_once(client: Client) -> None:
    client.control.send(Start([1]))
    client.listener.accept()[0].close()
    client.workers[1] = worker = client.accept()
    worker.send(setup())
    assert worker.wait(Ready).pid


def test_chunks_over_the_wire(worker: Worker) -> None:
    for flags in (0, TaskFlag.SEPARATE):
        values = worker.chunk(lambda n: 1 / n, [1, 0, 2], flags)
        assert values[::2] == [1.0, 0.5] and values[1].type == "ZeroDivisionError"
