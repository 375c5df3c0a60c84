"""The tree of errors is part of the interface: users catch by it."""

import pytest

import pool_protocol
from pool_protocol import errors


@pytest.mark.parametrize(
    ("error", "bases"),
    [
        (errors.ProtocolError, (errors.PoolError,)),
        (errors.LocalProtocolError, (errors.ProtocolError,)),
        (errors.RemoteProtocolError, (errors.ProtocolError,)),
        (errors.AuthenticationError, (errors.PoolError,)),
        (errors.VersionMismatch, (errors.PoolError,)),
        (errors.FrameTooLarge, (errors.PoolError, ValueError)),
        (errors.SerializerMissing, (errors.PoolError, ImportError)),
    ],
)
def test_tree(error: type[Exception], bases: tuple[type[Exception], ...]) -> None:
    assert error.__bases__ == bases
    assert error.__doc__


def test_every_error_is_in_the_tree_that_opens_the_module() -> None:
    names = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert errors.__doc__ is not None
    assert all(name in errors.__doc__ for name in names)


class Speechless(Exception):
    def __init__(self, bad: type[BaseException]) -> None:
        self.bad = bad

    def __str__(self) -> str:
        raise self.bad


@pytest.mark.parametrize("bad", [ValueError, SystemExit, KeyboardInterrupt])
def test_what_an_error_says_whatever_it_does(bad: type[BaseException]) -> None:
    assert errors.text_of(KeyError("x")) == "'x'"
    assert errors.text_of(Speechless(bad)) == f"<str() of it raised {bad.__name__}>"


def test_every_error_is_exported() -> None:
    names = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert names <= set(pool_protocol.__all__)


def test_what_is_exported_exists() -> None:
    assert all(hasattr(pool_protocol, name) for name in pool_protocol.__all__)
    assert sorted(set(pool_protocol.__all__)) == sorted(pool_protocol.__all__)
