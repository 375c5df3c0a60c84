"""In the place of `ProcessPoolExecutor`: the same calls, `concurrent.futures` and all."""

import asyncio
import concurrent.futures
import hashlib

from pool_client import Pool


def digest(text: str, rounds: int = 20_000) -> str:
    """Hash a password slowly."""
    return hashlib.pbkdf2_hmac("sha256", text.encode(), b"salt", rounds).hex()[:8]


words = ["apple", "pear", "plum", "cherry"]

with Pool(max_workers=2) as executor:
    futures: dict[concurrent.futures.Future[str], str] = {}
    futures.update((executor.submit(digest, word), word) for word in words)
    for future in concurrent.futures.as_completed(futures, timeout=30):
        print(f"{futures[future]}: {future.result()}")

    done, pending = concurrent.futures.wait([executor.submit(digest, word) for word in words])
    print(f"{len(done)} done, {len(pending)} pending")

    print(dict(zip(words, executor.map(digest, words, chunksize=2), strict=True)))

    async def from_asyncio() -> str:
        """Run a task as asyncio's own documentation shows it."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(executor, digest, "fig")

    print("fig:", asyncio.run(from_asyncio()))
