"""Results and errors on their way back to the user."""

import dataclasses
import pickle

import pytest
from packing_model import Speechless, Unreadable, packed_error

from pool_client.errors import RemoteException
from pool_client.outcomes import resolve, unpack_error, unpack_value, unreadable
from pool_protocol import PickleType, serializer
from pool_protocol.messages import RESULT, Result

PICKLE = serializer(PickleType.pickle)


class TwoArguments(Exception):
    def __init__(self, first, second):
        super().__init__(first, second)


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int

    def __reduce__(self):
        return Frozen, (self.code,)


class Stubborn(Exception):
    def __setattr__(self, name, value):
        raise RuntimeError("hands off")


class Sealed(Exception):
    """Nobody can give it a cause."""

    __cause__ = property(lambda self: None)  # type: ignore[assignment]


class Receiver:
    """A task that notes what it gets; ``stages`` names what fails."""

    def __init__(self, *stages):
        self.stages = stages
        self.got = []

    def resolve(self, result):
        if "resolve" in self.stages:
            raise KeyError("resolve")
        self.got.append(result)

    def fail(self, error):
        self.got.append(error)
        if "fail" in self.stages:
            raise KeyError("fail")


def test_one_result_that_cannot_be_brought_costs_the_others_nothing(caplog):
    tasks = [Receiver(), Receiver("resolve"), Receiver("resolve", "fail"), Receiver()]
    resolve(tasks, [1, 2, 3, 4])
    assert (tasks[0].got, tasks[3].got) == ([1], [4])
    assert [str(task.got) for task in tasks[1:3]] == ["[KeyError('resolve')]"] * 2
    assert [record.exc_info[1].args for record in caplog.records] == [("resolve",)] * 2


@pytest.mark.parametrize(
    "error",
    [KeyError("key"), TwoArguments(1, 2), SystemExit(3), KeyboardInterrupt(), OSError(2, "no")],
)
def test_an_error_keeps_its_type_and_brings_its_traceback(error):
    back = unpack_error(packed_error(error, trace="Traceback: line 1"), PICKLE)
    assert type(back) is type(error)
    assert back.args == error.args
    assert isinstance(back.__cause__, RemoteException)
    assert str(back.__cause__) == "Traceback: line 1"
    assert back.__cause__.type_name.endswith(type(error).__name__)


@pytest.mark.parametrize("error", [Frozen(7), Stubborn("as a mule")])
def test_an_error_that_lets_nothing_be_set_gets_its_cause_too(error):
    back = unpack_error(packed_error(error), PICKLE)
    assert type(back) is type(error)
    assert str(back.__cause__) == "Traceback: there"


def test_an_error_that_could_not_travel():
    back = unpack_error(packed_error(None), PICKLE)
    assert type(back) is RemoteException
    assert str(back) == "Traceback: there"
    assert back.type_name == "builtins.object"
    back = unpack_error(packed_error(None, trace=""), PICKLE)
    assert str(back) == "builtins.object: None"


def test_an_error_that_cannot_be_unpickled_here():
    back = unpack_error(packed_error(Unreadable(), trace=""), PICKLE)
    assert type(back) is RemoteException
    assert "no way back" in str(back)
    assert "cannot be unpickled here" in str(back)
    assert str(unpack_error(packed_error(Unreadable(SystemExit())), PICKLE)) == "Traceback: there"


def test_an_error_that_nobody_can_read_is_an_error_nevertheless():
    """Whoever resolves a task goes on with the next one: nothing may escape from here."""
    back = unpack_error(packed_error(Unreadable(Speechless()), trace=""), PICKLE)
    assert type(back) is RemoteException
    assert "cannot be unpickled here: Speechless" in str(back)
    assert "Speechless" in str(unreadable(Speechless()))
    assert type(unpack_error(packed_error(Sealed()), PICKLE)) is RemoteException


def test_what_is_not_an_error_is_not_raised():
    back = unpack_error(packed_error(17), PICKLE)
    assert type(back) is RemoteException
    assert str(back) == "Traceback: there"


@pytest.mark.parametrize("payload", [b"", b"nonsense", pickle.dumps((1, 2)), pickle.dumps(5)])
def test_a_payload_that_is_no_error_at_all(payload):
    back = unpack_error(payload, PICKLE)
    assert type(back) is RemoteException
    assert "cannot be read" in str(back)


def test_a_value():
    assert unpack_value(Result(RESULT, 0, 1, 1, pickle.dumps([1, 2]), ()), PICKLE) == [1, 2]


def test_a_value_with_buffers():
    data = bytearray(100_000)
    packed = PICKLE.pack(pickle.PickleBuffer(data))
    stream = b"".join(packed.stream)
    back = unpack_value(Result(RESULT, 0, 1, 1, stream, packed.buffers), PICKLE)
    assert bytes(back) == bytes(data)


@pytest.mark.parametrize("error", [KeyError("no way back"), SystemExit("no way back")])
def test_a_value_that_cannot_be_unpickled_here(error):
    with pytest.raises(pickle.UnpicklingError, match="no way back") as caught:
        unpack_value(Result(RESULT, 0, 1, 1, pickle.dumps(Unreadable(error)), ()), PICKLE)
    assert isinstance(caught.value.__cause__, type(error))


def test_unreadable_names_the_error():
    error = KeyError("x")
    made = unreadable(error)
    assert str(made) == "the result cannot be unpickled here: KeyError: 'x'"
    assert made.__cause__ is error
