"""Started by hand: join a pool that listens, and join again when it has gone, until told to leave.

SIGTERM lets the running tasks finish and hands back the rest; a second one, SIGINT and SIGHUP end
everything at once. Nothing is read from standard input.
"""

import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType

from pool_protocol import CredentialError, Identity, PoolError, RemoteProtocolError, Role
from pool_protocol.handshake import OPEN_LAUNCH, OPEN_TOKEN
from pool_protocol.messages import Join, Message, Welcome
from pool_worker.__about__ import __version__
from pool_worker.channel import Channel, Closed
from pool_worker.functions import PYTHON
from pool_worker.settings import Settings, SettingsError
from pool_worker.stream import AddressError, dialer
from pool_worker.supervisor import Supervisor

logger = logging.getLogger("pool_worker")

#: Seconds between two tries: the first and the longest.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
#: Who was a member for so long, in seconds, is not taken for somebody whom the pool turns away.
_MEMBER = 10.0
#: The largest answer to a Join, in bytes.
_MAX_WELCOME = 1 << 20

_FAILURES = (OSError, PoolError, Closed, SettingsError)


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody has asked for at the command line.

    ``address`` is ``tls://host:port``, ``workers`` how many are offered, ``credential`` the path
    of the credential (None: the usual place), ``host`` how the pool names this machine, ``retry``
    for how many seconds a pool is looked for (None: for ever).
    """

    address: str
    workers: int
    credential: str | None
    host: str
    retry: float | None
    start_method: str | None = None


class Told(BaseException):
    """A signal has come while there was no pool."""


def join(wish: Wish) -> int:
    """Serve one pool after the other; the exit status."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    with _interruptible():
        try:
            dialer(wish.address, wish.credential)
        except (AddressError, CredentialError) as error:
            print(f"pool-worker: {error}", file=sys.stderr)
            return 2
        try:
            return Member(wish).run()
        except Told:
            logger.info("ended by a signal")
            return 0


class Member:
    """One machine that offers its workers.

    Args:
        wish: What it offers, and to whom.
    """

    def __init__(self, wish: Wish) -> None:
        self._wish = wish
        self._pause = FIRST_PAUSE
        self._alone_since = time.monotonic()
        self._reason = ""

    def run(self) -> int:
        """Serve until told to leave; the exit status. Raises Told."""
        while True:
            try:
                settings = self._ask()
                if self._serve(settings):
                    logger.info("left")
                    return 0
            except _FAILURES as error:
                self._say(str(error))
            limit = self._wish.retry
            if limit is not None and time.monotonic() + self._pause > self._alone_since + limit:
                logger.error("given up after %g s", limit)
                return 1
            time.sleep(self._pause)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _say(self, reason: str) -> None:
        """Once for each reason: it may last for days."""
        if reason != self._reason:
            logger.warning("cannot join %s yet: %s", self._wish.address, reason)
        self._reason = reason

    def _ask(self) -> Settings:
        """Ask the client for settings. Raises one of ``_FAILURES``."""
        wish = self._wish
        # The credential may have been renewed.
        dialer.cache_clear()
        dial = dialer(wish.address, wish.credential)
        identity = Identity(OPEN_LAUNCH, Role.JOIN)
        channel = Channel.dial(dial, identity, OPEN_TOKEN, _MAX_WELCOME)
        try:
            channel.send(Join(wish.host, os.getpid(), wish.workers, PYTHON, __version__))
            messages: list[Message] = []
            while not messages:
                messages = channel.receive()
        finally:
            channel.close()
        if not isinstance(messages[0], Welcome):
            raise RemoteProtocolError("the answer to a Join must be a Welcome")
        settings = Settings.parse(bytes(messages[0].blob))
        # Where we reach the client is known here, and not there.
        return replace(settings, address=wish.address, credential=wish.credential)

    def _serve(self, settings: Settings) -> bool:
        """Be a member until the end; True if we were told to leave. Raises OSError, PoolError."""
        environ = dict(os.environ)
        began = time.monotonic()
        try:
            settings.apply()
            supervisor = Supervisor(settings, self._wish.start_method, joined=True)
            logger.info("joined %s, workers: %d", self._wish.address, self._wish.workers)
            self._reason = ""
            supervisor.run()
        finally:
            os.environ.clear()
            os.environ.update(environ)
            # What was frozen for this membership's forks.
            gc.unfreeze()
        self._alone_since = time.monotonic()
        if self._alone_since > began + _MEMBER:
            self._pause = FIRST_PAUSE
        if not supervisor.told:
            logger.info("the pool has gone")
        return supervisor.told


@contextmanager
def _interruptible() -> Iterator[None]:
    """Signals break off whatever waits; while there is a pool, they are the supervisor's."""
    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup has it
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, _tell) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(number: int, frame: FrameType | None) -> None:
    raise Told
