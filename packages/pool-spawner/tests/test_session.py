"""One client's request: settings, its turn, its pool-worker, the end of either."""

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

import pytest

from pool_protocol.messages import Control, Spawn, Spawned, SpawnEnded, SpawnQueued
from pool_spawner import session as session_module
from pool_spawner.process import WorkerProcess
from pool_spawner.session import STOPPED, BadSettings, Session, Turns, read_settings
from pool_spawner.slots import Slots


class Recorder:
    """Stands for the connection."""

    address = "10.0.0.1"

    def __init__(self) -> None:
        self.sent: list[Control] = []
        self.closed = False

    def send(self, message: Control) -> None:
        self.sent.append(message)

    def close(self) -> None:
        self.closed = True

    async def got(self, kind: type[Control]) -> Any:
        while not any(isinstance(one, kind) for one in self.sent):
            await asyncio.sleep(0.001)
        return next(one for one in self.sent if isinstance(one, kind))


class Programs:
    """Stands for the start of ``pool-worker``: what it was told, and what runs in its place."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings: list[dict[str, Any]] = []
        self.text = "input(); import sys; sys.stdin.read(); print('bye', file=sys.stderr)"
        self.error: OSError | None = None
        monkeypatch.setattr(session_module, "WorkerProcess", self.start)

    def start(self, settings: dict[str, Any]) -> WorkerProcess:
        import sys

        if self.error is not None:
            raise self.error
        self.settings.append(settings)
        return WorkerProcess(settings, [sys.executable, "-c", self.text])


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    # A program that is slow to start, on a busy machine, is not killed for it.
    monkeypatch.setattr(WorkerProcess.end, "__defaults__", (1000.0,))
    return Programs(monkeypatch)


def run(body: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(body, 60))


def start(turns: Turns, workers: int, blob: bytes = b"{}") -> tuple[Session, Recorder, Any]:
    peer: Any = Recorder()
    session = Session(peer, turns, "/etc/pool")
    return session, peer, asyncio.create_task(session.run(Spawn(workers, blob)))


def turns(cap: int = 4) -> Turns:
    return Turns(Slots(cap, cpus=2), {})


def test_it_starts_pool_worker_and_tells_how_it_ended(programs: Programs) -> None:
    async def body() -> None:
        settings = json.dumps({"token": "5e", "credential": "/home/client/own.pem"}).encode()
        session, peer, task = start(turns(), 3, settings)
        pid = (await peer.got(Spawned)).pid
        assert programs.settings == [
            {"token": "5e", "credential": "/etc/pool", "max_workers": 3}
        ], "the place of the credential is that of this host"
        session.stop("its client hung up")
        await task
        assert peer.sent == [Spawned(pid), SpawnEnded(0, "its client hung up", b"bye\n")]
        assert peer.closed

    run(body())


def test_a_pool_worker_that_ends_by_itself_is_told_with_its_last_words(
    programs: Programs,
) -> None:
    async def body() -> None:
        programs.text = "import sys; sys.exit('no such socket')"
        _, peer, task = start(turns(), 1)
        await task
        ended = peer.sent[-1]
        assert (ended.exitcode, bytes(ended.blob)) == (1, b"no such socket\n")
        assert ended.reason == "pool-worker ended with exit code 1"

    run(body())


def test_auto_takes_as_many_as_the_host_has_cpus(programs: Programs) -> None:
    async def body() -> None:
        shared = turns(cap=4)
        session, peer, task = start(shared, 0)
        await peer.got(Spawned)
        assert (shared.slots.free, programs.settings[0]["max_workers"]) == (2, 2)
        session.stop("")
        await task
        assert shared.slots.free == 4

    run(body())


def test_more_than_the_cap_is_refused_at_once(programs: Programs) -> None:
    async def body() -> None:
        _, peer, task = start(turns(), 5)
        await task
        [refusal] = peer.sent
        assert isinstance(refusal, SpawnEnded) and "4 at most" in refusal.reason
        assert peer.closed and not programs.settings

    run(body())


def test_who_comes_too_late_waits_for_its_turn(programs: Programs) -> None:
    async def body() -> None:
        shared = turns(cap=4)
        first, _, first_task = start(shared, 3)
        second, peer, second_task = start(shared, 2)
        assert await peer.got(SpawnQueued) == SpawnQueued(free=1, cap=4)
        assert len(programs.settings) == 1
        first.stop("")
        await peer.got(Spawned)
        assert first_task.done() or await first_task is None
        second.stop("")
        await second_task
        assert shared.slots.free == 4 and not shared.waiting

    run(body())


def test_the_slots_are_free_only_when_the_process_is_gone(programs: Programs) -> None:
    async def body() -> None:
        programs.text = "input(); import sys, time; sys.stdin.read(); time.sleep(0.3)"
        shared = turns(cap=2)
        first, peer, task = start(shared, 2)
        await peer.got(Spawned)
        second, waiting, second_task = start(shared, 1)
        await waiting.got(SpawnQueued)
        first.stop("")
        await waiting.got(Spawned)
        assert isinstance(peer.sent[-1], SpawnEnded), "the first one's end came before"
        second.kill()
        await asyncio.gather(task, second_task)

    run(body())


@pytest.mark.parametrize("reason", ["its client hung up", STOPPED])
def test_who_waits_may_hang_up(programs: Programs, reason: str) -> None:
    async def body() -> None:
        shared = turns(cap=2)
        first, _, first_task = start(shared, 2)
        second, peer, second_task = start(shared, 1)
        await peer.got(SpawnQueued)
        second.stop(reason)
        await second_task
        assert peer.sent[-1] == SpawnEnded(0, reason)
        first.stop("")
        await first_task
        assert shared.slots.free == 2 and not shared.waiting

    run(body())


def test_killed_it_does_not_wait_for_a_program_that_hangs(programs: Programs) -> None:
    async def body() -> None:
        programs.text = "import time; time.sleep(1000)"
        session, peer, task = start(turns(), 1)
        await peer.got(Spawned)
        session.kill()
        await task
        assert peer.sent[-1].exitcode == -9
        assert peer.sent[-1].reason == STOPPED

    run(body())


def test_a_program_that_cannot_be_started_is_told(programs: Programs) -> None:
    async def body() -> None:
        programs.error = OSError(11, "Resource temporarily unavailable")
        shared = turns()
        _, peer, task = start(shared, 1)
        await task
        assert "cannot start pool-worker" in peer.sent[-1].reason
        assert "Resource temporarily" in peer.sent[-1].reason
        assert shared.slots.free == 4

    run(body())


@pytest.mark.parametrize("blob", [b"", b"\x80\x04K\x01.", b"[1]", b"7", b"{" * 9000, b"\xff"])
def test_settings_that_are_none_are_refused(programs: Programs, blob: bytes) -> None:
    with pytest.raises(BadSettings, match="same release"):
        read_settings(blob)

    async def body() -> None:
        _, peer, task = start(turns(), 1, blob)
        await task
        assert "settings" in peer.sent[-1].reason and not programs.settings

    run(body())


def test_its_repr_shows_no_secret(programs: Programs) -> None:
    async def body() -> None:
        session, peer, task = start(turns(), 1, b'{"token": "5ec2e7"}')
        assert "waiting" in repr(session)
        await peer.got(Spawned)
        assert "5ec2e7" not in repr(session) + repr(vars(session))
        session.stop("")
        await task

    run(body())
