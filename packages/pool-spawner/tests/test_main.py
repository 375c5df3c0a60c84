"""The command line: help, flags, ``init``, and what is said before anything is served."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from running import Spawner

from pool_protocol import quota
from pool_spawner import __version__
from pool_spawner.__main__ import build_parser, cpu_count, main


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m pool_spawner`` as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "pool_spawner", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


def test_help_tells_of_every_command_and_flag() -> None:
    done = run("--help")
    assert done.returncode == 0
    flags = ["--host", "--port", "--max-workers", "--credential", "--log-format", "--log-level"]
    for word in (*flags, "--version", "init", "serve", "SIGTERM", "SIGHUP", "8899", "127.0.0.1"):
        assert word in done.stdout, word
    assert build_parser().format_help() in done.stdout or "pool-spawner" in done.stdout


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"pool-spawner {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--no-such-flag"], "--no-such-flag"),
        (["dance"], "dance"),
        (["--port", "65536"], "65536"),
        (["--port", "http"], "--port"),
        (["--max-workers", "0"], "--max-workers"),
        (["--log-format", "xml"], "xml"),
        (["--log-level", "loud"], "loud"),
        (["--hos", "x"], "--hos"),
        (["init", "--port", "1"], "--port is a flag of serve"),
        (["init", "--max-workers", "1"], "--max-workers is a flag of serve"),
        (["init", "--host", ""], "--host is a flag of serve"),
    ],
)
def test_bad_arguments_are_told_in_one_line(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert said.out == "" and said.err.count("\n") == 1
    assert named in said.err and "--help" in said.err


def test_init_makes_the_credential_in_the_usual_place(tmp_path: Path) -> None:
    done = run("init", HOME=str(tmp_path))
    place = tmp_path / ".config/pool/credential.pem"
    assert done.returncode == 0, done.stderr
    assert str(place) in done.stdout and "SHA-256" in done.stdout and "secret" in done.stdout
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    again = run("init", HOME=str(tmp_path))
    assert again.returncode == 1
    assert again.stderr.count("\n") == 1 and "exists already" in again.stderr


def test_init_never_prints_the_key(tmp_path: Path) -> None:
    done = run("init", "--credential", str(tmp_path / "c.pem"))
    key = (tmp_path / "c.pem").read_text().splitlines()[1]
    assert key not in done.stdout + done.stderr


def test_init_without_cryptography_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    monkeypatch.delitem(sys.modules, "pool_spawner.making")
    assert main(["init", "--credential", str(tmp_path / "c.pem")]) == 1
    assert "pip install cryptography" in capsys.readouterr().err


def test_without_a_credential_it_says_how_to_make_one(tmp_path: Path) -> None:
    done = run(HOME=str(tmp_path))
    assert done.returncode == 1
    assert "python -m pool_spawner init" in done.stderr and done.stderr.count("\n") == 1


def test_serving_does_not_need_cryptography(credential: Path, tmp_path: Path) -> None:
    (tmp_path / "cryptography.py").write_text("raise ImportError('it was imported')")
    done = run("--host", "192.0.2.1", "--credential", str(credential), PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "cannot listen" in done.stderr and "it was imported" not in done.stderr


def test_an_address_in_use_is_told(serve, credential: Path) -> None:
    taken = serve().port
    done = run("--port", str(taken), "--credential", str(credential))
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{taken}" in done.stderr and "--port" in done.stderr


def test_the_default_cap_is_four_for_each_cpu(credential: Path, serve) -> None:
    spawner: Spawner = serve()
    assert f"at most {4 * cpu_count()} workers" in spawner.logged("listening")["message"]


def test_a_container_may_leave_a_part_of_the_cpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "groups").write_text("0::/absent\n")
    monkeypatch.setattr(quota, "_GROUPS", str(tmp_path / "groups"))
    monkeypatch.setattr(quota, "_ROOT", str(tmp_path))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert cpu_count() == 8
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert cpu_count() == 3


def test_the_default_command_is_to_serve() -> None:
    assert build_parser().parse_args([]).command == "serve"
