"""pool_worker.loops: the loop that was asked for, or what it needs."""

import asyncio
import sys

import pytest

from pool_protocol import LoopType
from pool_worker import loops


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither uvloop nor qasync can be imported."""
    for name in ("uvloop", "qasync"):
        monkeypatch.setitem(sys.modules, name, None)


def test_asyncio_is_always_there() -> None:
    loop = loops.loop_maker(LoopType.asyncio)()
    assert type(loop).__module__.startswith("asyncio")
    assert loop.run_until_complete(asyncio.sleep(0, 5)) == 5
    loop.close()


def test_uvloop_is_the_default_where_it_is_installed() -> None:
    pytest.importorskip("uvloop")
    for kind in (LoopType.default, LoopType.uvloop):
        loop = loops.loop_maker(kind)()
        assert type(loop).__module__.startswith("uvloop")
        loop.close()


def test_asyncio_is_the_default_elsewhere(nothing: None) -> None:
    loop = loops.loop_maker(LoopType.default)()
    assert type(loop).__module__.startswith("asyncio")
    loop.close()


@pytest.mark.parametrize("kind", [LoopType.uvloop, LoopType.qt])
def test_a_missing_package_is_named(kind: LoopType, nothing: None) -> None:
    name = "qasync" if kind is LoopType.qt else "uvloop"
    with pytest.raises(ImportError, match=f"needs {name}.*pip install {name}"):
        loops.loop_maker(kind)


@pytest.mark.skipif(sys.platform == "win32", reason="it is there on Windows")
def test_the_proactor_needs_windows() -> None:
    with pytest.raises(RuntimeError, match="Windows"):
        loops.loop_maker(LoopType.proactor)


def test_every_choice_has_a_maker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "import_module", lambda name: object())
    monkeypatch.setattr(sys, "platform", "win32")
    for kind in LoopType:
        assert callable(loops.loop_maker(kind))
