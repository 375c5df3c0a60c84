"""The pool as a stage in a pipe of eventkit: ``pip install pool-client[eventkit]``."""

import asyncio
import bz2
from pathlib import Path

import eventkit as ev

import pool_client.poolmap  # gives every event `poolmap`
from pool_client import Pool


async def main() -> None:
    """Compress the files of this folder and take the mean of their sizes."""
    data = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    async with Pool(2) as pool:
        pipe = ev.Sequence(data).poolmap(pool, bz2.compress).map(len).mean()
        mean = await pipe.last()
    print(f"{len(data)} files, {mean:.0f} bytes each on average once compressed")


assert pool_client.poolmap
asyncio.run(main())
