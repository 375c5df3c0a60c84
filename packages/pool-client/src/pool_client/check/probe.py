"""Finds out about one host: starts workers there, asks and measures them.

What runs on the host comes from its own standard library alone: it may have another Python, and
has nothing of this package.
"""

import asyncio
import operator
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib import metadata
from statistics import median
from typing import Any

from pool_client import Pool
from pool_client.check.report import PACKAGES, Figures, Report, Side, advice, notes

#: Seconds that each of the measurements takes, about.
MEASURE = 0.5
#: Seconds after which a host that is up and does not answer counts as failed.
ANSWER = 20.0
#: Tasks at a time, and bytes: the least and the most.
_TASKS = (100, 100_000)
_BYTES = (1 << 18, 1 << 26)
_TRIPS = 30
#: What is sent is made of this many random bytes: more than a compressor looks back.
_RANDOM = 1 << 16


def this_side() -> Side:
    """The client."""
    packages: dict[str, str | None] = {}
    for name in ("pool-client", *PACKAGES):
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            packages[name] = None
    return Side(sys.version.split()[0], packages, platform.platform())


async def probe(
    host: str,
    settings: dict[str, Any],
    alone: asyncio.Lock,
    progress: Callable[[str, str], None],
) -> Report:
    """Find out about a host.

    Args:
        host: As for a pool, with a number of workers.
        settings: More arguments for the pool.
        alone: Held while something is measured, so that hosts do not disturb each other.
        progress: Told the host and what is being done.

    Returns:
        What was found; whatever goes wrong is in it.
    """
    began = time.monotonic()
    known: dict[str, Any] = {}
    progress(host, "starting workers")
    try:
        async with Pool(0, hosts=[host], **settings) as pool:
            known["started"] = time.monotonic() - began
            info = pool.hosts()[0]
            known |= {"workers": info.workers, "cpus": info.cpus, "memory": info.memory}
            async with asyncio.timeout(ANSWER):
                known["side"] = await _that_side(pool, info.python)
            async with alone:
                progress(host, "measuring")
                async with asyncio.timeout(ANSWER):
                    known["figures"] = await _measure(pool)
    except TimeoutError:
        known["error"] = f"it came up, but its tasks were not done within {ANSWER:g} s"
    except Exception as error:
        text = str(getattr(error, "reason", error)) or type(error).__name__
        known["error"] = "\n".join(filter(None, (text, advice(host))))
    else:
        known["notes"] = notes(this_side(), known["side"])
    progress(host, "failed" if "error" in known else "ok")
    return Report(host, **known)


async def _that_side(pool: Pool, python: str) -> Side:
    found = await asyncio.gather(
        pool.run_async(platform.platform),
        *(pool.run_async(metadata.version, name) for name in PACKAGES),
        return_exceptions=True,
    )
    system, *versions = found
    for one in found:
        if isinstance(one, BaseException) and not isinstance(one, metadata.PackageNotFoundError):
            raise one
    packages = {
        name: None if isinstance(version, BaseException) else version
        for name, version in zip(PACKAGES, versions, strict=True)
    }
    return Side(python, packages, str(system))


async def _measure(pool: Pool) -> Figures:
    round_trip = await _round_trip(pool)
    sample = os.urandom(_RANDOM)

    async def to_host(count: int) -> None:
        await pool.run_async(len, sample * (count // _RANDOM))

    async def from_host(count: int) -> None:
        await pool.run_async(operator.mul, sample, count // _RANDOM)

    async def tasks(count: int) -> None:
        await asyncio.gather(*(pool.run_async(abs, -1) for _ in range(count)))

    return Figures(
        round_trip,
        await _rate(tasks, *_TASKS),
        await _rate(to_host, *_BYTES),
        await _rate(from_host, *_BYTES),
    )


async def _round_trip(pool: Pool) -> float:
    times: list[float] = []
    end = time.monotonic() + MEASURE
    while len(times) < _TRIPS and (not times or time.monotonic() < end):
        began = time.perf_counter()
        await pool.run_async(abs, -1)
        times.append(time.perf_counter() - began)
    return median(times)


async def _rate(work: Callable[[int], Any], least: int, most: int) -> float:
    """How much is done in a second: more and more at a time, until that takes long enough."""
    amount = least
    while True:
        began = time.perf_counter()
        await work(amount)
        took = time.perf_counter() - began
        if took > MEASURE / 2 or amount >= most:
            return amount / took
        amount = min(most, amount * (4 if took < MEASURE / 8 else 2))
