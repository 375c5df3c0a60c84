"""The choice of worker, and how much a worker gets at once. Pure arithmetic, no state but its own.

Two kinds of task want opposite things. Tiny ones cost more to send than to run, so they go to one
worker by the hundred, in one write. Long ones go breadth first, one to each idle worker, and
nothing may queue behind them. What tells them apart is measured: the service time of a function
and the round trip of a worker.
"""

from math import inf

#: At least this much work is kept in a busy worker's hands, in ns: below it, the cost of a write
#: and of waking up a process shows.
FLOOR_NS = 1_000_000
#: At most this much, in ns, unless the round trip is longer still.
CEILING_NS = 20_000_000
#: What an idle worker gets at least when there is enough, in ns: less is not worth a write.
GRAIN_NS = 100_000
#: Below this, in ns, a task is tiny: fill a busy worker before waking up an idle one.
TINY_NS = 30_000
#: Most tasks in a worker's hands.
MAX_TASKS = 4096
#: Most bytes in a worker's hands; a task over LARGE_BYTES only goes to an idle worker.
MAX_BYTES = 1024 * 1024
LARGE_BYTES = 64 * 1024
#: What a line with a delay may carry beside these, in bytes a ns: 250 MB/s.
LINE_BYTES = 0.25
#: A silent worker with tasks queued behind the running one is asked for them back after this, ns.
SILENCE_NS = 20_000_000
#: A task that was lost on one host waits so long for a worker of another, in ns, if there is any.
ELSEWHERE_NS = 10_000_000_000

#: What a new call leaves of the old mean: one outlier does not change the plan.
_MEAN_MEMORY = 0.9
_ROUND_TRIP_WEIGHT = 0.25
_LEAST_DRIFT = 1.02


class Estimate:
    """The service time of a function, per call, in ns; None as long as it is unknown."""

    __slots__ = ("mean",)

    def __init__(self) -> None:
        self.mean: float | None = None

    def add(self, nanos: float, calls: int = 1) -> None:
        """``calls`` more calls have taken ``nanos`` together."""
        sample = nanos / calls
        mean = self.mean
        if mean is None:
            self.mean = sample
        else:
            self.mean = mean + (sample - mean) * (1.0 - _MEAN_MEMORY**calls)

    def at_least(self, nanos: float) -> None:
        """A call that has not ended yet has been running for ``nanos``."""
        if self.mean is None or self.mean < nanos:
            self.add(nanos)


class RoundTrip:
    """The time that a task spends under way rather than in service, in ns.

    One probe at a time, as in TCP (RFC 6298): the first task of a write is timed from there to
    its result, less what the worker was busy with in between.
    """

    __slots__ = ("_busy", "_probe", "_sent", "goal", "least", "mean")

    def __init__(self) -> None:
        self.mean = 0.0
        #: The least lately: what the link takes, without the waits for a busy client.
        self.least = 0.0
        #: How much work, in ns, the worker is to hold.
        self.goal: float = FLOOR_NS
        self._probe = 0
        self._sent = 0
        self._busy = 0

    def sent(self, first: int, now: int, busy: int) -> None:
        """A write whose first task is ``first`` leaves at ``now``; ``busy`` so far, all in ns."""
        if not self._probe:
            self._probe, self._sent, self._busy = first, now, busy

    def received(self, last: int, now: int, busy: int, delay: float = 0.0) -> None:
        """Results up to ``last`` have come in; ``busy`` counts their service times too.

        ``delay`` is what an empty message takes there and back: a worker that was busy all the
        while hides it.
        """
        if self._probe and last >= self._probe:
            sample = max(delay, (now - self._sent) - (busy - self._busy))
            mean = self.mean
            self.mean = mean = mean + (sample - mean) * _ROUND_TRIP_WEIGHT
            # As BBR does: the minimum, slowly forgotten, so that it follows a path that changes.
            self.least = min(sample, self.least * _LEAST_DRIFT) if self.least else sample
            self.goal = target(mean, self.least)
            self._probe = 0

    def forget(self) -> None:
        """The probe will not come back."""
        self._probe = 0


def target(mean: float, least: float) -> float:
    """How much work, in ns, covers the round trip twice: one half runs while the other comes.

    ``least`` bounds it: a client that was busy for a second must not put a second's work into
    one worker's hands.
    """
    # Without max and min: this runs for each write.
    goal = 2.0 * mean
    if goal <= FLOOR_NS:
        return FLOOR_NS
    ceiling = 2.0 * least
    if ceiling < CEILING_NS:
        ceiling = CEILING_NS
    return goal if goal < ceiling else ceiling


def limits(goal: float, mean: float | None, qsize: int | None) -> tuple[int, float]:
    """How many tasks, and how much work in ns, a worker may hold and still get one of ``mean`` ns.

    Below both of them it gets one more. A worker that holds nothing gets one in any case.
    """
    if qsize is not None:
        return qsize, inf
    # Nothing queues behind a running task if nobody knows how long it takes.
    return (1, goal) if mean is None else (MAX_TASKS, goal)


def byte_limits(delay: float) -> tuple[float, float]:
    """How large a task for a busy worker may be, and what a worker holds at most, in bytes.

    ``delay`` is the round trip, in ns: what is under way that long is not in the worker's hands.
    """
    under_way = delay * LINE_BYTES
    return LARGE_BYTES + under_way / 4, MAX_BYTES + under_way


def batch_limit(mean: float | None, waiting: int, idle: int) -> int:
    """How many tasks one idle worker gets when ``waiting`` tasks face ``idle`` idle workers."""
    if mean is None:
        return 1
    grain = int(GRAIN_NS / mean) if mean > GRAIN_NS / MAX_TASKS else MAX_TASKS
    return max(1, grain, waiting // max(1, idle))


def silent_since(last_heard: int, work: float, round_trip: float, now: int) -> bool:
    """Has a worker with tasks queued been silent for longer than its work explains?"""
    return now - last_heard > SILENCE_NS + 3.0 * work + 2.0 * round_trip


def patience(workers: int) -> int:
    """How many more deaths than completions a pool of so many workers endures.

    Enough for tasks that kill each other's workers and for a few tasks that always do.
    """
    return max(40, 8 * workers)
