"""What a worker answered, turned back into values and exceptions."""

import pickle
from typing import Any

from pool_client.errors import RemoteException
from pool_protocol import Serializer
from pool_protocol.messages import Result, ResultFlag

_ERROR = ResultFlag.ERROR


def unpack_error(payload: Any, serializer: Serializer) -> BaseException:
    """The exception in an error payload, its remote traceback as ``__cause__``.

    The exception of a type that cannot be brought back is a `RemoteException` itself.
    """
    try:
        blob, type_name, text, trace = pickle.loads(payload)
    except Exception as error:
        return RemoteException(f"an error that cannot be read: {error!r}")
    if blob is not None:
        try:
            brought = serializer.unpack(blob)
        except BaseException as failure:  # whatever the user's __setstate__ may raise
            text = f"{text} (and it cannot be unpickled here: {failure!r})"
        else:
            if isinstance(brought, BaseException):
                # Past a __setattr__ of its own: that of a frozen dataclass refuses.
                BaseException.__setattr__(brought, "__cause__", RemoteException(trace, type_name))
                return brought
    return RemoteException(trace or f"{type_name}: {text}", type_name)


def unpack_value(result: Result, serializer: Serializer) -> Any:
    """The value in a result. Raises PicklingError when it cannot be read here."""
    try:
        return serializer.unpack(result.payload, result.buffers)
    except BaseException as error:  # user code: __setstate__ and reducers may raise anything
        raise unreadable(error) from error


def unreadable(error: BaseException) -> pickle.UnpicklingError:
    """What a user reads when a result came back but cannot be unpickled."""
    return pickle.UnpicklingError(
        f"the result cannot be unpickled here: {type(error).__name__}: {error}"
    )
