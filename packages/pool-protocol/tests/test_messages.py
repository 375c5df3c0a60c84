"""Messages: the table, and what their classes promise."""

import dataclasses

import pytest

from pool_protocol import messages as m
from pool_protocol.frames import Buffer


def test_the_table_is_complete() -> None:
    assert set(m.CONTROL.values()) == set(m.Control.__args__)
    assert all(kind == cls.KIND for kind, cls in m.CONTROL.items())
    assert len(m.CONTROL) == len(m.Control.__args__)
    assert not {m.TASK, m.RESULT} & set(m.CONTROL)


@pytest.mark.parametrize("cls", m.CONTROL.values())
def test_messages_cannot_change(cls: type[m.Control]) -> None:
    assert cls.__doc__
    message = cls(**{f.name: 0 for f in dataclasses.fields(cls)})  # type: ignore[arg-type]
    with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
        message.other = 1  # type: ignore[union-attr]


SECRET = b"0123456789abcdef"


@pytest.mark.parametrize("message", [m.Welcome(SECRET), m.Spawn(2, SECRET)])
def test_settings_hold_a_token_and_are_never_shown(message: m.Control) -> None:
    assert "0123" not in repr(message)
    assert getattr(message, "blob") == SECRET  # noqa: B009  (not every message has one)


def test_a_blob_is_what_is_left_out_most_often() -> None:
    for cls in m.CONTROL.values():
        blobs = [f for f in dataclasses.fields(cls) if f.name == "blob"]
        assert all(f.type is Buffer and f.default == b"" for f in blobs)
        assert [f.name for f in dataclasses.fields(cls)][-1:] == ["blob"] or not blobs
