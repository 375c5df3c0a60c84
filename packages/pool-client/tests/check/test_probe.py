"""One host, looked at by a real pool: this machine, a host like another, and hosts that fail."""

import asyncio
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import fake_remote
import pytest

from pool_client.check import probe as module
from pool_client.check.probe import probe, this_side
from pool_client.check.report import Report


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure for no longer than a test needs; and make ``fake://`` known."""
    monkeypatch.setattr(module, "MEASURE", 0.02)
    fake_remote.register()


def look(host: str, said: list[tuple[str, str]] | None = None, **settings: Any) -> Report:
    async def go() -> Report:
        def progress(host: str, what: str) -> None:
            if said is not None:
                said.append((host, what))

        return await probe(host, settings, asyncio.Lock(), progress)

    return asyncio.run(asyncio.wait_for(go(), 40))


def test_this_side() -> None:
    """This Python and what it has."""
    side = this_side()
    assert side.python == sys.version.split()[0]
    assert side.packages["cloudpickle"] == metadata.version("cloudpickle")
    assert "pool-client" in side.packages


def test_missing_package_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not installed is None."""
    monkeypatch.setattr(module, "PACKAGES", ("no-such-package",))
    assert this_side().packages["no-such-package"] is None


@pytest.mark.parametrize("host", ["local/2", "fake://node1/2"])
def test_good_host(host: str) -> None:
    """Everything is filled in, and progress is told."""
    said: list[tuple[str, str]] = []
    before = time.monotonic()
    report = look(host, said)
    took = time.monotonic() - before
    assert report.ok, report.error
    assert report.host == host
    assert (report.workers, report.notes) == (2, ())
    assert report.cpus >= 1 and report.memory > 0 and report.started > 0
    assert report.side is not None
    assert report.side.python == sys.version.split()[0]
    assert report.side.packages["pool-worker"] == metadata.version("pool-worker")
    figures = report.figures
    assert figures is not None
    # At least one task and 100 kB each way, in no more time than all of it took.
    assert 0 < figures.round_trip < took
    assert figures.tasks_per_second > 1 / took
    assert min(figures.bytes_per_second_to, figures.bytes_per_second_from) > 1e5 / took
    assert said == [(host, "starting workers"), (host, "measuring"), (host, "ok")]


def test_host_without_packages(tmp_path: Path) -> None:
    """What is not installed there is known as such: here metadata are not to be had."""
    (tmp_path / "sitecustomize.py").write_text(
        "from importlib import metadata\n"
        "def version(name):\n"
        "    raise metadata.PackageNotFoundError(name)\n"
        "metadata.version = version\n"
    )
    report = look(f"fake://node1/1?path={tmp_path}")
    assert report.ok, report.error
    assert report.side is not None and set(report.side.packages.values()) == {None}
    assert any("uvloop" in note for note in report.notes) == bool(
        this_side().packages.get("uvloop")
    )


def test_host_that_cannot_be_started() -> None:
    """The launcher's reason and its advice are the error; progress says that it failed."""
    said: list[tuple[str, str]] = []
    report = look("ssh://node1/1", said, ssh_command=["/no/such/ssh"])
    assert not report.ok and report.side is None
    assert "/no/such/ssh" in report.error and "install" in report.error
    assert said[-1] == ("ssh://node1/1", "failed")


def test_lan_host_without_a_credential(tmp_path: Path) -> None:
    """It says how to make one, and how ssh would be meant."""
    report = look("node1/2", credential=str(tmp_path / "none.pem"))
    assert "pool_spawner init" in report.error
    assert "ssh://node1/2" in report.error


def test_unknown_scheme() -> None:
    """No launcher: an error like any other."""
    assert "no launcher" in look("gopher://node1/1").error


def test_host_that_comes_up_and_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tasks are not waited for for ever."""
    monkeypatch.setattr(module, "ANSWER", 0.3)
    monkeypatch.setattr(
        module.Pool, "run_async", lambda self, *args: asyncio.sleep(1000), raising=True
    )
    report = look("local/1")
    assert not report.ok and "not done within 0.3 s" in report.error
    assert report.workers == 1


def test_error_without_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its type is better than nothing."""

    async def fail(*args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(module, "_that_side", fail)
    assert look("local/1").error == "ZeroDivisionError"


def test_measured_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts are started side by side, and never measured at the same time."""
    said: list[tuple[str, str]] = []
    measured: list[str] = []
    measure = module._measure

    async def noted(pool: Any) -> Any:
        measured.append("begin")
        figures = await measure(pool)
        measured.append("end")
        return figures

    monkeypatch.setattr(module, "_measure", noted)

    async def go() -> list[Report]:
        alone = asyncio.Lock()

        def progress(host: str, what: str) -> None:
            said.append((host, what))

        hosts = ("fake://node1/1", "fake://node2/1", "local/1")
        return await asyncio.gather(*(probe(host, {}, alone, progress) for host in hosts))

    reports = asyncio.run(asyncio.wait_for(go(), 50))
    assert all(report.ok for report in reports)
    assert [what for _, what in said[:3]] == ["starting workers"] * 3
    assert measured == ["begin", "end"] * 3
