"""An endless stream through the pool: memory stays flat, and leaving the loop ends the work."""

import asyncio
import itertools
from collections.abc import AsyncIterator

from pool_client import Pool


async def readings() -> AsyncIterator[int]:
    """Stand in for a source without an end, that pauses now and then: a socket, a queue."""
    for number in itertools.count():
        if number % 100 == 0:
            await asyncio.sleep(0.01)
        yield number


def steps_to_one(number: int) -> int:
    """Count the steps of the Collatz sequence from a number down to 1."""
    steps = 0
    while number > 1:
        number = 3 * number + 1 if number % 2 else number // 2
        steps += 1
    return steps


async def main() -> None:
    """Follow the stream, two inputs side by side, until a record that is long enough."""
    record = 0
    async with Pool(2) as pool:
        stream = pool.map_async(
            lambda n, name: (name, n, steps_to_one(n)), readings(), itertools.cycle(["even", "odd"])
        )
        async for name, number, steps in stream:
            if steps > record:
                record = steps
                print(f"{number} ({name}) takes {steps} steps")
            if record > 150:
                break


asyncio.run(main())
