"""Programs that checks need, and their installation."""

import subprocess
from pathlib import Path

import pytest

from tools import needs
from tools.needs import Need

TOOL = Need("tool", "tool-package", "a purpose")


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "FakeApt":
    """Replace apt-get, the rights to call it, and the file that it asks."""
    fake = FakeApt(tmp_path / "policy-rc.d")
    monkeypatch.setattr(needs.subprocess, "run", fake.run)
    monkeypatch.setattr(needs, "POLICY", fake.policy)
    monkeypatch.setattr(needs, "may_install", lambda: True)
    monkeypatch.setattr(Need, "met", lambda need: fake.installed)
    return fake


class FakeApt:
    """Installs at the call of that number, counted from 0."""

    def __init__(self, policy: Path) -> None:
        self.policy = policy
        self.installed = False
        self.succeeds_at = 0
        self.commands: list[list[str]] = []
        self.forbidden: list[bool] = []

    def run(self, command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        environ = options["env"]
        assert isinstance(environ, dict)
        assert environ["DEBIAN_FRONTEND"] == "noninteractive"
        self.forbidden.append(self.policy.exists() and "exit 101" in self.policy.read_text())
        self.installed = len(self.commands) >= self.succeeds_at and command[1] == "install"
        self.commands.append(command)
        return subprocess.CompletedProcess(command, 0 if self.installed else 100)


def test_what_is_here_is_not_installed(apt: FakeApt) -> None:
    apt.installed = True
    assert needs.provide([TOOL]) == []
    assert apt.commands == []


def test_what_is_missing_is_installed_loudly(
    apt: FakeApt, capsys: pytest.CaptureFixture[str]
) -> None:
    assert needs.provide([TOOL]) == []
    assert apt.commands[0][:2] == ["apt-get", "install"]
    assert apt.commands[0][-1] == "tool-package"
    assert "!!! installing tool-package with apt-get" in capsys.readouterr().out


def test_no_daemon_is_started_and_nothing_stays_forbidden(apt: FakeApt) -> None:
    needs.provide([TOOL])
    assert apt.forbidden == [True]
    assert not apt.policy.exists()


def test_a_policy_that_was_there_stays(apt: FakeApt) -> None:
    apt.policy.write_text("the machine's own", encoding="utf-8")
    needs.provide([TOOL])
    assert apt.policy.read_text(encoding="utf-8") == "the machine's own"


def test_a_policy_that_a_killed_installation_left_goes(apt: FakeApt) -> None:
    apt.policy.write_text(needs._POLICY_TEXT, encoding="utf-8")
    needs.provide([TOOL])
    assert not apt.policy.exists()


def test_old_package_lists_are_fetched_again(apt: FakeApt) -> None:
    apt.succeeds_at = 2
    assert needs.provide([TOOL]) == []
    assert [command[1] for command in apt.commands] == ["install", "update", "install"]


def test_what_cannot_be_installed_is_named_with_the_command(apt: FakeApt) -> None:
    apt.succeeds_at = 99
    (line,) = needs.provide([TOOL])
    assert line == "!!! tool is MISSING, for a purpose: apt-get install tool-package"


def test_without_apt_nothing_is_tried(apt: FakeApt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "may_install", lambda: False)
    assert len(needs.provide([TOOL])) == 1
    assert apt.commands == []


def test_apt_that_hangs_is_survived(
    apt: FakeApt, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(command: list[str], **_: object) -> None:
        raise subprocess.TimeoutExpired(command, 1)

    monkeypatch.setattr(needs.subprocess, "run", run)
    assert len(needs.provide([TOOL])) == 1
    assert "apt-get failed" in capsys.readouterr().out
    assert not apt.policy.exists()


def test_programs_outside_the_path_of_users_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not Need("no-such-program", "", "").met()
    program = tmp_path / "some-program"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Need("some-program", "", "").met()
    assert Need("sh", "", "").met() is (Path("/usr/sbin/sh").exists() or Path("/sbin/sh").exists())


@pytest.mark.parametrize(
    ("root", "debian", "apt_get"), [(1, 1, 1), (0, 1, 1), (1, 0, 1), (1, 1, 0)]
)
def test_only_root_on_a_debian_installs(
    monkeypatch: pytest.MonkeyPatch, root: int, debian: int, apt_get: int
) -> None:
    monkeypatch.setattr(needs.os, "geteuid", lambda: 1 - root, raising=False)
    monkeypatch.setattr(needs.Path, "exists", lambda _: bool(debian))
    monkeypatch.setattr(needs.shutil, "which", lambda _: "apt-get" if apt_get else None)
    assert needs.may_install() is bool(root and debian and apt_get)


@pytest.mark.parametrize("plugin", [True, False])
@pytest.mark.parametrize("root", [True, False])
def test_what_is_wanted_depends_on_the_machine(
    monkeypatch: pytest.MonkeyPatch, plugin: bool, root: bool
) -> None:
    done = subprocess.CompletedProcess([], int(not plugin))
    monkeypatch.setattr(needs.subprocess, "run", lambda *_, **__: done)
    monkeypatch.setattr(needs, "may_install", lambda: root)
    assert needs.wanted(docker=False) == [needs.SSHD, needs.IP, needs.IPTABLES]
    found = needs.wanted(docker=True)
    assert (needs.COMPOSE in found) is not plugin
    assert (needs.DEBOOTSTRAP in found) is root


@pytest.mark.parametrize("fault", ["missing", "failing", "hanging", None])
def test_docker_answers_or_not(monkeypatch: pytest.MonkeyPatch, fault: str | None) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        if fault == "hanging":
            raise subprocess.TimeoutExpired(command, 1)
        return subprocess.CompletedProcess(command, int(fault == "failing"))

    found = None if fault == "missing" else "docker"
    monkeypatch.setattr(needs.shutil, "which", lambda _: found)
    monkeypatch.setattr(needs.subprocess, "run", run)
    assert needs.docker_answers() is (fault is None)
