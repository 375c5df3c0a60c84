"""A server that starts `pool-worker` on hosts of a local network when an authenticated client asks.

Run ``python -m pool_spawner --help``; nothing here is meant to be imported.
"""

from pool_spawner.__about__ import __version__

__all__ = ["__version__"]
