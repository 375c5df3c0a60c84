"""Whether a host in trouble is tried again, given up, or takes the pool down with it. Pure."""

import enum
from dataclasses import dataclass

#: Failures in a row, without a worker that came up, before a host is given up.
MAX_FAILURES = 5
#: Seconds before the next try: the first, and the most.
_FIRST = 0.05
_MOST = 5.0


class Advice(enum.Enum):
    """What to do about a host."""

    AGAIN = "again"
    DROP = "drop"
    BREAK = "break"


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is known of a host that failed just now."""

    failures: int
    """How often in a row."""
    unreachable: bool
    """It is another machine that had been up, and could not be reached."""
    others: bool
    """Other hosts work, or may still come up."""
    alone: float
    """Seconds for which the pool has had no worker at all."""
    listens: bool
    """Others may join at any time."""


def advise(trouble: Trouble, patience: float) -> Advice:
    """What to do; ``patience`` is for how many seconds a pool without workers is kept up.

    A machine that was up and is not reached may be back in a minute or tomorrow, so it is tried
    for as long as anybody else works. Whatever else fails five times is broken.
    """
    rest = trouble.others or trouble.listens
    if trouble.unreachable:
        return Advice.AGAIN if rest or trouble.alone < patience else Advice.BREAK
    if trouble.failures < MAX_FAILURES:
        return Advice.AGAIN
    return Advice.DROP if rest else Advice.BREAK


def backoff(failures: int) -> float:
    """Seconds to wait before the next start after so many failures in a row."""
    return 0.0 if not failures else min(_MOST, _FIRST * 2.0 ** min(failures - 1, 10))
