"""The seam between the pool and the ways to start ``pool-worker``.

A launcher starts the program on its host and says how that is going; everything else (starting,
watching, replacing workers) goes through the control connection and is the same for every host.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class HostSpec:
    """A host as the user named it.

    ``scheme`` picks the launcher; ``host``, ``user`` and ``port`` are what it connects to;
    ``workers`` is how many workers it gets; ``options`` is what followed a question mark.
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


class Launched(Protocol):
    """A ``pool-worker`` that was started."""

    def exit_code(self) -> int | None:
        """How the program ended; None while it runs."""

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
    """Starts ``pool-worker --launch`` on one kind of host."""

    def launch(self, spec: HostSpec, settings: dict[str, Any]) -> Launched:
        """Start the program and give it ``settings`` as one line of JSON on standard input.

        Raises HostError, naming the host and what to do, when it cannot be started.
        """
