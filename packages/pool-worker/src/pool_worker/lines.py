"""What workers print, cut into lines, and how much of it goes out: no I/O here.

At most ``WINDOW`` bytes are under way to the client; what comes beyond is kept, ``WINDOW`` bytes
more in all, and then lines are dropped and counted. The stream of which most is kept loses first,
so that a flood does not drown the others.
"""

from collections import deque

from pool_protocol.messages import Output

#: Bytes that the client has not printed yet, and bytes that are kept here beside them.
WINDOW = 256 * 1024
#: The longest line in bytes, its end included; lines are joined up to as much.
LONGEST = 64 * 1024


class Lines:
    """Cuts what one stream gives into whole lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """The lines that these bytes, at most ``LONGEST``, complete; one too long becomes several.

        Only the first line can be too long, as it may have begun earlier.
        """
        data = self._rest + data
        cut = []
        while len(data) >= LONGEST and data.find(b"\n", 0, LONGEST) < 0:
            at = _whole_characters(data, LONGEST - 1)
            cut.append(data[:at] + b"\n")
            data = data[at:]
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        return b"".join(cut) + data[:end]

    def finish(self) -> bytes:
        """The last line, if nobody has ended it."""
        rest, self._rest = self._rest, b""
        return rest + b"\n" if rest else b""


def _whole_characters(data: bytes, at: int) -> int:
    """The last place up to ``at`` that does not split a character of UTF-8."""
    for place in range(at, at - 4, -1):
        if data[place] & 0xC0 != 0x80:
            return place
    return at


class Stream:
    """One of a worker's two streams: the lines that wait, and how many were lost after them."""

    def __init__(self, worker: int, number: int) -> None:
        self.worker = worker
        self.number = number
        self.lines = Lines()
        self.size = 0
        self._lost = 0
        #: Lines, and how many were lost before them.
        self._blocks: deque[tuple[int, bytearray]] = deque()

    def __repr__(self) -> str:
        return f"<Stream {self.number} of {self.worker}: {self.size} bytes, then {self._lost} lost>"

    def put(self, lines: bytes) -> None:
        """Keep lines."""
        last = self._blocks[-1][1] if self._blocks and not self._lost else None
        if last is not None and len(last) + len(lines) <= LONGEST:
            last += lines
        else:
            self._blocks.append((self._lost, bytearray(lines)))
            self._lost = 0
        self.size += len(lines)

    def lose(self, lines: bytes | bytearray) -> None:
        """Count lines that will not be kept."""
        self._lost += lines.count(b"\n")

    def lose_last(self) -> None:
        """Drop the newest of what is kept."""
        lost, block = self._blocks.pop()
        self.size -= len(block)
        self._lost += lost
        self.lose(block)

    @property
    def next_size(self) -> int | None:
        """The size of what ``pop`` would give; None if there is nothing to tell."""
        if self._blocks:
            return len(self._blocks[0][1])
        return 0 if self._lost else None

    def pop(self) -> Output:
        """The oldest of what is kept; or, at the end, that something was lost."""
        if self._blocks:
            lost, block = self._blocks.popleft()
        else:
            lost, block = self._lost, bytearray()
            self._lost = 0
        self.size -= len(block)
        return Output(self.worker, self.number, lost, bytes(block))


class Backlog:
    """The lines of all streams on their way to the client."""

    def __init__(self) -> None:
        self._free = WINDOW
        self._kept = 0
        #: Those with anything to tell, in the order of their turns.
        self._waiting: dict[Stream, None] = {}

    def __repr__(self) -> str:
        return f"<Backlog {self._kept} bytes kept, {WINDOW - self._free} under way>"

    def add(self, stream: Stream, lines: bytes) -> None:
        """Keep whole lines, as far as there is room for them."""
        if not lines:
            return
        self._make_room(stream, len(lines))
        room = WINDOW - self._kept
        cut = len(lines) if len(lines) <= room else lines.rfind(b"\n", 0, room) + 1
        if cut:
            stream.put(lines[:cut])
            self._kept += cut
        stream.lose(lines[cut:])
        self._waiting[stream] = None

    def _make_room(self, stream: Stream, size: int) -> None:
        """Let others lose lines, as long as they have more of them."""
        while self._kept + size > WINDOW:
            largest = max(self._waiting, key=lambda each: each.size)
            if largest.size <= stream.size + size:
                return
            self._kept -= largest.size
            largest.lose_last()
            self._kept += largest.size

    def take(self) -> Output | None:
        """The next message to send, each stream in its turn; None: nothing, or not now."""
        stream = next(iter(self._waiting), None)
        if stream is None:
            return None
        size = stream.next_size or 0
        if size > self._free or not self._free:
            return None
        del self._waiting[stream]
        output = stream.pop()
        self._free -= size
        self._kept -= size
        if stream.next_size is not None:
            self._waiting[stream] = None
        return output

    def taken(self, nbytes: int) -> None:
        """The client has printed so many bytes."""
        self._free = min(WINDOW, self._free + nbytes)

    @property
    def empty(self) -> bool:
        """True when nothing is kept, and nothing under way."""
        return not self._waiting and self._free == WINDOW

    def open(self) -> None:
        """From here on everything that is kept may be sent: it is the end."""
        self._free = 2 * WINDOW
