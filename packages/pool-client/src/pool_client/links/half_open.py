"""Peers in the middle of a handshake: how many, from where, and for how long.

A peer that has not proved itself holds one descriptor and a few buffers, so their number is
limited, and their time: at most ten seconds in which our own loop ran. A loop that was blocked has
not given anybody his chance.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator

from pool_client.links.link import Link, LinkEvents
from pool_client.links.refusals import Refusals
from pool_protocol import PoolError
from pool_protocol.messages import Message

#: Seconds for a handshake, and how many looks at the time they are made of.
HANDSHAKE_SECONDS = 10.0
_TICKS = 20


class HalfOpen:
    """The half-open links of one kind of listener; who proves himself goes on to ``events``.

    ``most`` is how many there may be, ``most_each`` how many of one address.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        events: LinkEvents,
        refusals: Refusals,
        most: int,
        most_each: int,
    ) -> None:
        self._loop = loop
        self._events = events
        self._refusals = refusals
        self._most = most
        self._most_each = most_each
        self._links: dict[Link, str] = {}
        self._ticks: dict[Link, int] = {}
        self._each: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._links)

    def __iter__(self) -> Iterator[Link]:
        return iter(list(self._links))

    def __contains__(self, link: Link) -> bool:
        return link in self._links

    @property
    def full(self) -> bool:
        """There are as many as may be."""
        return len(self._links) >= self._most

    def crowded(self, address: str, expected: Callable[[str], int]) -> bool:
        """Are there as many of an address as may be, those who are ``expected`` not counted?"""
        count = self._each[address] - self._most_each
        return count >= 0 and count >= expected(address)

    def add(self, link: Link, address: str) -> None:
        """A peer has connected."""
        self._links[link] = address
        self._ticks[link] = 0
        self._each[address] += 1
        if self._timer is None:
            self._timer = self._loop.call_later(HANDSHAKE_SECONDS / _TICKS, self._tick)

    def remove(self, link: Link) -> str:
        """A peer has proved itself, or is gone; the address that it came from."""
        address = self._links.pop(link)
        del self._ticks[link]
        self._each[address] -= 1
        if not self._each[address]:
            del self._each[address]
        return address

    def drop_oldest(self) -> None:
        """Make room."""
        link = next(iter(self._links))
        self.remove(link)
        link.close()

    def _tick(self) -> None:
        self._timer = None
        for link in self:
            self._ticks[link] += 1
            if self._ticks[link] > _TICKS:
                address = self.remove(link)
                link.close()
                self._refusals.note(address, f"no handshake within {HANDSHAKE_SECONDS:g} s")
        if self._links:
            self._timer = self._loop.call_later(HANDSHAKE_SECONDS / _TICKS, self._tick)

    # -- events of the links

    def opened(self, link: Link) -> None:
        """The peer has proved itself: hand the link over."""
        self.remove(link)
        link.events = self._events
        self._events.opened(link)

    def received(self, link: Link, messages: list[Message]) -> None:
        """Never called: no message is legal before the link is handed over."""
        raise AssertionError(f"messages on a half-open {link!r}")

    def ended(self, link: Link, error: BaseException | None) -> None:
        """The peer went away, or was refused."""
        address = self.remove(link)
        if isinstance(error, PoolError):
            self._refusals.note(address, error)

    # -- the end

    def abandon(self) -> None:
        """Close the descriptors without touching the loop: in a forked child."""
        for link in self:
            link.abandon()

    def close(self) -> None:
        """Turn everybody away."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for link in self:
            self.remove(link)
            link.close()
