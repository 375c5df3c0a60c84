"""Logs: a line a record, for people or as JSON; and how often strangers may fill them."""

import json
import logging
import sys
import time
from typing import Any

PLAIN = "plain"
JSON = "json"
FORMATS = (PLAIN, JSON)
LEVELS = ("debug", "info", "warning", "error")

#: Lines about strangers that may follow each other at once, and seconds until one more may.
BURST = 5
SECONDS_EACH = 10.0

#: What every record has; anything else came in ``extra``.
_USUAL = {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"}


class PlainFormatter(logging.Formatter):
    """A line for people; further lines of a message are indented, so that none is taken for one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The text of a record."""
        return super().format(record).replace("\n", "\n    ")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, message, error, and what the record has extra."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """The text of a record."""
        values: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        values |= {key: value for key, value in vars(record).items() if key not in _USUAL}
        if record.exc_info:
            values["error"] = self.formatException(record.exc_info)
        return json.dumps(values, default=str)


def configure(style: str, level: str) -> None:
    """Send the logs of this program to standard error, in a format of FORMATS."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == JSON else PlainFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class RateLimit:
    """Lets a burst of lines through, then one each so many seconds, and counts the others."""

    def __init__(self, now: float, burst: int = BURST, seconds: float = SECONDS_EACH) -> None:
        self._burst = burst
        self._seconds = seconds
        self._left = float(burst)
        self._last = now
        self._dropped = 0

    def allow(self, now: float) -> int | None:
        """None: write nothing. Else a line may be written, and so many were not before it."""
        self._left = min(self._burst, self._left + (now - self._last) / self._seconds)
        self._last = now
        if self._left < 1:
            self._dropped += 1
            return None
        self._left -= 1
        dropped, self._dropped = self._dropped, 0
        return dropped
