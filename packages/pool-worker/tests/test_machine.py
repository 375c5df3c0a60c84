"""pool_worker.machine: CPUs and memory."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pool_protocol import quota
from pool_worker import machine


def file(path: Path, text: str) -> str:
    path.write_text(text, errors="surrogateescape")
    return str(path)


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of the kernel's control groups."""
    monkeypatch.setattr(quota, "_GROUPS", file(tmp_path / "groups", "0::/above/our\udcffs\n"))
    monkeypatch.setattr(quota, "_ROOT", str(tmp_path))
    (tmp_path / "above" / "our\udcffs").mkdir(parents=True)
    return tmp_path


def test_cpus(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert machine.cpus() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert machine.cpus() == 1


def test_cpus_in_a_container(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quota leaves less than the affinity shows; also one of a group above, whatever its name."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    file(groups / "above" / "cpu.max", "600000 100000\n")
    assert machine.cpus() == 6
    file(groups / "above" / "our\udcffs" / "cpu.max", "250000 100000\n")
    assert machine.cpus() == 3


@pytest.fixture
def one_cpu() -> Iterator[Path]:
    """A real control group, made here, whose processes have one CPU between them."""
    root = Path("/sys/fs/cgroup")
    controllers = root / "cgroup.controllers"
    second = controllers.exists() and "cpu" in controllers.read_text().split()
    group = (root if second else root / "cpu") / f"pool-worker-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        try:
            for name in ["cpu.max"] if second else ["cpu.cfs_period_us", "cpu.cfs_quota_us"]:
                (group / name).write_text("50000 50000" if second else "50000")
        except OSError as error:
            pytest.skip(f"no quota can be set here: {error}")
        yield group
    finally:
        group.rmdir()


def test_cpus_under_a_quota_of_the_kernels(one_cpu: Path) -> None:
    """A real one; with one CPU in the machine it says nothing, and does no harm."""
    program = (
        f"open({str(one_cpu / 'cgroup.procs')!r}, 'w').write('0')\n"
        "from pool_worker import machine\n"
        "print(machine.cpus())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"1\n"


@pytest.mark.parametrize(
    ("limits", "memory"),
    [
        ([], 8192 * 1024),
        (["max\n", "5000000\n"], 5_000_000),
        (["9223372036854771712\n"], 8192 * 1024),
        (["4000000\n", "5000000\n"], 4_000_000),
        (["99000000000\n"], 8192 * 1024),
        (["?"], 8192 * 1024),
    ],
)
def test_memory(tmp_path: Path, limits: list[str], memory: int) -> None:
    meminfo = file(tmp_path / "meminfo", "MemTotal:   8192 kB\nMemFree: 1 kB\n")
    paths = [file(tmp_path / str(n), text) for n, text in enumerate(limits)]
    assert machine.memory([*paths, str(tmp_path / "absent")], meminfo) == memory


def test_memory_that_only_the_system_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"SC_PHYS_PAGES": 100, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", values.__getitem__)
    for meminfo in (str(tmp_path / "absent"), file(tmp_path / "odd", "MemTotal:\n")):
        assert machine.memory([], meminfo) == 409600
    monkeypatch.delattr(os, "sysconf")
    assert machine.memory([], str(tmp_path / "absent")) == 0
    no_limit = file(tmp_path / "limit", "9223372036854771712\n")
    assert machine.memory([no_limit], str(tmp_path / "absent")) == 0


def test_this_machine() -> None:
    assert machine.memory() > 1 << 24


def test_where_limits_may_be(tmp_path: Path) -> None:
    groups = file(tmp_path / "cgroup", "9:name=systemd:/\n4:cpu,memory:/one/two\n0::/three\n")
    assert machine.limit_files(groups) == [
        "/sys/fs/cgroup/memory/one/two/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/one/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/three/memory.max",
        "/sys/fs/cgroup/memory.max",
    ]
    assert machine.limit_files(file(tmp_path / "root", "0::/\n")) == ["/sys/fs/cgroup/memory.max"]
    assert machine.limit_files(str(tmp_path / "absent")) == []
    (tmp_path / "odd").write_bytes(b"0::/\xff\n")  # a name is bytes of any kind
    assert machine.limit_files(str(tmp_path / "odd"))[-1] == "/sys/fs/cgroup/memory.max"
