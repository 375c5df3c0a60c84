"""The limit of open descriptors: raised when the supervisor needs more, as it was in workers."""

import resource

_KIND = resource.RLIMIT_NOFILE
#: The soft limit before it was raised.
_before: int | None = None


def raise_soft() -> None:
    """Raise the soft limit to the hard one, if that can be done."""
    global _before
    soft, hard = resource.getrlimit(_KIND)
    if _before is not None or soft == hard:
        return
    try:
        resource.setrlimit(_KIND, (hard, hard))
    except (OSError, ValueError):  # macOS refuses more than a number that it does not tell
        return
    _before = soft


def restore() -> None:
    """Give the soft limit back its value."""
    global _before
    if _before is not None:
        resource.setrlimit(_KIND, (_before, resource.getrlimit(_KIND)[1]))
        _before = None
