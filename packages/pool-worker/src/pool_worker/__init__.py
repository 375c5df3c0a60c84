"""The `pool-worker` program: a supervisor that starts, watches and ends worker processes."""

from pool_worker.__about__ import __version__

__all__ = ["__version__"]
