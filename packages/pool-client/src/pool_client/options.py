"""The arguments of ``Pool``, checked."""

import numbers
import operator
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from importlib.util import find_spec
from typing import Any, TypeVar

from pool_client.launchers import Access, HostSpec, parse
from pool_protocol import LoopType, PickleType, quota

_Kind = TypeVar("_Kind", bound=IntEnum)

#: How often a task that had started is tried again, unless the user says so (as Dask and Ray do),
#: and in how many seconds all workers must be up.
RETRIES = 3
CONNECT_TIMEOUT = 30.0
#: The least ``max_message``, in bytes: an error with its traceback has to fit.
MIN_MESSAGE = 4096


def cpu_count() -> int:
    """How many CPUs this process may use; of those it may run on, a quota can leave a part."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return quota.bounded(usable or 1, _text)


def _text(path: str) -> str:
    try:
        # A control group's name is bytes of any kind, as that of a file is.
        with open(path, errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


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
    access: Access = field(default_factory=Access)
    localhost: str = ""
    """The address at which TCP is listened to; empty: every one."""
    localport: int = 0
    code_paths: tuple[str, ...] = ()
    """Folders whose modules are given to workers that miss them."""

    @property
    def workers(self) -> int:
        """How many workers were asked for; a host that gets as many as it has CPUs counts once."""
        return sum(host.workers or 1 for host in self.hosts)


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


def choice(name: str, kinds: type[_Kind], value: Any) -> _Kind:
    """A member of an enumeration, or its number. Raises ValueError, naming all of them."""
    try:
        return kinds(value)
    except ValueError:
        known = ", ".join(f"{kinds.__name__}.{kind.name}" for kind in kinds)
        raise ValueError(f"{name} must be one of {known}, not {value!r}") from None


def address(name: str, value: Any) -> str:
    """An address or a host's name, or nothing. Raises TypeError."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be an address or a name, not {value!r}")
    return value


def _items(name: str, value: Any, what: str) -> tuple[Any, ...]:
    """What a sequence holds. Raises TypeError for what is none, and for bytes."""
    if isinstance(value, bytes) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be {what}, not {value!r}")
    return tuple(value)


def _path(name: str, value: Any, what: str) -> str:
    try:
        return os.fsdecode(value)
    except TypeError:
        raise TypeError(f"{name} must be {what}, not {value!r}") from None


def resolve_initargs(initargs: Iterable[Any]) -> tuple[Any, ...]:
    """What the initializer is called with. Raises TypeError."""
    return _items("initargs", initargs, "a sequence of arguments, such as (value,)")


def _resolve_command(ssh_command: str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(ssh_command, str):
        try:
            command = tuple(shlex.split(ssh_command))
        except ValueError as error:
            raise ValueError(f"ssh_command cannot be {ssh_command!r} ({error})") from error
    else:
        command = _items("ssh_command", ssh_command, "a string or words")
    if not command or not all(isinstance(part, str) and part for part in command):
        raise ValueError(f"ssh_command must name a program, not {ssh_command!r}")
    return command


def resolve_access(
    ssh_command: str | Sequence[str],
    advertise: str | None,
    credential: str | os.PathLike[str] | None,
    ssl_context: Any,
) -> Access:
    """How hosts are reached. Raises TypeError or ValueError."""
    if ssl_context is not None and not callable(ssl_context):
        raise TypeError(
            "ssl_context must be a function that makes a context for an ssl.Purpose, "
            f"not {ssl_context!r}"
        )
    return Access(
        ssh_command=_resolve_command(ssh_command),
        advertise=None if advertise is None else address("advertise", advertise) or None,
        credential=None if credential is None else _path("credential", credential, "a path"),
        ssl_context=ssl_context,
    )


def resolve_port(localport: int) -> int:
    """A port, or 0 for any. Raises TypeError or ValueError."""
    port = count("localport", localport, 0) or 0
    if port > 65535:
        raise ValueError(f"localport must be at most 65535, not {port}")
    return port


def resolve_paths(
    code_paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> tuple[str, ...]:
    """Absolute paths of folders. Raises TypeError or ValueError for what is none."""
    if isinstance(code_paths, str | os.PathLike):
        code_paths = (code_paths,)
    what = "folders' paths"
    given = _items("code_paths", code_paths, what)
    paths = tuple(os.path.abspath(_path("code_paths", path, what)) for path in given)
    for path in paths:
        if not os.path.isdir(path):
            raise ValueError(f"code_paths: {path} is not a folder")
    return paths


def resolve_hosts(
    num_workers: int | None, max_workers: int | None, hosts: str | Sequence[str] | None
) -> tuple[HostSpec, ...]:
    """The hosts of a pool, this machine first. Raises TypeError or ValueError.

    No local workers and an empty list of hosts are a pool of those that join.
    """
    if num_workers is not None and max_workers is not None:
        raise TypeError("num_workers and max_workers are two names for one thing; give one")
    local = count("num_workers", num_workers, 0)
    if max_workers is not None:
        local = count("max_workers", max_workers, 1)
    if isinstance(hosts, str):
        hosts = hosts.replace(",", " ").split()
    specs = []
    for host in () if hosts is None else _items("hosts", hosts, "strings, such as 'ssh://host/8'"):
        if not isinstance(host, str):
            raise TypeError(f"a host must be a string, such as 'ssh://host/8', not {host!r}")
        specs.append(parse(host))
    if local is None or (not local and hosts is None):
        local = cpu_count()
    if local:
        specs.insert(0, HostSpec("local", "local", local))
    return tuple(specs)


def resolve_loop(worker_loop: int) -> LoopType:
    """The loop type. Raises ValueError, RuntimeError or ImportError when it cannot be had."""
    kind = choice("worker_loop", LoopType, worker_loop)
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
