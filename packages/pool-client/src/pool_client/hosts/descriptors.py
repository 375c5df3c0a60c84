"""The limit of open descriptors: a connection for each worker needs room."""

import contextlib

from pool_client.errors import PoolBroken

#: Descriptors besides those of the workers: the user's files, the loop's, the supervisors' pipes.
SPARE = 128
#: The fewest of these that will do: standard streams, the loop's own, sockets to listen at, locks.
_LEAST_SPARE = 16


def make_room(workers: int) -> None:
    """Raise the soft limit of descriptors if so many workers need it.

    Raises PoolBroken, naming both numbers, when the hard limit does not allow it.
    """
    try:
        import resource
    except ImportError:
        return  # Windows has no such limit
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = workers + SPARE
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= needed:
        return
    least = workers + _LEAST_SPARE
    if hard != unlimited and hard < least:
        raise PoolBroken(
            f"{workers} workers need at least {least} open file descriptors, and this process may "
            f"have {hard} at most: raise its hard limit (ulimit -Hn), or use fewer workers"
        )
    wanted = needed if hard == unlimited else min(needed, hard)
    if wanted > soft:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
