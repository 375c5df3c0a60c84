"""Values that misbehave when they are pickled, for the tests of what packs and unpacks."""

import pickle

from pool_protocol.errors import text_of


class Unpicklable:
    """It refuses to be pickled."""

    def __reduce__(self):
        raise ValueError("not me")


class Unreadable:
    """It can be pickled, but not brought back."""

    def __init__(self, error=None):
        self.error = error or KeyError("no way back")

    def __reduce__(self):
        return _raise, (self.error,)


class Speechless(Exception):
    """An error of which nobody learns what it says."""

    def __str__(self):
        raise ValueError("no comment")

    __repr__ = __str__


class Silent:
    """It refuses to be pickled, and does not say why."""

    def __reduce__(self):
        raise Speechless


class Moody:
    """It lets itself be pickled so often."""

    def __init__(self, times):
        self.times = times

    def __reduce__(self):
        self.times -= 1
        if self.times < 0:
            raise ValueError("not any more")
        return int, ()


class Interrupted:
    """Ctrl-C is pressed while it is pickled."""

    def __reduce__(self):
        raise KeyboardInterrupt


class Exits:
    """It ends the program, or tries to."""

    def __reduce__(self):
        raise SystemExit(3)


def _raise(error):
    raise error


def nested(depth=100_000):
    """A list too deep for a pickler."""
    deep = []
    for _ in range(depth):
        deep = [deep]
    return deep


def packed_error(error, *, trace="Traceback: there", dumps=pickle.dumps):
    """The payload of an error, as a worker makes it; *error* None: one that cannot travel."""
    blob = None if error is None else dumps(error)
    name = (
        "builtins.object"
        if error is None
        else f"{type(error).__module__}.{type(error).__qualname__}"
    )
    return pickle.dumps((blob, name, text_of(error), trace))
