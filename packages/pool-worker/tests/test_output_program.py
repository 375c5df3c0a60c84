"""What tasks print, forwarded by the whole program."""

import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from driver import PATIENCE, Client, Worker
from test_children import gone, state, until

from pool_protocol import Role
from pool_protocol.messages import Kill, Lost, Message, Output, OutputTaken, Ping, Pong, Start, Stop
from pool_worker.lines import WINDOW

#: The end waits for a client that is slow because the machine is busy.
PATIENT = "from pool_worker import supervisor\nsupervisor.LAST_WORDS = 1000.0"


@pytest.fixture
def client(folder: Path) -> Iterator[Client]:
    with Client(folder, before=PATIENT, output=True) as client:
        yield client


def outputs(client: Client, enough: Callable[[bytes], object], worker: int = 1) -> list[Output]:
    """What a worker printed, acknowledged as it comes."""
    got: list[Output] = []
    while not enough(b"".join(output.blob for output in got)):
        output: Output = client.control.wait(Output)
        client.control.send(OutputTaken(len(output.blob)))
        if output.worker == worker:
            got.append(output)
    return got


def both(text: str) -> None:
    print(text)
    print(text.upper(), file=sys.stderr)


def test_lines_arrive_from_both_streams(client: Client) -> None:
    one, two = client.start(1, 2)
    one.call(both, "from one")
    two.call(both, "from two")
    got = {(o.worker, o.stream, o.dropped, o.blob) for o in (wait(client) for _ in range(4))}
    assert got == {
        (1, 1, 0, b"from one\n"),
        (1, 2, 0, b"FROM ONE\n"),
        (2, 1, 0, b"from two\n"),
        (2, 2, 0, b"FROM TWO\n"),
    }


def wait(client: Client) -> Output:
    output: Output = client.control.wait(Output)
    return output


def test_everything_below_python_too(client: Client, worker: Worker) -> None:
    worker.call(os.system, "echo out; echo err >&2")
    worker.call(os.write, 1, b"raw\n")
    got = b"".join(o.blob for o in outputs(client, lambda blob: len(blob) >= 12))
    assert sorted(got.split()) == [b"err", b"out", b"raw"]


def test_any_text(client: Client, worker: Worker) -> None:
    worker.call(print, "\N{SNOWMAN}\udc80")
    assert wait(client).blob == "\N{SNOWMAN}\\udc80\n".encode()


def test_order_within_a_stream(client: Client, worker: Worker) -> None:
    def count() -> None:
        for number in range(20_000):
            print(number)

    worker.post(worker.function(count), pickle.dumps(()))
    worker.write()
    got = outputs(client, lambda blob: blob.endswith(b"19999\n"))
    lines = b"".join(output.blob for output in got).split()
    numbers = [int(line) for line in lines]
    assert numbers == sorted(numbers)
    assert len(numbers) + sum(output.dropped for output in got) == 20_000


@pytest.mark.parametrize("end", [os._exit, os.abort, sys.exit])
def test_the_last_words_come_before_the_loss(
    client: Client, worker: Worker, end: Callable[..., Any]
) -> None:
    def speak() -> None:
        print("x" * 5000)
        print("last words", end="", flush=True)
        end(*(() if end is os.abort else (3,)))

    worker.post(worker.function(speak), pickle.dumps(()))
    worker.write()
    if end is sys.exit:  # that does not end it; this does
        worker.retire()
    assert client.lost().worker == 1
    printed = [m for m in client.control.received if isinstance(m, Output)]
    assert b"".join(o.blob for o in printed if o.stream == 1) == b"x" * 5000 + b"\nlast words\n"


def test_the_loss_is_not_faster(client: Client, worker: Worker, folder: Path) -> None:
    """The supervisor learns of both at the same moment."""
    go = str(folder / "go")

    def speak() -> None:
        while not os.path.exists(go):
            time.sleep(0.001)
        print("x" * 1000)
        os._exit(3)

    worker.post(worker.function(speak), pickle.dumps(()))
    worker.write()
    client.process.send_signal(signal.SIGSTOP)
    until(lambda: state(client.process.pid) == "T")
    Path(go).touch()
    until(lambda: state(worker.pid) == "Z")
    client.process.send_signal(signal.SIGCONT)
    assert client.lost().worker == 1
    assert any(isinstance(m, Output) for m in client.control.received)


def test_a_child_that_holds_the_pipe_does_not_hold_the_last_words(
    client: Client, worker: Worker
) -> None:
    def speak() -> None:
        subprocess.Popen(["sleep", "1000"], start_new_session=True)
        os.write(1, b"unended")
        os._exit(3)

    worker.post(worker.function(speak), pickle.dumps(()))
    worker.write()
    assert client.lost().worker == 1
    assert [m.blob for m in client.control.received if isinstance(m, Output)] == [b"unended\n"]


def test_a_child_that_keeps_printing_holds_nothing_up(client: Client, worker: Worker) -> None:
    def leave() -> int:
        return subprocess.Popen(["yes"], start_new_session=True).pid

    pid = worker.call(leave)
    wait(client)
    client.control.send(Kill(1), Ping(1))
    assert client.lost().worker == 1
    assert client.control.wait(Pong).number == 1
    until(lambda: gone(pid))


def flood() -> None:
    while True:
        os.write(1, b"x" * 99 + b"\n" * 400)


def test_a_flood_that_nobody_prints(client: Client) -> None:
    """The task is not blocked, the supervisor answers, and memory does not grow."""
    one, two, three = client.start(1, 2, 3)
    for worker in (one, two):
        worker.post(worker.function(flood), pickle.dumps(()))
        worker.write()
    until(lambda: under_way(client) > WINDOW // 2)
    before = memory(client.process.pid)
    for number in range(20):
        client.control.send(Ping(number))
        assert client.control.wait(Pong).number == number
    assert three.call(lambda: "works") == "works"
    assert under_way(client) <= WINDOW
    client.control.send(Kill(1))
    assert client.lost().worker == 1
    assert not gone(two.pid)
    assert memory(client.process.pid) < before + 4_000_000
    # The rest follows when there is room, with what was lost counted.
    client.control.send(OutputTaken(under_way(client)))
    del client.control.received[:]
    until_output = wait(client)
    assert until_output.blob
    client.control.send(OutputTaken(len(until_output.blob)))
    dropped = 0
    while not dropped:
        output = wait(client)
        client.control.send(OutputTaken(len(output.blob)))
        dropped += output.dropped


def under_way(client: Client) -> int:
    while client.control.readable(0.02):
        client.control.read()
    return sum(len(m.blob) for m in client.control.received if isinstance(m, Output))


def memory(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_limits_are_watched_in_a_flood(client: Client) -> None:
    from pool_protocol.messages import Watch

    one, two = client.start(1, 2)
    client.control.send(Watch(True))
    one.post(one.function(flood), pickle.dumps(()))
    one.write()
    until(lambda: under_way(client) > WINDOW // 2)
    two.post(two.function(time.sleep), pickle.dumps((1000,)), timeout=0.1)
    two.write()
    lost = client.lost()
    assert (lost.worker, lost.reason) == (2, "timeout")


@pytest.mark.parametrize("end", ["stop", "stdin", "term"])
def test_the_end_of_the_pool_waits_for_the_last_words(client: Client, end: str) -> None:
    workers = client.start(1, 2)
    for worker in workers:
        worker.call(lambda: os.write(1, b"%060d\n" % 0 * 1000 + b"unended"))
    if end == "stop":
        client.control.send(Stop())
    elif end == "stdin":
        assert client.process.stdin is not None
        client.process.stdin.close()
    else:
        client.process.send_signal(signal.SIGTERM)
    got = [m for m in client.control.drain() if isinstance(m, Output)]
    client.control.socket.close()
    assert client.process.wait(PATIENCE) == 0
    for number in (1, 2):
        blob = b"".join(o.blob for o in got if o.worker == number)
        assert blob.count(b"\n") == 1001 and blob.endswith(b"unended\n")


def test_the_last_words_through_a_network(folder: Path, credential: Path) -> None:
    """They arrive, though the client talks while they do."""
    with Client(folder, before=PATIENT, output=True, credential=str(credential)) as client:
        (worker,) = client.start(1)
        line = b"x" * 999 + b"\n"
        count = WINDOW // len(line)  # no more than is kept if nothing at all can go out
        worker.call(lambda: [os.write(1, line) for _ in range(count)] and None)
        client.control.send(Stop())
        until(lambda: gone(worker.pid))
        got = 0
        while got < count * len(line):
            output = wait(client)
            assert not output.dropped
            got += len(output.blob)
            with suppress(OSError):
                client.control.send(OutputTaken(len(output.blob)))
        client.control.socket.close()
        assert client.process.wait(PATIENCE) == 0


def test_the_end_of_a_pool_whose_client_does_not_listen(folder: Path) -> None:
    with Client(folder, before=PATIENT.replace("1000.0", "0.1"), output=True) as client:
        (worker,) = client.start(1)
        worker.post(worker.function(flood), pickle.dumps(()))
        worker.write()
        until(lambda: under_way(client) > WINDOW // 2)
        client.control.send(Stop())
        assert client.process.wait(PATIENCE) == 0


def test_what_comes_before_the_connection_is_the_launchers(client: Client) -> None:
    client.listener.close()
    client.control.send(Start([3]))
    assert client.lost().exitcode == 1
    assert "worker 3 cannot connect" in client.finish()
    assert not any(isinstance(m, Output) for m in client.control.drain())


def test_an_initializer_prints_too(client: Client) -> None:
    import cloudpickle

    from pool_protocol.messages import Ready, Setup

    blob = cloudpickle.dumps((print, ("prepared",)))
    (worker,) = client.start(1, setup=Setup(1, 0, 0, None, blob))
    worker.wait(Ready)
    assert wait(client).blob == b"prepared\n"


def test_descriptors_of_a_worker(client: Client) -> None:
    for worker in client.start(1, 2, 3):
        names = worker.call(os.listdir, "/proc/self/fd")
        assert len(names) <= 6
        kinds = worker.call(lambda: [os.readlink(f"/proc/self/fd/{n}") for n in (1, 2)])
        assert all(kind.startswith("pipe:") for kind in kinds) and kinds[0] != kinds[1]


def test_pipes_are_let_go(client: Client) -> None:
    client.start(1)
    before = client.descriptors()
    for number in range(2, 6):
        (worker,) = client.start(number)
        worker.call(print, "x")
        worker.retire()
        assert client.lost().worker == number
    assert client.descriptors() == before


def test_more_workers_than_descriptors(folder: Path) -> None:
    few = """
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (40, hard))
"""
    with Client(folder, before=few, output=True) as client:
        workers = client.start(*range(1, 31))
        assert workers[-1].call(resource.getrlimit, resource.RLIMIT_NOFILE)[0] == 40
        assert workers[-1].call(print, "x") is None


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_spawned_ones_and_over_tls(folder: Path, credential: Path, method: str) -> None:
    flags = ["--start-method", method]
    with Client(folder, flags, PATIENT, output=True, credential=str(credential)) as client:
        one, two = client.start(1, 2)
        one.call(both, "hello")
        assert {wait(client).blob for _ in range(2)} == {b"hello\n", b"HELLO\n"}
        assert len(two.call(os.listdir, "/proc/self/fd")) <= 6
        two.call(both, "still here")
        client.control.send(Stop())
        got: list[Message] = client.control.drain()
        client.control.socket.close()
        blobs = {m.blob for m in got if isinstance(m, Output)}
        assert blobs == {b"still here\n", b"STILL HERE\n"}


def test_without_output_nothing_is_made(folder: Path) -> None:
    with Client(folder) as client:
        before = client.descriptors()
        workers = client.start(1, 2, 3)
        assert client.descriptors() == before
        client.control.send(OutputTaken(5), Ping(1))
        assert client.control.wait(Pong)
        assert all(w.connection.role is Role.TASK for w in workers)
        assert not any(isinstance(m, (Output, Lost)) for m in client.control.received)
