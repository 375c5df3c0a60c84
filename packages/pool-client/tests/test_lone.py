"""Staying awake for the answer to a lone task."""

import asyncio
import time
from pathlib import Path

import pytest

from pool_client import Pool, lone
from pool_protocol.polling import Polling


def test_polling_for_a_lone_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The loop stays awake for it, for a moment, if the one before came soon."""
    polls: list[None] = []
    monkeypatch.setattr(lone, "_give_way", lambda: polls.append(None))
    gates = (tmp_path / str(number) for number in range(10))

    def work(gate: Path) -> None:
        time.sleep(0.001)
        while not gate.exists():
            time.sleep(0.001)

    async def main() -> None:
        async with Pool(1) as pool:
            polling = pool._core.engine._lone._polling

            async def polled(nanos: int, least: int = 0) -> int:
                """How often, if the answer does not come before it was so often."""
                polling.answered(nanos)
                polling._rest = 0
                polls.clear()
                gate = next(gates)
                future = pool.run_async(work, gate)
                while len(polls) < least:
                    await asyncio.sleep(0)
                gate.touch()
                assert await future is None
                return len(polls)

            monkeypatch.setattr(lone, "POLL_NS", 60_000_000_000)
            monkeypatch.setattr(Polling, "wanted", lambda self, nanos: False)
            assert await polled(0, least=5) >= 5
            assert not polling.worth(), "it took a millisecond"
            assert await polled(10**9) == 0
            monkeypatch.setattr(Polling, "wanted", lambda self, nanos: True)
            assert await polled(0) == 1
            monkeypatch.setattr(lone, "POLL_NS", -1)
            assert await polled(0) == 0
            assert polling._rest, "in vain"
            assert not pool._core.engine._lone._since

    asyncio.run(asyncio.wait_for(main(), 30))
