"""A connection of the client's: a non-blocking socket, driven by the loop's readers and writers.

Not a transport: asyncio's and uvloop's drop what was received when a write fails first, and a dead
worker's last results lie in exactly that place. Here a failed write only ends writing; reading
goes on to the end of the stream.
"""

import asyncio
import errno
import socket
from collections import deque
from typing import Protocol

from pool_protocol import Buffer, Connection, PoolError, Role, State
from pool_protocol.messages import Message

#: Buffers of one ``sendmsg``: the kernel takes up to IOV_MAX, 1024.
_VECTOR = 512
#: A reader that keeps finding its buffer filled lets others have their turn after so many.
_READS = 8
#: The kernel has no memory for what is to be sent: for the moment, and nothing of it was taken.
_SHORT = (errno.ENOBUFS, errno.ENOMEM)
#: Seconds until the next try then, and how long nothing may go out before that is a broken pipe.
_PAUSE = 0.005
_SHORT_LASTS = 10.0


class LinkEvents(Protocol):
    """Who is told what happens on a link."""

    def opened(self, link: "Link") -> None:
        """The peer has authenticated itself."""

    def received(self, link: "Link", messages: list[Message]) -> None:
        """Messages have come in."""

    def ended(self, link: "Link", error: BaseException | None) -> None:
        """Once: the end of the stream (None), or the peer broke the protocol."""


class Link:
    """One accepted connection; ``peer`` is the address that it came from, empty on this machine."""

    #: Both sides have proved themselves by certificates.
    secure = False

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        connection: Connection,
        events: LinkEvents,
        peer: str = "",
    ) -> None:
        self.connection = connection
        self.events = events
        #: The address of the peer, or empty: this machine.
        self.peer = peer
        self.ended = False
        #: How much has been read.
        self.nbytes = 0
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._unsent: deque[memoryview] = deque()
        self._greeted = False
        self._writing = False
        self._broken_pipe = False
        #: Since when the kernel has had no memory for us, and when we try again.
        self._short_since: float | None = None
        self._retry: asyncio.TimerHandle | None = None
        #: Read until the kernel has nothing more, at the price of one call more each time. When a
        #: peer dies with something unread, the socket reports an error, and libuv (uvloop) calls
        #: its reader once more and never again: the end of the stream would go unseen. Not for
        #: workers: the supervisor tells when one has died, and then the link is drained.
        self._thorough = True
        loop.add_reader(self._fd, self._readable)

    def __repr__(self) -> str:
        return f"<Link fd {self._fd} {self.connection!r}{' ended' if self.ended else ''}>"

    # -- reading

    def _readable(self) -> None:
        self._read()

    def _read(self) -> bool:
        """Read for a while. True: there may be more."""
        connection = self.connection
        for _ in range(_READS):
            buffer = connection.get_buffer()
            room = len(buffer)
            try:
                count = self._sock.recv_into(buffer)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                count = 0
            except PoolError as error:
                self._end(error)
                return False
            del buffer
            self.nbytes += count
            if not count:
                self._end(None)
                return False
            try:
                messages = connection.received(count)
            except PoolError as error:
                self.flush()
                self._end(error)
                return False
            if not self._greeted:
                self.flush()
                if connection.state is not State.OPEN:
                    continue
                self._greeted = True
                self._thorough = connection.role is not Role.TASK
                self.events.opened(self)
            if messages:
                self.events.received(self, messages)
            if (count < room and not self._thorough) or self.ended:
                return False
        return True

    def drain(self) -> None:
        """Read what the kernel still has, now."""
        self._thorough = True
        while not self.ended and self._read():
            pass

    # -- writing

    def flush(self) -> None:
        """Write what the connection has to send: now as far as it goes, the rest as it can."""
        buffers = self.connection.take()
        if self._broken_pipe or self.ended:
            return
        if not self._unsent and len(buffers) == 1:
            # The usual case: one buffer that the kernel takes whole.
            data = buffers[0]
            try:
                sent = self._sock.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                if error.errno not in _SHORT:
                    self._break()
                    return
                sent = 0  # once more below
            if sent == len(data):
                return
            self._unsent.append(memoryview(data)[sent:])
        else:
            self._unsent.extend(_flat(buffer) for buffer in buffers)
        self._write()

    def _write(self) -> None:
        unsent = self._unsent
        short = False
        try:
            while unsent:
                sent = self._send_some()
                self._short_since = None
                while sent:
                    size = len(unsent[0])
                    if sent < size:
                        unsent[0] = unsent[0][sent:]
                        break
                    unsent.popleft()
                    sent -= size
        except (BlockingIOError, InterruptedError):
            self._short_since = None  # the peer is slow, and there is memory
        except OSError as error:
            short = self._wait(error)
            if not short:
                self._break()
        # A socket that lacks memory may look writable.
        wanted = bool(unsent) and not short
        if wanted != self._writing:
            self._writing = wanted
            if self._writing:
                self._loop.add_writer(self._fd, self._write)
            else:
                self._loop.remove_writer(self._fd)

    def _wait(self, error: OSError) -> bool:
        """Try again soon, if the kernel has no memory to send with; False: it is another error."""
        if error.errno not in _SHORT:
            return False
        now = self._loop.time()
        if self._short_since is None:
            self._short_since = now
        if now - self._short_since > _SHORT_LASTS:
            return False
        if self._retry is None:
            self._retry = self._loop.call_later(_PAUSE, self._try_again)
        return True

    def _try_again(self) -> None:
        self._retry = None
        self._write()

    def _send_some(self) -> int:
        unsent = self._unsent
        return self._sock.sendmsg([unsent[i] for i in range(min(len(unsent), _VECTOR))])

    def limit_silence(self) -> None:
        """Give the peer up when it acknowledges nothing for a while, where the kernel can do that.

        For connections whose peer is never too busy to read.
        """

    def _break(self) -> None:
        """Nothing more can be written; what there is to read is read to its end."""
        self._broken_pipe = self._thorough = True
        self._unsent.clear()
        self._loop.call_soon(self.drain)

    # -- the end

    def _end(self, error: BaseException | None) -> None:
        if self.ended:
            return
        self.close()
        self.events.ended(self, error)

    def close(self) -> None:
        """Let go of the socket; no event follows."""
        if self.ended:
            return
        self.ended = True
        self.connection.close()
        self._unsent.clear()
        self._loop.remove_reader(self._fd)
        if self._writing:
            self._loop.remove_writer(self._fd)
        if self._retry is not None:
            self._retry.cancel()
        self._sock.close()

    def abandon(self) -> None:
        """Close the descriptor without touching the loop: for the copy in a forked child."""
        self.ended = True
        self._sock.close()


def _flat(buffer: Buffer) -> memoryview:
    return memoryview(buffer).cast("B") if len(buffer) else memoryview(b"")
