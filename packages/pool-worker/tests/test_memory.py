"""pool_worker.memory: deaths that the kernel's counter explains."""

from pathlib import Path

from pool_worker.memory import OutOfMemory, candidates, read_counter


def test_each_kill_explains_one_death(tmp_path: Path) -> None:
    file = tmp_path / "memory.events"
    file.write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    memory = OutOfMemory([str(tmp_path / "absent"), str(file)])
    assert not memory.killed()
    file.write_text("oom_kill 4\n")
    assert memory.killed()
    assert memory.killed()
    assert not memory.killed()


def test_unreadable_counters(tmp_path: Path) -> None:
    file = tmp_path / "counter"
    file.write_text("oom_kill_disable 0\n")
    assert read_counter(str(file)) is None
    file.write_text("oom_kill many\n")
    assert read_counter(str(file)) is None
    assert not OutOfMemory([str(file)]).killed()
    assert not OutOfMemory([]).killed()


def test_a_counter_that_vanishes(tmp_path: Path) -> None:
    file = tmp_path / "counter"
    file.write_text("oom_kill 1\n")
    memory = OutOfMemory([str(file)])
    file.unlink()
    assert not memory.killed()


def test_where_the_counter_may_be(tmp_path: Path) -> None:
    groups = tmp_path / "cgroup"
    groups.write_text("9:name=systemd:/\n4:cpu,memory:/one/two\n0::/three\n")
    assert candidates(str(groups)) == [
        "/sys/fs/cgroup/memory/one/two/memory.oom_control",
        "/sys/fs/cgroup/three/memory.events",
        "/sys/fs/cgroup/memory.events",
        "/sys/fs/cgroup/memory/memory.oom_control",
        "/proc/vmstat",
    ]
    assert candidates(str(tmp_path / "absent"))[-1] == "/proc/vmstat"
    assert OutOfMemory().killed() in (True, False)
