"""Through a real sshd and a real pool-spawner: the user's modules, what tasks print, the check."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import run_script

from hosts import sshd as ssh
from hosts.bare import bare_python, path_with
from hosts.lan import Spawner
from hosts.sshd import Sshd

OWN = """
import dataclasses, sys

@dataclasses.dataclass
class Point:
    x: int

def double(point):
    print("doubles", point.x)
    print("an error", file=sys.stderr)
    return Point(2 * point.x)

async def double_later(point):
    import late
    return Point(late.FACTOR * point.x)

def where():
    return __file__

def use_numbers():
    import own_numbers
"""

MAIN = """
import json, sys
import own
from pool_client import Pool

settings = json.loads(sys.argv[1])
with Pool(0, **settings) as pool:
    assert pool.run(own.double, own.Point(4)) == own.Point(8)
    assert pool.run(own.double_later, own.Point(4)) == own.Point(12)
    points = pool.map(own.double_later, map(own.Point, range(1000)))
    assert [point.x for point in points] == list(range(0, 3000, 3))
    assert set(pool.run_on_all(own.where)) == {"client:" + own.__file__}
    try:
        pool.run(own.use_numbers)
    except ModuleNotFoundError as error:
        print("missing:", error)
"""


@pytest.fixture
def server(short_directory: Path) -> Iterator[Sshd]:
    """An sshd on whose hosts pool-worker is installed."""
    if ssh.find() is None:
        pytest.skip(ssh.MISSING)
    with Sshd(short_directory / "sshd") as server:
        yield server


@pytest.fixture
def bare_server(short_directory: Path) -> Iterator[Sshd]:
    """An sshd on a host with nothing but Python."""
    if ssh.find() is None:
        pytest.skip(ssh.MISSING)
    python = bare_python(short_directory / "env")
    environment = {"PATH": path_with(python.parent)}
    with Sshd(short_directory / "bare", environment=environment) as server:
        yield server


def over_ssh(server: Sshd, workers: int) -> dict[str, Any]:
    return {"hosts": [server.host(workers)], "ssh_command": server.command}


def over_lan(spawner: Spawner, credential: Path, workers: int) -> dict[str, Any]:
    return {"hosts": [spawner.host(workers)], "credential": str(credential)}


def run(folder: Path, settings: dict[str, Any]) -> None:
    """Run the main script of a project, and look at what it printed."""
    project = folder / "project"
    project.mkdir()
    (project / "own.py").write_text(OWN)
    (project / "late.py").write_text("FACTOR = 3")
    site = folder / "site-packages"
    (site / "own_numbers-1.2.dist-info").mkdir(parents=True)
    (site / "own_numbers-1.2.dist-info" / "METADATA").write_text("Name: own-numbers\nVersion: 1.2")
    (site / "own_numbers-1.2.dist-info" / "top_level.txt").write_text("own_numbers")
    (site / "own_numbers.py").write_text("")
    result = run_script(
        MAIN,
        json.dumps(settings),
        as_file=project / "main.py",
        cwd=folder,
        env={"PYTHONPATH": str(site)},
    )
    lines = sorted(result.stdout.splitlines())
    assert lines[0] in [f"[127.0.0.1 {number}] doubles 4" for number in (1, 2)]
    assert lines[1].startswith("missing: No module named 'own_numbers' on host 127.0.0.1")
    assert "pip install own-numbers==1.2' on host 127.0.0.1" in lines[1]
    assert len(lines) == 2
    assert result.stderr in [f"[127.0.0.1 {number}] an error\n" for number in (1, 2)]


def test_over_ssh(server: Sshd, tmp_path: Path) -> None:
    """With an installed worker."""
    run(tmp_path, over_ssh(server, 2))


def test_over_ssh_with_nothing_installed(bare_server: Sshd, tmp_path: Path) -> None:
    """With a worker that was sent, which runs from memory."""
    run(tmp_path, over_ssh(bare_server, 2))


def test_over_tls(spawner: Spawner, credential: Path, tmp_path: Path) -> None:
    """With a service connection over TLS for each worker."""
    run(tmp_path, over_lan(spawner, credential, 2))


#: ``python -m pool_client``, which does not measure for longer than a test needs.
CHECK = """
from pool_client.__main__ import main
from pool_client.check import probe
probe.MEASURE = 0.02
raise SystemExit(main())
"""


def check(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", "-c", CHECK, "check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=50)


def test_check(
    server: Sshd, bare_server: Sshd, spawner: Spawner, credential: Path, tmp_path: Path
) -> None:
    """All kinds of hosts side by side, and one where nobody is."""
    config = tmp_path / "config"
    lines = [
        f"Host {name}\n  HostName 127.0.0.1\n  Port {one.port}\n  "
        + "\n  ".join(line for line in one.config.read_text().splitlines() if line)
        for name, one in (("full", server), ("bare", bare_server))
    ]
    config.write_text("\n".join(lines) + "\n")
    options = ["--ssh-command", f"ssh -F {config}", "--credential", str(credential)]
    hosts = ["ssh://full/2", "ssh://bare/2", spawner.host(2), f"127.0.0.1:{ssh.free_port()}/2"]
    done = check("--json", *options, *hosts)
    full, bare, lan, nobody = json.loads(done.stdout)["hosts"]
    assert [one["error"] for one in (full, bare, lan)] == ["", "", ""], done.stdout
    assert [one["workers"] for one in (full, bare, lan)] == [2, 2, 2]
    assert full["side"]["packages"]["pool-worker"] and lan["side"]["packages"]["cloudpickle"]
    assert bare["side"]["packages"]["pool-worker"] is None
    assert all(one["figures"]["tasks_per_second"] > 0 for one in (full, bare, lan))
    assert not nobody["ok"] and "pool-spawner" in nobody["error"]
    assert done.returncode == 1
    table = check(*options, "ssh://bare")
    assert table.returncode == 0 and " sent " in table.stdout


def test_check_of_a_host_whose_key_is_unknown(server: Sshd) -> None:
    """What ssh refuses, with the command that mends it."""
    server.known_hosts.write_text("")
    done = check("--ssh-command", " ".join(server.command), f"ssh://127.0.0.1:{server.port}/1")
    assert done.returncode == 1
    assert "the host's key is not known here: run `ssh -F" in done.stdout
