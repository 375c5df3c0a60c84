"""The package as a whole: what it gives out, and that none of it does I/O."""

import ast
from pathlib import Path

import pytest

from pool_client import mapping

FOLDER = Path(mapping.__file__).parent
WAITS = {"asyncio", "multiprocessing", "select", "selectors", "socket", "ssl", "subprocess"}
WAITS |= {"threading", "_thread", "time", "concurrent"}


def test_what_it_gives_out() -> None:
    for name in mapping.__all__:
        assert getattr(mapping, name)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_nothing_in_it_can_wait(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    assert not WAITS & {name.partition(".")[0] for name in imported}
    ours = {name for name in imported if name.startswith("pool_")}
    assert all(name.startswith("pool_client.mapping") for name in ours)


def test_every_module_is_described() -> None:
    assert mapping.__doc__ is not None
    for path in FOLDER.glob("[a-z]*.py"):
        assert f"\n    {path.stem} " in mapping.__doc__
