"""Functions of the client's ``__main__`` share one set of globals in a worker."""

import types

import cloudpickle
import pytest

from pool_worker.main_globals import MainGlobals

SOURCE = """
cache = {}
factor = 3
made = None

def make(value):
    global made, late
    made = late = value

def read():
    return made, late

def fill(key):
    cache[key] = True
    return sorted(cache)

def look():
    return sorted(cache)

def scale(number):
    return factor * number

def scale_again(number):
    return factor * number
"""


@pytest.fixture
def main():
    """Return a module that plays the client's ``__main__``."""
    module = types.ModuleType("__main__")
    exec(compile(SOURCE, "main", "exec"), module.__dict__)
    return module


def send(mains, function):
    """Return the function as a worker gets it."""
    return mains.unpack(cloudpickle.dumps(function))


def test_what_one_function_sets_another_sees(main):
    """An initializer's globals are there for the tasks, also where the client has None."""
    mains = MainGlobals()
    send(mains, main.make)("a connection")
    assert send(mains, main.read)() == ("a connection", "a connection")
    assert main.made is None


def test_a_cache_survives_the_next_function(main):
    """A global that the worker has filled is not emptied by a function that brings it again."""
    mains = MainGlobals()
    assert send(mains, main.fill)("one") == ["one"]
    assert send(mains, main.look)() == ["one"]


def test_a_value_that_the_client_changed_is_taken_over(main):
    """A function that is sent later brings the client's new value."""
    mains = MainGlobals()
    assert send(mains, main.scale)(2) == 6
    main.factor = 5
    assert send(mains, main.scale_again)(2) == 10


def test_functions_of_other_modules_keep_their_own_globals(main):
    """Only ``__main__`` is shared."""
    other = types.ModuleType("elsewhere")
    exec(compile(SOURCE, "other", "exec"), other.__dict__)
    mains = MainGlobals()
    send(mains, other.make)("something")
    assert mains.shared == {}


def test_closures_and_attributes_arrive(main):
    """What a function closes over and carries is unchanged by the way it travels."""
    exec("def outer(x):\n    def inner(y): return x + y + factor\n    return inner", main.__dict__)
    inner = main.outer(10)
    inner.mark = "kept"
    got = send(MainGlobals(), inner)
    assert got(1) == 14
    assert got.mark == "kept"


def test_a_global_that_cannot_be_compared_is_taken_over(main):
    """A value that was sent once and does not pickle again is replaced, not compared."""

    class Once:
        """Pickles to a lock, which does not pickle."""

        def __reduce__(self):
            import threading

            return threading.Lock, ()

    main.factor = Once()
    exec("def lock():\n    return factor", main.__dict__)
    mains = MainGlobals()
    first = send(mains, main.lock)()
    exec("def lock_again():\n    return factor", main.__dict__)
    assert send(mains, main.lock_again)() is not first
