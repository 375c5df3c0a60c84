"""The numbers travel: they must not change while the wire version stays."""

from pool_protocol.choices import LoopType, PickleType


def test_pickle_types() -> None:
    assert {kind.name: kind.value for kind in PickleType} == {
        "pickle": 0,
        "cloudpickle": 1,
        "dill": 2,
    }


def test_loop_types() -> None:
    assert {kind.name: kind.value for kind in LoopType} == {
        "default": 0,
        "asyncio": 1,
        "uvloop": 2,
        "proactor": 3,
        "qt": 4,
    }
