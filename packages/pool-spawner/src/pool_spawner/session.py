"""What one client asked for, from its Spawn to the end of the ``pool-worker`` started for it."""

import asyncio
import json
import logging
from dataclasses import dataclass
from typing import Any

from pool_protocol import Buffer
from pool_protocol.messages import Spawn, Spawned, SpawnEnded, SpawnQueued
from pool_spawner.peer import Peer
from pool_spawner.process import WorkerProcess, describe_exit
from pool_spawner.slots import OverCap, Slots

logger = logging.getLogger("pool_spawner")

#: Why a session ends before its pool-worker does by itself.
HUNG_UP = "its client hung up"
GONE = "the connection to its client broke"
STOPPED = "pool-spawner was stopped on that host"


class BadSettings(ValueError):
    """The settings cannot be used; the text shows none of them, for they hold a secret."""


@dataclass(slots=True)
class Turns:
    """The slots, and the clients that wait for their turn on the loop."""

    slots: Slots
    waiting: "dict[Session, asyncio.Future[None]]"

    def enter(self, who: "Session", workers: int) -> "asyncio.Future[None]":
        """Ask for slots; the future is done once they are ours."""
        turn = asyncio.get_running_loop().create_future()
        if self.slots.enter(who, workers):
            turn.set_result(None)
        else:
            self.waiting[who] = turn
        return turn

    def leave(self, who: "Session") -> None:
        """Give the slots back, and wake those whose turn has come."""
        self.waiting.pop(who, None)
        for granted in self.slots.leave(who):
            assert isinstance(granted, Session)
            self.waiting.pop(granted).set_result(None)


class Session:
    """One client's ``pool-worker``. The connection is its lifeline: `stop` when that is over."""

    def __init__(self, peer: Peer, turns: Turns, credential: str) -> None:
        self.peer = peer
        self._turns = turns
        self._credential = credential
        self._stopped: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._process: WorkerProcess | None = None

    def __repr__(self) -> str:
        return f"<Session {self.peer.address} {self._process or 'waiting'}>"

    def stop(self, reason: str) -> None:
        """End it: the client is gone, or we are stopped. Returns at once; see `run`."""
        if not self._stopped.done():
            self._stopped.set_result(reason)

    def kill(self) -> None:
        """End it by force."""
        self.stop(STOPPED)
        if self._process is not None:
            self._process.kill()

    async def run(self, spawn: Spawn) -> None:
        """Do what the client asks for; returns when that is over and nothing is left of it."""
        try:
            ended = await self._run(spawn)
        finally:
            self._turns.leave(self)
        self.peer.send(ended)
        self.peer.close()

    async def _run(self, spawn: Spawn) -> SpawnEnded:
        slots = self._turns.slots
        try:
            settings = read_settings(spawn.blob)
            workers = slots.wanted(spawn.workers)
        except (OverCap, BadSettings) as error:
            logger.warning("refused %s: %s", self.peer.address, error, extra=self._extra())
            return SpawnEnded(0, str(error))
        turn = self._turns.enter(self, workers)
        if not turn.done():
            logger.info("%s waits for %d workers", self.peer.address, workers, extra=self._extra())
            self.peer.send(SpawnQueued(slots.free, slots.cap))
            await first(turn, self._stopped)
        if self._stopped.done():
            return SpawnEnded(0, self._stopped.result())
        return await self._work(settings, workers)

    async def _work(self, settings: dict[str, Any], workers: int) -> SpawnEnded:
        try:
            # What only this host can know: where the credential is, and how many it may start.
            ours = {"credential": self._credential, "max_workers": workers}
            process = self._process = WorkerProcess(settings | ours)
        except OSError as error:
            logger.error("cannot start pool-worker: %s", error, extra=self._extra())
            return SpawnEnded(0, f"pool-spawner cannot start pool-worker: {error}")
        client = self.peer.address
        logger.info(
            "started pool-worker %d with %d workers for %s",
            *(process.pid, workers, client),
            extra=self._extra(workers=workers),
        )
        self.peer.send(Spawned(process.pid))
        await first(process.exited, self._stopped)
        code = await process.end()
        reason = self._stopped.result() if self._stopped.done() else describe_exit(code)
        said = process.tail.decode(errors="replace").strip()
        logger.log(
            logging.WARNING if code else logging.INFO,
            *("pool-worker %d for %s is over: %s%s", process.pid, client, reason),
            f"\n{said}" if said and code else "",
            extra=self._extra(workers=workers, exitcode=code),
        )
        return SpawnEnded(code, reason, process.tail)

    def _extra(self, **more: int) -> dict[str, object]:
        known = {} if self._process is None else {"pid": self._process.pid}
        return {"client": self.peer.address, **known, **more}


async def first(*futures: asyncio.Future[Any]) -> None:
    """Wait until one of them is done."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


def read_settings(blob: Buffer) -> dict[str, Any]:
    """The settings for ``pool-worker`` in a Spawn. Raises BadSettings."""
    try:
        settings = json.loads(bytes(blob))
    except (ValueError, RecursionError):
        raise BadSettings("unreadable settings: is the client of the same release?") from None
    if not isinstance(settings, dict):
        raise BadSettings("unusable settings: is the client of the same release?")
    return settings
