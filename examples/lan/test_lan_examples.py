"""The flags that the unit, the Dockerfile and the Compose file name exist, and all are accepted."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pool_spawner.__main__ import build_parser

HERE = Path(__file__).resolve().parent
UNIT = HERE / "pool-spawner.service"


def settings() -> dict[str, str]:
    lines = re.findall(r"^(\w+)=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    return dict(lines)


def test_the_units_flags_are_flags_of_the_program() -> None:
    program, *arguments = shlex.split(settings()["ExecStart"])
    assert program.endswith("/pool-spawner")
    flags = build_parser().parse_args(arguments)
    assert (flags.command, flags.credential) == ("serve", "/etc/pool")


def test_the_unit_gives_workers_time_to_end_and_outlives_them() -> None:
    unit = settings()
    assert unit["KillMode"] == "mixed"
    assert int(unit["TimeoutStopSec"]) > 5
    assert unit["OOMPolicy"] == "continue"


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd here to check the unit with")
    text = UNIT.read_text(encoding="utf-8").replace("/opt/pool/bin/pool-spawner", sys.executable)
    copy = tmp_path / UNIT.name
    copy.write_text(text.replace("User=pool\n", "User=root\n"), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", str(copy)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert UNIT.name not in done.stderr and done.returncode == 0, done.stderr


def test_the_containers_flags_are_flags_of_the_program() -> None:
    text = (HERE / "Dockerfile").read_text(encoding="utf-8")
    entry = re.search(r"ENTRYPOINT (\[.*\])", text)
    assert entry is not None
    program, *arguments = re.findall(r'"([^"]*)"', entry[1])
    compose = (HERE / "docker-compose.yml").read_text(encoding="utf-8")
    command = re.search(r"command: (\[.*\])", compose)
    assert command is not None
    arguments += re.findall(r'"([^"]*)"', command[1])
    flags = build_parser().parse_args(arguments)
    assert program == "pool-spawner"
    assert (flags.host, flags.max_workers, flags.log_format) == ("0.0.0.0", 8, "json")


def test_docker_accepts_the_compose_file() -> None:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is None:
            continue
        done = subprocess.run(
            [*command, "-f", str(HERE / "docker-compose.yml"), "config"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if "unknown" in done.stderr and command == ["docker", "compose"]:
            continue  # docker without its plug-in
        assert done.returncode == 0, done.stderr
        assert "8899" in done.stdout
        return
    pytest.skip("there is no docker compose here to check the file with")
