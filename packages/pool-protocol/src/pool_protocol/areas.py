"""Memory for what is large, used again while it is warm.

Memory that the kernel hands out anew costs more than the copy into it: every page is a fault and
is cleared first, and in a virtual machine whose free pages go back to the host (free page
reporting, balloons) it has to be fetched from there: 64 MiB filled take 5 ms in warm memory, 20 to
130 ms in new. So the areas of late are kept for a while, and one that nobody looks at any more
receives the next large part.
"""

import contextlib
import mmap

from pool_protocol.errors import RemoteProtocolError

#: Parts from this on are mapped: huge pages where the kernel has them, given back at once.
MAPPED = 4 * 1024 * 1024
#: How much is kept at most, in bytes: two arrays of 128 MiB.
KEPT = 256 * 1024 * 1024
#: How many areas are kept at most.
_COUNT = 8
#: The size of a huge page; areas are multiples of it.
_GRAIN = 2 * 1024 * 1024
#: Private: memory that Python maps is otherwise shared with every child that is forked later.
MAP_OPTIONS = {"flags": mmap.MAP_PRIVATE} if hasattr(mmap, "MAP_PRIVATE") else {}


class _Area:
    """A piece of mapped memory, and whether it was asked for lately."""

    __slots__ = ("lately", "map")

    def __init__(self, size: int) -> None:
        self.map = mapped(-(-size // _GRAIN) * _GRAIN)
        self.lately = True

    def fits(self, size: int) -> bool:
        """Is it free, large enough, and not too large?"""
        return size <= len(self.map) <= 2 * size and self._free()

    def _free(self) -> bool:
        try:
            # Changes nothing, and is refused while a view of the memory exists.
            self.map.resize(len(self.map))
        except (BufferError, SystemError):  # in use; a system that cannot tell
            return False
        return True


class Areas:
    """Hands out memory. For one thread."""

    def __init__(self, most: int = KEPT) -> None:
        self._most = most
        #: What is kept, free or not; the one that was handed out last at the end.
        self.kept: list[_Area] = []

    def __repr__(self) -> str:
        return f"<Areas {[len(area.map) for area in self.kept]}>"

    def reserve(self, size: int) -> memoryview:
        """Writable memory of ``size`` bytes, whatever is in it; its owner lives as long as a view.

        What is new is committed only where it is written. Raises RemoteProtocolError.
        """
        if size < MAPPED:
            return memoryview(bytearray(size))
        if size > self._most:
            return memoryview(mapped(size))
        for index, area in enumerate(self.kept):
            if area.fits(size):
                del self.kept[index]
                break
        else:
            area = _Area(size)
        area.lately = True
        self.kept.append(area)
        self._shorten()
        return memoryview(area.map)[:size]

    def _shorten(self) -> None:
        total = 0
        for index in range(len(self.kept) - 1, -1, -1):
            total += len(self.kept[index].map)
            if total > self._most or len(self.kept) - index > _COUNT:
                del self.kept[: index + 1]
                return

    def tidy(self) -> bool:
        """Forget what was not asked for since the last call. True: call again some time later."""
        self.kept = [area for area in self.kept if area.lately]
        for area in self.kept:
            area.lately = False
        return bool(self.kept)


def mapped(size: int) -> mmap.mmap:
    """New memory, committed only where it is written. Raises RemoteProtocolError."""
    try:
        area = mmap.mmap(-1, size, **MAP_OPTIONS)
    except (OSError, OverflowError, ValueError) as error:
        raise RemoteProtocolError(f"no memory for a frame part of {size:,} bytes") from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without huge pages
            area.madvise(mmap.MADV_HUGEPAGE)
    return area
