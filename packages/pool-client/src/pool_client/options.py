"""The arguments of ``Pool``, checked."""

import numbers
import operator
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from pool_client.launchers import HostSpec, parse
from pool_protocol import LoopType, PickleType


def cpu_count() -> int:
    """The CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Options:
    """What a pool is made of."""

    hosts: tuple[HostSpec, ...]
    qsize: int | None
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    worker_loop: LoopType
    func_pickle: PickleType
    data_pickle: PickleType
    retries: int
    task_timeout: float | None
    connect_timeout: float
    min_workers: int | None
    max_tasks_per_child: int | None
    max_message: int | None

    @property
    def workers(self) -> int:
        """How many workers were asked for."""
        return sum(host.workers for host in self.hosts)


def count(name: str, value: Any, least: int) -> int | None:
    """A whole number of at least ``least``, or None. Raises TypeError or ValueError."""
    if value is None:
        return None
    try:
        number = operator.index(value)  # NumPy's integers too
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number or None, not {value!r}")
    if number < least:
        raise ValueError(f"{name} must be at least {least}, not {number}")
    return number


def seconds(name: str, value: Any) -> float | None:
    """A positive number of seconds, or None. Raises TypeError or ValueError."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number of seconds or None, not {value!r}")
    number = float(value)
    if not number > 0:
        raise ValueError(f"{name} must be more than 0 seconds, not {value}")
    return number


def resolve_hosts(
    num_workers: int | None, max_workers: int | None, hosts: str | Sequence[str] | None
) -> tuple[HostSpec, ...]:
    """The hosts of a pool, this machine first. Raises TypeError or ValueError."""
    if num_workers is not None and max_workers is not None:
        raise TypeError("num_workers and max_workers are two names for one thing; give one")
    local = count("num_workers", num_workers, 0)
    if max_workers is not None:
        local = count("max_workers", max_workers, 1)
    if isinstance(hosts, str):
        hosts = hosts.replace(",", " ").split()
    specs = [parse(host) for host in hosts or ()]
    if local is None or (not local and not specs):
        local = cpu_count()
    if local:
        specs.insert(0, HostSpec("local", "local", local))
    return tuple(specs)


def resolve_loop(worker_loop: int) -> LoopType:
    """The loop type. Raises ValueError, RuntimeError or ImportError when it cannot be had."""
    kind = LoopType(worker_loop)
    if kind is LoopType.proactor and sys.platform != "win32":
        raise RuntimeError("worker_loop=LoopType.proactor needs Windows")
    if kind is LoopType.uvloop and find_spec("uvloop") is None:
        raise ImportError(
            "worker_loop=LoopType.uvloop needs uvloop: pip install pool-worker[uvloop]"
        )
    if kind is LoopType.qt and find_spec("qasync") is None:
        raise ImportError(
            "worker_loop=LoopType.qt needs a Qt binding and qasync: pip install qasync"
        )
    return kind
