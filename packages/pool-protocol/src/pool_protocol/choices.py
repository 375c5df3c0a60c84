"""What a user can choose for the workers, by the numbers that travel."""

import enum


class PickleType(enum.IntEnum):
    """The serializers for functions and for data."""

    pickle = 0
    cloudpickle = 1
    dill = 2


class LoopType(enum.IntEnum):
    """The event loops on which a worker can run asynchronous tasks."""

    default = 0
    """uvloop where it is installed, else asyncio's own."""
    asyncio = 1
    uvloop = 2
    proactor = 3
    """Windows only."""
    qt = 4
    """A Qt event loop, through qasync."""
