"""The log of those who were turned away: nobody shall fill it by knocking often."""

import logging
import time

logger = logging.getLogger("pool_client")

#: Seconds between two lines.
INTERVAL = 5.0


class Refusals:
    """Writes a line now and then, and counts the rest."""

    def __init__(self) -> None:
        self._next = 0.0
        self._untold = 0

    def note(self, peer: str, reason: object) -> None:
        """Somebody was refused. ``peer`` is an address, or empty."""
        now = time.monotonic()
        if now < self._next:
            self._untold += 1
            return
        self._next = now + INTERVAL
        more = f" (and {self._untold} more since the last such line)" if self._untold else ""
        self._untold = 0
        logger.warning(
            "refused a connection%s: %s%s", f" from {peer}" if peer else "", reason, more
        )
