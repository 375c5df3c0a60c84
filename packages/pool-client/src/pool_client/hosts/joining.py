"""Hosts whose supervisor was started by hand: they ask for their settings, and are in."""

import json
from typing import TYPE_CHECKING

from pool_client.hosts.host import HostRunner, State
from pool_client.hosts.settings import make_settings
from pool_client.hosts.timers import Timers
from pool_client.launchers import HostSpec
from pool_client.links.link import Link
from pool_protocol import Role
from pool_protocol.messages import Join, Message, Welcome

if TYPE_CHECKING:
    from pool_client.hosts.fleet import Fleet

#: Seconds for a peer to say what it wants, and then to close its connection.
_SECONDS = 10.0
#: Longest name of a host, in characters.
_NAME = 64


class Joining:
    """Takes hosts in. Their certificates have been checked, and theirs only."""

    def __init__(self, fleet: "Fleet") -> None:
        self._fleet = fleet
        self._links: set[Link] = set()
        self._timers = Timers(fleet.engine.loop)
        #: Hosts that were taken in so far.
        self.count = 0

    async def listen(self, host: str, port: int) -> int:
        """Listen at an address; the port. Raises CredentialError or HostError."""
        tcp = self._fleet.tcp()
        port = await tcp.open(host, port)
        tcp.joins = True
        return port

    def opened(self, link: Link) -> None:
        """A peer wants to join, or something that only who has a launch may want."""
        if link.connection.role is not Role.JOIN:
            link.close()
            return
        link.events = self
        self._links.add(link)
        self._timers.later(_SECONDS, self._over, link)

    def received(self, link: Link, messages: list[Message]) -> None:
        """It says who it is: give it its settings."""
        join = messages[0]
        if not isinstance(join, Join) or len(messages) > 1 or self._fleet.engine.leaving:
            self._over(link)
            return
        self.count += 1
        spec = HostSpec("join", _name(join.host), join.workers)
        runner = self._fleet.add(spec, joined=True)
        settings = make_settings(spec, False, self._fleet.options.max_message)
        settings |= self._fleet.admit(runner)
        link.connection.send(Welcome(json.dumps(settings).encode()))
        link.flush()
        self._timers.later(self._fleet.options.connect_timeout, self._too_late, runner)

    def _too_late(self, runner: HostRunner) -> None:
        if runner.state is State.STARTING:
            self._fleet.departed(runner, "it did not connect back")

    def ended(self, link: Link, error: BaseException | None) -> None:
        """It has got what it wanted."""
        self._links.discard(link)

    def _over(self, link: Link) -> None:
        self._links.discard(link)
        link.close()

    def close(self) -> None:
        """Nobody joins any more."""
        self._timers.stop()
        for link in list(self._links):
            self._over(link)

    def abandon(self) -> None:
        """Close the descriptors in a forked child."""
        for link in self._links:
            link.abandon()


def _name(text: str) -> str:
    """What a peer calls itself, fit for a log and a prompt."""
    return "".join(c for c in text[:_NAME] if c.isprintable() and not c.isspace()) or "unnamed"
