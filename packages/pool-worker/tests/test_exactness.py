"""Taking back and dying in the middle of tiny tasks: nothing runs twice, nothing is lost."""

import os
import pickle
import random
import signal
import time
from pathlib import Path

import pytest
from driver import Client, Worker, frames

from pool_protocol.messages import Recall, Recalled, Result, Retire


def write_down(number: int, log: str, size: int) -> bytes:
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, b"%d\n" % number)
    os.close(descriptor)
    return bytes(size)


class Life:
    """What was sent to one worker, and what became of it."""

    def __init__(self, client: Client, worker: Worker, log: str) -> None:
        self.client, self.worker, self.log = client, worker, log
        self.sent: list[int] = []
        self.taken_back: set[int] = set()
        self.answered: set[int] = set()
        self.function = worker.function(write_down)

    def send(self, count: int, choose: random.Random) -> None:
        for _ in range(count):
            id = next(Worker._ids)
            payload = pickle.dumps((id, self.log, choose.choice([1, 10, 3000])))
            self.worker.connection.send_task(id, self.function, 0, payload)
            self.sent.append(id)
        self.worker.write()
        # Results that nobody reads would stop the worker in the end.
        while self.worker.readable(0):
            self.worker.read()
        self.note_received()

    def take_back(self) -> None:
        self.client.control.send(Recall(1, self.sent[-1]))
        recalled: Recalled = self.client.control.wait(Recalled)
        self.note(recalled.blob)
        # Zero: the machine was too busy to stop it in time.
        self.taken_back |= {id for id in self.sent if recalled.started < id <= recalled.last}

    def note(self, blob: bytes | bytearray | memoryview) -> None:
        self.answered |= {m.id for m in frames(blob) if isinstance(m, Result)}

    def note_received(self) -> None:
        self.answered |= {m.id for m in self.worker.received if isinstance(m, Result)}

    def end(self, kill: bool) -> int:
        """The task that was running."""
        if kill:
            os.kill(self.worker.pid, signal.SIGKILL)
        else:
            self.worker.send(Retire())
        self.worker.drain()
        self.note_received()
        lost = self.client.lost()
        self.note(lost.blob)
        return lost.started


@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_exact(client: Client, worker: Worker, folder: Path, seed: int, kill: bool) -> None:
    choose = random.Random(seed)
    log = folder / "log"
    life = Life(client, worker, str(log))
    rounds, deadline = 0, time.monotonic() + 60
    # On a busy machine it may take more until a worker is caught in the middle.
    while rounds < 30 or not (life.taken_back and life.answered):
        assert time.monotonic() < deadline
        life.send(choose.choice([1, 20, 200]), choose)
        time.sleep(choose.choice([0, 0, 0.0001, 0.001, 0.003]))
        life.take_back()
        rounds += 1
    started = life.end(kill)
    ran = [int(line) for line in log.read_text().split()]
    assert len(ran) == len(set(ran))
    assert not life.taken_back & set(ran)
    assert not life.taken_back & life.answered
    assert set(life.sent) - life.taken_back - life.answered <= ({started} if kill else set())
