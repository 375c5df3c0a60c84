"""The kernel has no memory for what is to be sent: for the moment, and the connection is unharmed.

On Unix sockets Linux says so even to who would wait (``ENOBUFS``), and macOS in place of "try
again". Nothing of what was offered has been taken then.
"""

import errno
import time

#: What it says.
_SHORT = (errno.ENOBUFS, errno.ENOMEM)
#: Seconds until the next try, and how long nothing may go out before that is a lost connection.
_PAUSE = 0.005
_LASTS = 10.0


class Shortage:
    """The memory that one connection finds to send with."""

    def __init__(self) -> None:
        self._since: float | None = None

    def wait(self, error: OSError) -> None:
        """Wait a moment before the next try.

        Args:
            error: What sending has raised; raised again if it is another one, or lasts too long.
        """
        if error.errno not in _SHORT:
            raise error
        now = time.monotonic()
        if self._since is None:
            self._since = now
        if now - self._since > _LASTS:
            raise error
        time.sleep(_PAUSE)

    def over(self) -> None:
        """Something was sent."""
        self._since = None
