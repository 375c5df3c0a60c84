"""From asyncio: the pool lives on the running loop, without a thread."""

import asyncio
import math

from pool_client import Pool


async def wait_and_double(number: int) -> int:
    """Do the waiting in a worker: an asynchronous function is awaited there."""
    await asyncio.sleep(0.01)
    return 2 * number


async def main() -> None:
    """Await single tasks, many tasks, and a task that gives up in time."""
    async with Pool(2) as pool:
        print("one:", await pool.run_async(math.factorial, 20))
        print("many:", await asyncio.gather(*(pool.run_async(math.isqrt, n * n) for n in range(5))))
        print("asynchronous:", await pool.run_async(wait_and_double, 21))
        print("mapped:", [root async for root in pool.map_async(math.isqrt, [1, 4, 9, 16])])
        try:
            await asyncio.wait_for(pool.run_async(asyncio.sleep, 60), timeout=0.1)
        except TimeoutError:
            print("too slow: cancelled in the worker as well")


asyncio.run(main())
