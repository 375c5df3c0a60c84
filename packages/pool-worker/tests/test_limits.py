"""pool_worker.limits: descriptors."""

import resource
from collections.abc import Iterator

import pytest

from pool_worker import limits

KIND = resource.RLIMIT_NOFILE


@pytest.fixture(autouse=True)
def soft() -> Iterator[int]:
    before, hard = resource.getrlimit(KIND)
    value = min(hard - 1, 256)
    resource.setrlimit(KIND, (value, hard))
    yield value
    limits.restore()
    resource.setrlimit(KIND, (before, hard))


def limit() -> int:
    return resource.getrlimit(KIND)[0]


def test_raised_and_restored(soft: int) -> None:
    limits.restore()
    assert limit() == soft
    for _ in range(2):
        limits.raise_soft()
        limits.raise_soft()
        assert limit() == resource.getrlimit(KIND)[1]
        limits.restore()
        assert limit() == soft


def test_a_system_that_refuses(soft: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(kind: int, values: tuple[int, int]) -> None:
        raise ValueError("current limit exceeds maximum limit")

    with monkeypatch.context() as patch:
        patch.setattr(resource, "setrlimit", refuse)
        limits.raise_soft()
        limits.restore()
    assert limit() == soft
