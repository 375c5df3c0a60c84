"""Is a host still there? Pure.

The kernel tells when a TCP peer has vanished, but not when a program in between, such as ssh, is
stopped. So a host that is not this machine is asked now and then, and given up after some
questions without an answer. A question during which our own loop did not run in time counts for
nothing: the answer may have come and not been read.
"""

#: Seconds between questions.
INTERVAL = 5.0
#: Questions without an answer after which a host is lost.
MISSES = 4
#: How much later than planned a beat may come for its interval to count.
_LATE = 1.5
#: How much the least round trip grows with each answer that takes longer: a path may change.
_DRIFT = 1.05


class Heart:
    """The questions to one host. Times are in seconds, of any monotonic clock."""

    def __init__(self) -> None:
        #: Seconds from one beat to the next.
        self.interval = INTERVAL
        #: Seconds from the last question to its answer; None as long as there was none.
        self.round_trip: float | None = None
        #: The least of these lately, in seconds: what the way takes, without waits; 0: not known.
        self.least = 0.0
        #: The number of the last question.
        self.number = 0
        self._asked = 0.0
        self._missed = 0
        self._heard = True

    def __repr__(self) -> str:
        return f"<Heart {self.number} asked, {self._missed} missed>"

    def beat(self, now: float) -> bool:
        """It is time for another question: send ``number``. False: the host is lost instead."""
        if self._heard:
            self._missed = 0
        elif now - self._asked <= self.interval * _LATE:
            self._missed += 1
        if self._missed >= MISSES:
            return False
        self._heard = False
        self._asked = now
        self.number += 1
        return True

    def heard(self) -> None:
        """Something came from the host."""
        self._heard = True

    def answered(self, number: int, now: float) -> None:
        """The answer to question ``number`` came."""
        if number == self.number:
            self.round_trip = taken = now - self._asked
            self.least = min(taken, self.least * _DRIFT) if self.least else taken
