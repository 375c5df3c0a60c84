"""Who may be in the middle of a handshake: pure. Strangers are many, and must not keep others out.

A peer is *half-open* from its first packet until it has asked for something, authenticated. Beyond
a limit somebody gives way: first whoever has said nothing yet, oldest first. A member speaks at
once, so thousands of silent connections cost it nothing.
"""

import ipaddress
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

#: Most half-open peers in total, and of one address.
TOTAL = 128
EACH = 16
#: Seconds for a handshake, in time in which our own loop ran.
DEADLINE = 10.0
#: Seconds that a peer which speaks is left alone, even in a crowd; a handshake takes a few
#: round trips.
FAIR = 1.0

P = TypeVar("P", bound=Hashable)


class LoopClock:
    """The time that our own loop could use, in seconds.

    ``advance`` is called regularly; if a call comes late, nobody could be served meanwhile, and
    only ``most`` seconds of that count.
    """

    def __init__(self, now: float, most: float) -> None:
        self.time = 0.0
        self._most = most
        self._last = now

    def advance(self, now: float) -> float:
        """The monotonic clock says ``now``; returns our own time."""
        self.time += min(self._most, now - self._last)
        self._last = now
        return self.time


def group(address: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 that one IPv6 host is given."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)


@dataclass(slots=True)
class _HalfOpen:
    group: str
    since: float
    silent: bool = True


class Admission(Generic[P]):
    """The half-open peers, in order of arrival."""

    def __init__(self, total: int = TOTAL, each: int = EACH) -> None:
        self._total = total
        self._each = each
        self._peers: dict[P, _HalfOpen] = {}
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._peers)

    def __repr__(self) -> str:
        return f"<Admission {len(self)} half-open of {len(self._counts)} addresses>"

    def enter(self, peer: P, address: str, now: float) -> P | None:
        """Let a peer in. Returns who is to be closed for that: nobody, another one, or itself."""
        where = group(address)
        crowd = self._crowd(where)
        victim = self._victim(crowd, now) if crowd else None
        if crowd and victim is None:
            return peer
        if victim is not None:
            self.leave(victim)
        self._peers[peer] = _HalfOpen(where, now)
        self._counts[where] += 1
        return victim

    def _crowd(self, where: str) -> str:
        """The address of which somebody has to go before one more of ``where`` comes in."""
        if self._counts[where] >= self._each:
            return where
        if len(self._peers) >= self._total:
            return self._counts.most_common(1)[0][0]
        return ""

    def _victim(self, crowd: str, now: float) -> P | None:
        slow = None
        for peer, entry in self._peers.items():
            if entry.group != crowd:
                continue
            if entry.silent:
                return peer
            if slow is None and now - entry.since >= FAIR:
                slow = peer
        return slow

    def spoke(self, peer: P) -> None:
        """The peer has sent something."""
        if peer in self._peers:
            self._peers[peer].silent = False

    def leave(self, peer: P) -> None:
        """The peer is gone, or not half-open any more."""
        entry = self._peers.pop(peer, None)
        if entry is not None:
            self._counts[entry.group] -= 1
            if not self._counts[entry.group]:
                del self._counts[entry.group]

    def peers(self) -> list[P]:
        """All of them."""
        return list(self._peers)

    def overdue(self, now: float) -> list[P]:
        """Those whose time is over."""
        return [peer for peer, entry in self._peers.items() if now - entry.since >= DEADLINE]
