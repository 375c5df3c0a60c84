"""The pool at work: factor large numbers, and compress the standard library's source files.

``python examples/demo.py`` does both through a pool and through this one process, checks that the
results are equal and shows the difference. ``--quick`` does a twentieth of it.
"""

import argparse
import bz2
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pool_client import Pool

FIRST, HOW_MANY = 999_999_999_999, 999


def factor(number: int) -> list[int]:
    """Return the prime factors of an odd number, by trial division."""
    factors, divisor = [], 3
    while divisor * divisor <= number:
        if number % divisor:
            divisor += 2
        else:
            factors.append(divisor)
            number //= divisor
    return [*factors, number] if number > 1 else factors


@dataclass(frozen=True)
class Job:
    """A function and what to call it with; the items are made while the job runs."""

    name: str
    function: Callable[[Any], Any]
    items: Callable[[], Iterator[Any]]
    count: int


class Outcome(NamedTuple):
    """What came out of a job, and how long it took."""

    results: list[Any]
    seconds: float


def jobs(step: int) -> list[Job]:
    """Return the two jobs; only every `step`-th task of each."""
    numbers = range(FIRST, FIRST + 2 * HOW_MANY, 2 * step)
    library = Path(sysconfig.get_path("stdlib"))
    sources = sorted(p for p in library.rglob("*.py") if "site-packages" not in p.parts)[::step]
    return [
        Job("factor numbers", factor, lambda: iter(numbers), len(numbers)),
        Job(
            "compress sources",
            bz2.compress,
            lambda: (p.read_bytes() for p in sources),
            len(sources),
        ),
    ]


def followed(results: Iterable[Any], text: str, total: int) -> Iterator[Any]:
    """Pass the results on, and show on the terminal how far they have come."""
    shown = 0.0
    for done, result in enumerate(results, 1):
        if sys.stdout.isatty() and (done == total or time.monotonic() - shown > 0.1):
            shown = time.monotonic()
            print(f"\r{text}  {done:,} of {total:,}", end="", flush=True)
        yield result
    print(f"\r{text}  {total:,} done " if sys.stdout.isatty() else f"{text}  {total:,} done")


def timed(results: Iterable[Any]) -> Outcome:
    """Take all results, and the time."""
    begin = time.perf_counter()
    return Outcome(list(results), time.perf_counter() - begin)


def table(rows: list[tuple[Job, Outcome, Outcome]], workers: int) -> Iterator[str]:
    """Yield the lines of the table."""
    many = f"{workers} worker" + "s" * (workers != 1)
    yield f"{'':<18}{'tasks':>7}{many:>13}{'one process':>14}{'':>19}"
    yield f"{'':<18}{'':>7}{'s':>7}{'/s':>6}{'s':>8}{'/s':>6}{'faster':>10}{'results':>9}"
    for job, pooled, alone in rows:
        figures = "".join(
            f"{outcome.seconds:>{width}.2f}{job.count / outcome.seconds:>6.0f}"
            for outcome, width in ((pooled, 7), (alone, 8))
        )
        equal = "equal" if pooled.results == alone.results else "DIFFER"
        faster = f"{alone.seconds / pooled.seconds:.2f} x"
        yield f"{job.name:<18}{job.count:>7,}{figures}{faster:>10}{equal:>9}"


def main() -> int:
    """Run both jobs both ways; return 1 if any results differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the work")
    parser.add_argument("--workers", type=int, help="how many (default: one for each CPU)")
    options = parser.parse_args()
    rows = []
    begin = time.perf_counter()
    with Pool(options.workers) as pool:
        workers = pool.total_workers()
        print(f"{workers} workers ready in {time.perf_counter() - begin:.2f} s")
        for job in jobs(20 if options.quick else 1):
            text = f"{job.name:<18} pool       "
            pooled = timed(followed(pool.map(job.function, job.items()), text, job.count))
            text = f"{job.name:<18} one process"
            alone = timed(followed(map(job.function, job.items()), text, job.count))
            rows.append((job, pooled, alone))
    print("", *table(rows, workers), sep="\n")
    return int(any(pooled.results != alone.results for _, pooled, alone in rows))


if __name__ == "__main__":
    sys.exit(main())
