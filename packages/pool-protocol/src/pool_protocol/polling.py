"""When to poll for an answer for a moment before blocking. Pure: whoever waits does the polling.

To wake up a process on another core takes 10 to 50 µs, several times what a small task takes. So
where the last answer came soon, the next one is polled for, for a moment. It must cost nobody
anything: not again when nothing came, and not when somebody else wants the core.
"""

#: How long to poll at most, in ns.
POLL_NS = 100_000
#: After an answer that took no longer than this, in ns, the next is expected as soon. It covers
#: the time to wake up both sides, so that polling can begin.
_SOON_NS = 160_000
#: How many waits are not polled for after one that was polled for in vain.
_REST = 32
#: When giving way to others takes longer than this, in ns, somebody else had the core.
_SHARED_NS = 5_000


class Polling:
    """The waits of one side of a conversation."""

    __slots__ = ("_last", "_rest")

    def __init__(self) -> None:
        self._last = _SOON_NS
        self._rest = 0

    def worth(self) -> bool:
        """Shall the next answer be polled for? To be asked once for each."""
        if self._rest:
            self._rest -= 1
            return False
        return self._last < _SOON_NS

    def answered(self, nanos: int) -> None:
        """The last wait, in whatever way, took so long."""
        self._last = nanos

    def in_vain(self) -> None:
        """Nothing came while it was polled for."""
        self._rest = _REST

    def wanted(self, nanos: int) -> bool:
        """Giving way to others took so long; True: somebody wants this core, so block."""
        if nanos < _SHARED_NS:
            return False
        self._rest = _REST
        return True
