"""The service of modules in processes of its own: scripts, ``-m``, folders, metadata."""

import asyncio
import importlib.util
import json
import os
import sys
import threading
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from support import run_script, wait_until

from pool_client.services.module_service import ModuleService


def ask(service: ModuleService, method: str, blob: bytes) -> Any:
    async def go() -> bytes:
        return await service.answer(method, blob)

    try:
        return asyncio.run(asyncio.wait_for(go(), 20))
    finally:
        service.close()


def find(name: str, *code_paths: Path) -> tuple[dict[str, Any], bytes]:
    reply = ask(ModuleService(list(map(str, code_paths))), "find", name.encode())
    head, _, source = reply.partition(b"\n")
    return json.loads(head), source


def test_module_of_a_code_path(tmp_path: Path) -> None:
    """The reply: what it is, where it lies, its text."""
    (tmp_path / "own_code.py").write_text("VALUE = 1\n\nMORE = 2\n")
    head, source = find("own_code", tmp_path)
    file = str(tmp_path / "own_code.py")
    assert head == {"kind": "module", "files": [file], "install": [], "reason": ""}
    assert source == b"VALUE = 1\n\nMORE = 2\n"


def test_installed_package() -> None:
    """What to install, in the client's version."""
    head, source = find("pytest_timeout")
    wanted = f"pytest-timeout=={metadata.version('pytest-timeout')}"
    assert (head["kind"], head["install"], source) == ("missing", [wanted], b"")
    assert head["reason"] == "the client has it installed"


def test_installed_without_a_distribution(tmp_path: Path) -> None:
    """A file that somebody has put among the installed packages."""
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "stray.py").write_text("")
    head, _ = find("stray", site)
    assert (head["kind"], head["install"]) == ("missing", [])
    assert str(site / "stray.py") in head["reason"]


def test_loaded_module_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module that the client has loaded is the one that is sent, wherever others lie."""
    for name in ("one", "two"):
        (tmp_path / name / "own_pkg").mkdir(parents=True)
        (tmp_path / name / "own_pkg" / "__init__.py").write_text(f"NAME = {name!r}")
        (tmp_path / name / "own_mod.py").write_text(f"NAME = {name!r}")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "two"), *sys.path])
    import own_mod  # type: ignore[import-not-found]
    import own_pkg  # type: ignore[import-not-found]

    try:
        assert own_mod.NAME == own_pkg.NAME == "two"
        for name in ("own_mod", "own_pkg"):
            assert find(name, tmp_path / "one", tmp_path)[1] == b"NAME = 'two'"
        del sys.modules["own_mod"]
        assert find("own_mod", tmp_path / "one", tmp_path)[1] == b"NAME = 'one'"
    finally:
        sys.modules.pop("own_mod", None)
        sys.modules.pop("own_pkg", None)


def test_lazy_module_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To look where a module lies does not load it; nor does anything strange harm."""
    (tmp_path / "own_lazy.py").write_text("raise SystemError('loaded')")
    spec = importlib.util.spec_from_file_location("own_lazy", tmp_path / "own_lazy.py")
    assert spec is not None and spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "own_lazy", module)
    assert find("own_lazy", tmp_path)[1] == b"raise SystemError('loaded')"
    for strange in (None, 3, object()):
        monkeypatch.setitem(sys.modules, "own_lazy", strange)
        assert find("own_lazy", tmp_path)[1] == b"raise SystemError('loaded')"


def test_data_and_names(tmp_path: Path) -> None:
    """Files of a package; errors are raised for whoever has asked."""
    (tmp_path / "own_pkg").mkdir()
    (tmp_path / "own_pkg" / "__init__.py").write_text("")
    (tmp_path / "own_pkg" / "table.csv").write_text("1,2")
    folders = [str(tmp_path)]
    wanted = json.dumps(["own_pkg", "table.csv"]).encode()
    assert ask(ModuleService(folders), "data", wanted) == b"1,2"
    names = ask(ModuleService(folders), "list", json.dumps(["own_pkg", ""]).encode())
    assert json.loads(names) == ["__init__.py", "table.csv"]
    with pytest.raises(PermissionError):
        ask(ModuleService(folders), "data", json.dumps(["own_pkg", "../x"]).encode())


@pytest.mark.parametrize(
    ("method", "blob"),
    [("none", b""), ("find", b"\xff"), ("data", b"{"), ("data", b"[1]"), ("list", b"3")],
)
def test_nonsense(method: str, blob: bytes) -> None:
    """A request that makes no sense is an error, and no more."""
    with pytest.raises(Exception):  # noqa: B017 - any: it goes back as text
        ask(ModuleService(), method, blob)


def test_not_on_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that does not answer holds the loop up for not a moment."""
    reading, gate = threading.Event(), threading.Event()
    (tmp_path / "own_code.py").write_text("")

    def stuck(self: Path) -> bytes:
        reading.set()
        assert gate.wait(20)
        return b"late"

    monkeypatch.setattr(Path, "read_bytes", stuck)
    service = ModuleService([str(tmp_path)])

    async def go() -> bytes:
        answer = asyncio.ensure_future(service.answer("find", b"own_code"))
        while not reading.is_set():
            await asyncio.sleep(0.001)
        gate.set()
        return await answer

    assert asyncio.run(asyncio.wait_for(go(), 20)).endswith(b"late")
    service.close()
    wait_until(lambda: "pool-modules" not in [one.name for one in threading.enumerate()])


ASK = """
import asyncio, sys
from pool_client.services.module_service import ModuleService

async def ask(service, name):
    return await service.answer("find", name.encode())

service = ModuleService()
for name in sys.argv[1:]:
    print(asyncio.run(ask(service, name)).decode().splitlines()[-1])
service.close()
"""


def test_folder_of_a_script(tmp_path: Path) -> None:
    """The script's folder and the working directory, and no other."""
    for name in ("script", "here", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"in_{name}.py").write_text(f"from_{name} = 1")
    environment = {"PYTHONPATH": str(tmp_path / "other")}
    result = run_script(
        ASK,
        *("in_script", "in_here", "in_other", "pytest"),
        as_file=tmp_path / "script" / "main.py",
        cwd=tmp_path / "here",
        env=environment,
    )
    lines = result.stdout.splitlines()
    assert lines[:2] == ["from_script = 1", "from_here = 1"]
    assert "code_paths=" in lines[2] and str(tmp_path / "other") in lines[2]
    assert f"pytest=={metadata.version('pytest')}" in lines[3]


@pytest.mark.parametrize("name", ["top.tool", "top"])
def test_started_with_m(tmp_path: Path, name: str) -> None:
    """With ``python -m`` the folder is the one in which the package lies."""
    (tmp_path / "code" / "top").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for file in ("top/tool.py", "top/__main__.py"):
        (tmp_path / "code" / file).write_text(ASK)
    (tmp_path / "code" / "top" / "__init__.py").write_text("top = 1")
    (tmp_path / "code" / "beside.py").write_text("beside = 1")
    source = f"""
        import os, runpy, sys
        sys.path.insert(0, {str(tmp_path / "code")!r})
        os.chdir({str(tmp_path / "elsewhere")!r})
        runpy.run_module({name!r}, run_name="__main__", alter_sys=True)
    """
    result = run_script(source, "top", "beside")
    assert result.stdout.splitlines() == ["top = 1", "beside = 1"]


def test_without_a_working_directory(tmp_path: Path) -> None:
    """It was removed meanwhile: the rest still works."""
    source = f"""
        import asyncio, os, pool_client.services.module_service
        os.mkdir({str(tmp_path / "gone")!r})
        os.chdir({str(tmp_path / "gone")!r})
        os.rmdir({str(tmp_path / "gone")!r})
        {ASK.strip().replace(chr(10), chr(10) + "        ")}
    """
    assert "finds none either" in run_script(source, "own_code").stdout


def test_environment_in_the_working_directory(tmp_path: Path) -> None:
    """Neither what is installed in it nor its folders are given away."""
    site = tmp_path / "env" / "lib" / "python3.11" / "site-packages"
    (site / "thing").mkdir(parents=True)
    (site / "thing" / "__init__.py").write_text("secret = 1")
    (tmp_path / "env" / "pyvenv.cfg").write_text("")
    result = run_script(ASK, "thing", "env.lib", cwd=tmp_path, env={"PYTHONPATH": os.fspath(site)})
    assert "secret" not in result.stdout
    assert result.stdout.count('"missing"') == 2
