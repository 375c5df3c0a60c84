"""The cap on workers, which all clients share: pure. Who waits gets its turn in order of arrival.

Nobody overtakes: a client that asks for few would otherwise always pass one that asks for many.
"""

from collections.abc import Hashable


class OverCap(Exception):
    """More workers than this spawner ever starts; the text says so to the client."""


class Slots:
    """Who holds how many of the ``cap`` workers, and who waits.

    ``cpus`` is what a client gets that asks for as many as the host has.
    """

    def __init__(self, cap: int, cpus: int) -> None:
        self.cap = cap
        self._cpus = cpus
        self._held: dict[Hashable, int] = {}
        self._waiting: dict[Hashable, int] = {}

    def __repr__(self) -> str:
        return f"<Slots {self.free} of {self.cap} free, {len(self._waiting)} waiting>"

    @property
    def free(self) -> int:
        """How many more workers may be started."""
        return self.cap - sum(self._held.values())

    def wanted(self, workers: int) -> int:
        """How many workers a client means that asks for so many; 0 asks for one for each CPU.

        Raises OverCap, for waiting would not help.
        """
        if workers < 0:
            raise OverCap(f"{workers} is not a number of workers")
        if workers > self.cap:
            raise OverCap(
                f"{workers} workers were asked for, and this pool-spawner starts {self.cap} at "
                "most, for all its clients together: ask for fewer, or start it there with a "
                f"larger --max-workers than {self.cap}"
            )
        return workers or min(self._cpus, self.cap)

    def enter(self, who: Hashable, workers: int) -> bool:
        """Take so many workers. False: they are not free, and ``who`` waits for its turn."""
        if self._waiting or workers > self.free:
            self._waiting[who] = workers
            return False
        self._held[who] = workers
        return True

    def leave(self, who: Hashable) -> list[Hashable]:
        """Give back what ``who`` held or waited for; those whose turn has come now hold theirs."""
        self._held.pop(who, None)
        self._waiting.pop(who, None)
        granted: list[Hashable] = []
        for waiting, workers in list(self._waiting.items()):
            if workers > self.free:
                break
            del self._waiting[waiting]
            self._held[waiting] = workers
            granted.append(waiting)
        return granted
