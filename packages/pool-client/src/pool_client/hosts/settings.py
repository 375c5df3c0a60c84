"""What supervisors and workers are told at their start."""

import os
import pickle
import sys
from typing import Any

from pool_client.launchers import HostSpec
from pool_client.options import Options
from pool_client.packing import check_size
from pool_protocol import by_value, serializer
from pool_protocol.messages import Setup

#: What a set-up message holds besides the initializer, in bytes, at most.
_SETTINGS = 256
#: Workers of a host whose number is not known yet: as many as it has CPUs, so one thread each.
_EACH_CPU = 1 << 20


def make_setup(options: Options) -> Setup:
    """What every worker is told first.

    Raises PicklingError for an initializer that cannot be sent, or FrameTooLarge.
    """
    blob: Any = b""
    if options.initializer is not None:
        try:
            packed = serializer(options.func_pickle).pack((options.initializer, options.initargs))
        except Exception as error:  # user code: __reduce__ may raise anything
            raise pickle.PicklingError(
                f"the initializer, or what is in initargs, cannot be pickled: {error}"
            ) from error
        if not isinstance(packed, bytes):
            packed = by_value.dumps((options.initializer, options.initargs))
        blob = packed
    if options.max_message is not None:
        check_size(len(blob) + _SETTINGS, options.max_message)
    return Setup(
        func_pickle=int(options.func_pickle),
        data_pickle=int(options.data_pickle),
        worker_loop=int(options.worker_loop),
        max_message=options.max_message,
        blob=blob,
    )


def make_settings(spec: HostSpec, local: bool, max_message: int | None) -> dict[str, Any]:
    """What a supervisor is told, but for where to connect and what proves who it is.

    A host that is not ``local`` has files of its own: it keeps its working directory and its
    path, asks for modules that it lacks, and sends what its workers print.
    """
    return {
        "host": spec.name,
        "cwd": _folder() if local else None,
        "sys_path": _path() if local else None,
        "client_pid": None,
        "share": spec.workers or _EACH_CPU,
        "stderr": None,
        "max_message": max_message,
        "credential": None,
        "lease": None,
        "output": not (local and owns_descriptors()),
        "modules": not local,
        "unlink": False,
    }


def owns_descriptors() -> bool:
    """Are this process's streams its descriptors 1 and 2, so that workers may just write there?

    They are not in a notebook, an IDE, or under pytest.
    """
    for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
        if stream is None:
            continue  # nobody wants to see anything
        try:
            if stream.fileno() != descriptor:
                return False
        except (OSError, ValueError, AttributeError):
            return False
    return True


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def _path() -> list[str]:
    """The path on which this process finds modules, for another one in any folder."""
    folder = _folder()
    return [path or folder for path in sys.path if path or folder]  # type: ignore[misc]
