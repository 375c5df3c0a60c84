"""Results on their way out: gathered in the shared page, written in one go."""

from pool_protocol import Packed, Payload, payload_size
from pool_protocol.frames import HEADER_SIZE, encode
from pool_protocol.messages import RESULT
from pool_worker.channel import Channel
from pool_worker.page import AREA, END, SIZE, Page

#: The largest service time that fits a result, in ns.
MAX_NANOS = 0xFFFFFFFF


class Outbox:
    """Gathers results in a page and writes them to a channel."""

    def __init__(self, page: Page, channel: Channel, limit: int | None = None) -> None:
        self.limit = limit
        self._page = page
        self._channel = channel

    def put(self, id: int, nanos: int, flags: int, payload: Payload) -> None:
        """Take over a result. Raises FrameTooLarge, and OSError when the client is gone."""
        buffers = encode(RESULT, flags, min(nanos, MAX_NANOS), id, payload, self.limit)
        total = payload_size(payload) + HEADER_SIZE
        if total > SIZE - AREA or (isinstance(payload, Packed) and payload.buffers):
            self.flush()
            self._channel.write(buffers)
            return
        page = self._page
        end = page.words[END] or AREA
        if end + total > SIZE:
            self.flush()
            end = AREA
        page.map[end : end + total] = b"".join(buffers)
        page.words[END] = end + total

    def write(self, id: int, nanos: int, flags: int, payload: Payload) -> None:
        """As `put`, but at once, past the page.

        What a supervisor takes from the page comes by another way, and may be there first.
        """
        buffers = encode(RESULT, flags, min(nanos, MAX_NANOS), id, payload, self.limit)
        self.flush()
        self._channel.write(buffers)

    def flush(self) -> None:
        """Write what is gathered. Raises OSError."""
        page = self._page
        end = page.words[END]
        if end:
            self._channel.write_all(page.bytes[AREA:end])
            page.words[END] = 0
