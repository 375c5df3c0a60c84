"""The seam between the pool and the ways to start ``pool-worker``.

A launcher starts the program on its host and says how that is going; everything else (starting,
watching, replacing workers) goes through the control connection and is the same for every host.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class HostSpec:
    """A host as the user named it.

    ``scheme`` picks the launcher; ``host``, ``user`` and ``port`` are what it connects to;
    ``workers`` is how many workers it gets, 0 for as many as it has CPUs; ``options`` is what
    followed a question mark.
    """

    scheme: str
    host: str
    workers: int
    user: str = ""
    port: int | None = None
    options: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How messages name the host."""
        return f"{self.user}@{self.host}" if self.user else self.host


@dataclass(frozen=True, slots=True)
class Access:
    """How hosts are reached, as the user of the pool said it.

    ``ssh_command`` is the program and its first arguments; ``advertise`` the address at which LAN
    hosts reach this machine, None to find out; ``credential`` the path of the credential, None for
    the usual place; ``ssl_context`` makes a context for a purpose in place of the credential.
    """

    ssh_command: tuple[str, ...] = ("ssh",)
    advertise: str | None = None
    credential: str | None = None
    ssl_context: Callable[[Any], Any] | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """What a launcher is to start.

    ``settings`` go to ``pool-worker`` as one line of JSON on its standard input; their ``address``
    is the client's Unix socket, and a launcher whose host reaches the client in another way says so
    there. ``listen_tcp`` lets the client listen on TCP as well and gives the port; it raises
    HostError where there is no credential.
    """

    settings: dict[str, Any] = field(repr=False)
    access: Access
    listen_tcp: Callable[[], Awaitable[int]]


class Launched(Protocol):
    """A ``pool-worker`` that was started. No method waits, but for ``close``, and that not long."""

    def ended(self) -> str | None:
        """Why and how the program ended, in a sentence that says what to do; None while it runs."""

    def errors(self) -> str:
        """The tail of its standard error so far."""

    def hang_up(self) -> None:
        """Close its standard input: it ends, and everything that it started."""

    def kill(self) -> None:
        """End it by force."""

    def close(self) -> None:
        """Let go of every descriptor, and reap it if it has ended."""

    def abandon(self) -> None:
        """Close the descriptors in a forked child; the program is the parent's."""


class Launcher(Protocol):
    """Starts ``pool-worker --launch`` on one kind of host; each host has a launcher of its own.

    It may have an attribute ``stage``: what ``launch`` waits for, and what to do if that lasts; a
    timeout says so.
    """

    #: Whether the host shares this machine's files, clock and fate.
    local: bool

    async def launch(self, spec: HostSpec, order: Order) -> Launched:
        """Start the program, on the running loop, and give it its settings.

        Returns as soon as it runs: that it has connected back is seen elsewhere. The caller limits
        the time by cancelling; whatever was begun is then ended.

        Raises HostError, naming the host and what to do, when it cannot be started.
        """
