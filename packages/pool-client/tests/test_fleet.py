"""The hosts of a pool: the set-up of the workers, and when the pool counts as created."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import support

from pool_client import Pool, PoolBroken
from pool_client.errors import FrameTooLarge, HostError
from pool_client.fleet import _broken, make_setup


def options(**given):
    pool = Pool(1, lazy_create=True)
    pool.shutdown()
    return replace(pool._core.options, **given)


def waiting_initializer(marker: Path, gate: Path):
    """An initializer that the first worker passes, and that holds up every other one."""

    def initialize() -> None:
        import time

        try:
            marker.touch(exist_ok=False)
        except FileExistsError:
            while not gate.exists():
                time.sleep(0.01)

    return initialize


def test_setup_without_initializer() -> None:
    """Without an initializer nothing is packed, and the settings are passed on."""
    setup = make_setup(options(max_message=4096))
    assert bytes(setup.blob) == b""
    assert setup.max_message == 4096


def test_setup_with_initializer() -> None:
    """The initializer and its arguments are packed together."""
    setup = make_setup(options(initializer=divmod, initargs=(7, 2)))
    func, args = pickle.loads(setup.blob)
    assert func(*args) == (3, 1)


def test_setup_with_large_initializer() -> None:
    """An initializer that is larger than a message may be is refused; a smaller one is not."""
    given = options(initializer=print, initargs=("x" * 5000,))
    with pytest.raises(FrameTooLarge):
        make_setup(replace(given, max_message=4096))
    assert len(make_setup(replace(given, max_message=8192)).blob) > 5000


def test_connect_timeout(tmp_path: Path) -> None:
    """When workers are not ready in time, the error names the host and both counts."""
    initialize = waiting_initializer(tmp_path / "marker", tmp_path / "gate")
    with pytest.raises(PoolBroken, match=r"of 2 workers were ready .* local \([01] of 2\)"):
        Pool(2, initializer=initialize, connect_timeout=1.5)


def test_min_workers(tmp_path: Path) -> None:
    """With enough workers in time the pool is created, and the others may come later."""
    gate = tmp_path / "gate"
    initialize = waiting_initializer(tmp_path / "marker", gate)
    with Pool(2, initializer=initialize, connect_timeout=5, min_workers=1) as pool:
        assert len(pool.workers()) == 1
        assert not pool.is_ready()
        support.assert_works(pool)
        gate.touch()
        support.wait_until(pool.is_ready)
        assert len(pool.workers()) == 2


def test_broken_wraps() -> None:
    """A HostError becomes the cause of a PoolBroken; a PoolBroken stays what it is."""
    cause = HostError("box", "no such program")
    broken = _broken(cause)
    assert isinstance(broken, PoolBroken)
    assert broken.__cause__ is cause
    assert "box: no such program" in str(broken)
    assert _broken(broken) is broken


def test_failing_initializer() -> None:
    """A pool whose initializer fails says so, with the initializer's own error as the cause."""
    with pytest.raises(PoolBroken, match="initializer failed on local") as caught:
        Pool(1, initializer=divmod, initargs=(1, 0))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
