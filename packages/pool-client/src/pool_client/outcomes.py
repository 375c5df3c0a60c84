"""What a worker answered, turned back into values and exceptions."""

import logging
import pickle
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from pool_client.errors import RemoteException
from pool_client.scheduling.tasks import Task
from pool_protocol import Serializer
from pool_protocol.errors import text_of
from pool_protocol.messages import Result, ResultFlag

logger = logging.getLogger("pool_client")

_ERROR = ResultFlag.ERROR


def resolve(tasks: Iterable[Task], results: Iterable[Result]) -> None:
    """Bring each task its result; one that cannot be brought costs the others nothing."""
    for task, result in zip(tasks, results, strict=True):
        try:
            task.resolve(result)
        except Exception as error:
            logger.exception("a result could not be delivered")
            with suppress(Exception):  # it may have got that far
                task.fail(error)


def unpack_error(payload: Any, serializer: Serializer) -> BaseException:
    """The exception in an error payload, its remote traceback as ``__cause__``.

    The exception of a type that cannot be brought back is a `RemoteException` itself. Never raises:
    many results are brought back one after the other, and one must not cost the others.
    """
    try:
        blob, type_name, text, trace = pickle.loads(payload)
    except Exception as error:
        return RemoteException(f"an error that cannot be read: {error!r}")
    if blob is not None:
        try:
            brought = serializer.unpack(blob)
            if isinstance(brought, BaseException):
                # Past a __setattr__ of its own: that of a frozen dataclass refuses.
                BaseException.__setattr__(brought, "__cause__", RemoteException(trace, type_name))
                return brought
        except BaseException as failure:  # whatever the user's __setstate__ may raise
            why = f"{type(failure).__name__}: {text_of(failure)}"
            text = f"{text} (and it cannot be unpickled here: {why})"
    return RemoteException(trace or f"{type_name}: {text}", type_name)


def unpack_value(result: Result, serializer: Serializer) -> Any:
    """The value in a result. Raises PicklingError when it cannot be read here."""
    try:
        return serializer.unpack(result.payload, result.buffers)
    except BaseException as error:  # user code: __setstate__ and reducers may raise anything
        raise unreadable(error) from error


def unreadable(error: BaseException) -> pickle.UnpicklingError:
    """What a user reads when a result came back but cannot be unpickled; its cause is why.

    Never raises.
    """
    made = pickle.UnpicklingError(
        f"the result cannot be unpickled here: {type(error).__name__}: {text_of(error)}"
    )
    made.__cause__ = error
    return made
