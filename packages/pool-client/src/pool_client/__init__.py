"""A process pool on this machine and on others, from plain code, threads and asyncio.

from pool_client import Pool

with Pool() as pool:
    for result in pool.map(work, items):
        …
"""

from pool_client.__about__ import __version__
from pool_client.errors import (
    AuthenticationError,
    CredentialError,
    FrameTooLarge,
    HostError,
    PoolBroken,
    PoolError,
    RemoteException,
    TaskTimeout,
    VersionMismatch,
    WorkerLost,
)
from pool_client.info import HostInfo, Stats, WorkerInfo
from pool_client.pool import Pool
from pool_protocol import LoopType, PickleType

__all__ = [
    "AuthenticationError",
    "CredentialError",
    "FrameTooLarge",
    "HostError",
    "HostInfo",
    "LoopType",
    "PickleType",
    "Pool",
    "PoolBroken",
    "PoolError",
    "RemoteException",
    "Stats",
    "TaskTimeout",
    "VersionMismatch",
    "WorkerInfo",
    "WorkerLost",
    "__version__",
]
