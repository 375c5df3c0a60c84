"""A server that will start `pool-worker` on hosts of a local network: a skeleton so far.

Run ``python -m pool_spawner --help`` for what it will be.
"""

from pool_spawner.__about__ import __version__

__all__ = ["__version__"]
