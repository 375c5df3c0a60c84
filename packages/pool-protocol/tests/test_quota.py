"""Quotas of CPU: in control groups of both versions, and in those above a process's own."""

from collections.abc import Mapping

import pytest

from pool_protocol import quota

ROOT = "/sys/fs/cgroup"


def bounded(cpus: int, groups: str, files: Mapping[str, str]) -> int:
    texts = {"/proc/self/cgroup": groups, **{f"{ROOT}/{name}": files[name] for name in files}}
    return quota.bounded(cpus, lambda path: texts.get(path, ""))


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("max 100000\n", 8),
        ("100000 100000\n", 1),
        ("150000 100000\n", 2),
        ("10000 100000\n", 1),
        ("300000 100000\n", 3),
        ("300001 100000\n", 4),
        ("6400000 100000\n", 8),
        ("0 100000\n", 8),
        ("100000 0\n", 8),
        ("100000\n", 8),
        ("?\n", 8),
        ("", 8),
    ],
)
def test_version_2(text: str, cpus: int) -> None:
    assert bounded(8, "0::/\n", {"cpu.max": text}) == cpus


@pytest.mark.parametrize(
    ("quota_us", "period_us", "cpus"),
    [
        ("-1\n", "100000\n", 8),
        ("100000\n", "100000\n", 1),
        ("150000\n", "100000\n", 2),
        ("25000\n", "10000\n", 3),
        ("25000\n", "", 8),
        ("", "", 8),
    ],
)
def test_version_1(quota_us: str, period_us: str, cpus: int) -> None:
    files = {"cpu/box/cpu.cfs_quota_us": quota_us, "cpu/box/cpu.cfs_period_us": period_us}
    assert bounded(8, "4:memory:/other\n2:cpu,cpuacct:/box\n0::/\n", files) == cpus


def test_a_group_above_has_a_say() -> None:
    files = {
        "a/b/c/cpu.max": "max 100000",
        "a/b/cpu.max": "500000 100000",
        "a/cpu.max": "200000 100000",
        "cpu.max": "700000 100000",
        "b/cpu.max": "1 100000",
    }
    assert bounded(8, "0::/a/b/c\n", files) == 2
    assert bounded(8, "0::/a/b/c\n", files | {"a/b/c/cpu.max": "90000 100000"}) == 1


def test_in_a_container_the_path_may_be_that_of_the_host() -> None:
    files = {"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}
    assert bounded(8, "3:cpuset:/docker/1\n2:cpu:/docker/1\n", files) == 2


def test_other_controllers_and_systems_without_groups() -> None:
    assert bounded(8, "", {"cpu.max": "100000 100000"}) == 8
    assert bounded(8, "3:cpuset:/\n1:name=systemd:/\n", {"cpu.max": "100000 100000"}) == 8
    assert bounded(0, "", {}) == 1
