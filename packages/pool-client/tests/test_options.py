"""The arguments of Pool, checked before anything starts."""

import os
import sys
from dataclasses import replace

import numpy
import pytest

from pool_client import options
from pool_client.launchers import HostSpec
from pool_client.options import (
    Options,
    address,
    choice,
    count,
    cpu_count,
    resolve_access,
    resolve_hosts,
    resolve_initargs,
    resolve_loop,
    resolve_paths,
    resolve_port,
    seconds,
)
from pool_protocol import LoopType, PickleType, quota


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """A folder in the place of the kernel's control groups; nothing in it."""
    (tmp_path / "groups").write_text("0::/box\n")
    (tmp_path / "box").mkdir()
    monkeypatch.setattr(quota, "_GROUPS", str(tmp_path / "groups"))
    monkeypatch.setattr(quota, "_ROOT", str(tmp_path))
    return tmp_path


def test_the_cpus_that_this_process_may_use(groups):
    assert cpu_count() == len(os.sched_getaffinity(0))


def test_a_container_may_leave_a_part_of_the_cpus(groups, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    (groups / "box" / "cpu.max").write_text("250000 100000\n")
    assert cpu_count() == 3
    assert resolve_hosts(None, None, None) == (local(3),)


@pytest.mark.parametrize(("found", "expected"), [(7, 7), (None, 1)])
def test_where_nobody_says_which_cpus_may_be_used(groups, monkeypatch, found, expected):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: found)
    assert cpu_count() == expected


@pytest.mark.parametrize("value", [0, 1, 10**9, numpy.int64(3), numpy.uint8(3)])
def test_whole_numbers(value):
    assert count("qsize", value, 0) == value
    assert type(count("qsize", value, 0)) is int


def test_none_is_a_choice_of_its_own():
    assert count("qsize", None, 1) is None
    assert seconds("timeout", None) is None


@pytest.mark.parametrize("value", ["4", 4.0, True, [4], numpy.float64(4)])
def test_what_is_not_a_whole_number(value):
    with pytest.raises(TypeError, match="qsize must be a whole number or None"):
        count("qsize", value, 1)


@pytest.mark.parametrize("value", [0, -1, numpy.int64(0)])
def test_numbers_that_are_too_small(value):
    with pytest.raises(ValueError, match=f"qsize must be at least 1, not {value}"):
        count("qsize", value, 1)


@pytest.mark.parametrize("value", [1, 0.001, 1e9, float("inf"), numpy.float32(1.5), numpy.int64(2)])
def test_times(value):
    assert seconds("timeout", value) == float(value)
    assert type(seconds("timeout", value)) is float


@pytest.mark.parametrize("value", [0, -1, 0.0, float("nan"), float("-inf")])
def test_times_that_cannot_be(value):
    with pytest.raises(ValueError, match="timeout must be more than 0 seconds"):
        seconds("timeout", value)


@pytest.mark.parametrize("value", ["1", True, [1], 1j])
def test_what_is_not_a_time(value):
    with pytest.raises(TypeError, match="timeout must be a number of seconds or None"):
        seconds("timeout", value)


def local(workers):
    return HostSpec("local", "local", workers)


def test_the_workers_of_this_machine():
    everything = local(cpu_count())
    assert resolve_hosts(None, None, None) == (everything,)
    assert resolve_hosts(0, None, None) == (everything,)
    assert resolve_hosts(3, None, None) == (local(3),)
    assert resolve_hosts(None, 3, None) == (local(3),)
    assert resolve_hosts(3, None, []) == (local(3),)
    assert resolve_hosts(None, None, []) == (everything,)


def test_hosts_come_after_this_machine():
    for hosts in (
        ["ssh://box/2", "other:8899/3"],
        "ssh://box/2 other:8899/3",
        "ssh://box/2,other:8899/3",
    ):
        found = resolve_hosts(1, None, hosts)
        assert [(spec.scheme, spec.host, spec.workers) for spec in found] == [
            ("local", "local", 1),
            ("ssh", "box", 2),
            ("spawner", "other", 3),
        ]
    assert [spec.host for spec in resolve_hosts(0, None, ["ssh://box/2"])] == ["box"]
    assert resolve_hosts(None, None, ["ssh://box/2"])[0] == local(cpu_count())


def test_a_pool_of_those_that_join():
    """No workers and no hosts, both said in so many words."""
    assert resolve_hosts(0, None, []) == resolve_hosts(0, None, "") == ()


def test_a_host_with_as_many_workers_as_it_has_cpus():
    assert resolve_hosts(0, None, "box/auto")[0].workers == 0


def test_workers_that_cannot_be():
    with pytest.raises(TypeError, match="two names for one thing"):
        resolve_hosts(1, 1, None)
    with pytest.raises(ValueError, match="num_workers must be at least 0"):
        resolve_hosts(-1, None, None)
    with pytest.raises(ValueError, match="max_workers must be at least 1"):
        resolve_hosts(None, 0, None)
    with pytest.raises(ValueError, match="is not a host"):
        resolve_hosts(None, None, ["box"])
    with pytest.raises(TypeError, match=r"a host must be a string.*not 4"):
        resolve_hosts(None, None, [4])


@pytest.mark.parametrize("given", [5, b"box/2", b""])
def test_what_are_no_hosts(given):
    with pytest.raises(TypeError, match=r"^hosts must be .*, not (5|b'.*')$"):
        resolve_hosts(None, None, given)


def test_the_initializers_arguments():
    assert resolve_initargs([1, 2]) == (1, 2)
    assert resolve_initargs(iter("ab")) == ("a", "b")
    with pytest.raises(TypeError, match=r"initargs must be .*\(value,\), not 5"):
        resolve_initargs(5)


@pytest.mark.parametrize(
    ("given", "command"),
    [
        ("ssh", ("ssh",)),
        ("ssh -F 'my config'", ("ssh", "-F", "my config")),
        (["ssh", "-F", "my config"], ("ssh", "-F", "my config")),
        (("/opt/ssh",), ("/opt/ssh",)),
    ],
)
def test_the_ssh_program(given, command):
    assert resolve_access(given, None, None, None).ssh_command == command


@pytest.mark.parametrize("given", ["", "  ", [], ["ssh", 7], [""]])
def test_what_is_no_program(given):
    with pytest.raises(ValueError, match="ssh_command must name a program"):
        resolve_access(given, None, None, None)


@pytest.mark.parametrize("given", [5, b"ssh"])
def test_what_names_no_program(given):
    with pytest.raises(TypeError, match="ssh_command must be a string or words, not"):
        resolve_access(given, None, None, None)


def test_a_quote_without_its_end():
    with pytest.raises(ValueError, match=r"ssh_command .*\(No closing quotation\)"):
        resolve_access("ssh -F 'my config", None, None, None)


def test_where_nothing_can_be():
    with pytest.raises(TypeError, match="credential must be a path, not 5"):
        resolve_access("ssh", None, 5, None)
    with pytest.raises(TypeError, match="advertise must be an address or a name, not 5"):
        resolve_access("ssh", 5, None, None)
    assert address("localhost", "") == ""
    with pytest.raises(TypeError, match="localhost must be an address or a name, not 0"):
        address("localhost", 0)


def test_how_hosts_are_reached(tmp_path):
    def make(purpose):
        raise AssertionError

    access = resolve_access("ssh", "10.0.0.1", tmp_path / "mine.pem", make)
    assert (access.advertise, access.credential) == ("10.0.0.1", str(tmp_path / "mine.pem"))
    assert access.ssl_context is make
    access = resolve_access("ssh", "", None, None)
    assert (access.advertise, access.credential, access.ssl_context) == (None, None, None)


def test_a_context_is_not_a_function_that_makes_one():
    with pytest.raises(TypeError, match=r"a function that makes a context for an ssl\.Purpose"):
        resolve_access("ssh", None, None, object())


def test_ports():
    assert [resolve_port(port) for port in (0, 22, 65535)] == [0, 22, 65535]
    with pytest.raises(ValueError, match="localport must be at most 65535"):
        resolve_port(65536)
    with pytest.raises(ValueError, match="localport must be at least 0"):
        resolve_port(-1)
    with pytest.raises(TypeError, match="localport"):
        resolve_port("22")


def test_folders_of_modules(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert resolve_paths(()) == ()
    assert resolve_paths("a") == (str(tmp_path / "a"),)
    assert resolve_paths(tmp_path / "b") == (str(tmp_path / "b"),)
    assert resolve_paths(["a", tmp_path / "b"]) == (str(tmp_path / "a"), str(tmp_path / "b"))
    with pytest.raises(ValueError, match=r"code_paths: .*/absent is not a folder"):
        resolve_paths(["a", "absent"])
    for given, said in ((5, "5"), ([5], "5"), (["a", None], "None")):
        with pytest.raises(TypeError, match=f"code_paths must be .*, not {said}"):
            resolve_paths(given)


def test_loops_that_can_be_had():
    assert resolve_loop(LoopType.default) is LoopType.default
    assert resolve_loop(1) is LoopType.asyncio
    assert resolve_loop(LoopType.uvloop) is LoopType.uvloop


@pytest.mark.parametrize(
    ("loop", "error", "words"),
    [
        (LoopType.proactor, RuntimeError, "Windows"),
        (LoopType.uvloop, ImportError, "uvloop"),
        (LoopType.qt, ImportError, "qasync"),
        (99, ValueError, r"worker_loop must be one of LoopType\.default, .*, not 99"),
    ],
)
def test_loops_that_cannot(monkeypatch, loop, error, words):
    monkeypatch.setattr(options, "find_spec", lambda name: None)
    with pytest.raises(error, match=words):
        resolve_loop(loop)


@pytest.mark.parametrize("given", ["dill", 7, None, 1.5])
def test_what_is_none_of_the_choices(given):
    assert choice("func_pickle", PickleType, 2) is PickleType.dill
    expected = rf"data_pickle must be one of PickleType\.pickle, .*\.dill, not {given!r}"
    with pytest.raises(ValueError, match=expected):
        choice("data_pickle", PickleType, given)


def test_loops_of_elsewhere(monkeypatch):
    monkeypatch.setattr(options, "find_spec", lambda name: name)
    assert resolve_loop(LoopType.qt) is LoopType.qt
    monkeypatch.setattr(sys, "platform", "win32")
    assert resolve_loop(LoopType.proactor) is LoopType.proactor


def test_the_workers_of_a_pool_are_those_of_all_its_hosts():
    made = Options(
        hosts=resolve_hosts(2, None, ["ssh://box/3"]),
        qsize=None,
        initializer=None,
        initargs=(),
        worker_loop=LoopType.default,
        func_pickle=PickleType.cloudpickle,
        data_pickle=PickleType.pickle,
        retries=3,
        task_timeout=None,
        connect_timeout=30.0,
        min_workers=None,
        max_tasks_per_child=None,
        max_message=None,
    )
    assert made.workers == 5
    assert replace(made, hosts=resolve_hosts(2, None, ["ssh://box/auto"])).workers == 3
