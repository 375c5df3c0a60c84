"""The arguments of Pool, checked before anything starts."""

import os
import sys

import numpy
import pytest

from pool_client import options
from pool_client.launchers import HostSpec
from pool_client.options import (
    Options,
    count,
    cpu_count,
    resolve_hosts,
    resolve_loop,
    seconds,
)
from pool_protocol import LoopType, PickleType


def test_the_cpus_that_this_process_may_use():
    assert cpu_count() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("found", "expected"), [(7, 7), (None, 1)])
def test_where_nobody_says_which_cpus_may_be_used(monkeypatch, found, expected):
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


def test_workers_that_cannot_be():
    with pytest.raises(TypeError, match="two names for one thing"):
        resolve_hosts(1, 1, None)
    with pytest.raises(ValueError, match="num_workers must be at least 0"):
        resolve_hosts(-1, None, None)
    with pytest.raises(ValueError, match="max_workers must be at least 1"):
        resolve_hosts(None, 0, None)
    with pytest.raises(ValueError, match="is not a host"):
        resolve_hosts(None, None, ["box"])


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
        (99, ValueError, "99"),
    ],
)
def test_loops_that_cannot(monkeypatch, loop, error, words):
    monkeypatch.setattr(options, "find_spec", lambda name: None)
    with pytest.raises(error, match=words):
        resolve_loop(loop)


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
