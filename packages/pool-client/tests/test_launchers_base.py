"""What a user's naming of a host becomes."""

import dataclasses
from typing import Any

import pytest

from pool_client.launchers.base import Access, HostSpec, Order


def test_name_without_a_user() -> None:
    """The host alone names it; neither scheme nor port belong to the name."""
    assert HostSpec("ssh", "box", 2, port=2222).name == "box"


def test_name_with_a_user() -> None:
    """The user stands in front, as one types it."""
    assert HostSpec("ssh", "box", 2, user="me").name == "me@box"


def test_defaults() -> None:
    """What was not named is empty, and no two hosts share their options."""
    one, two = HostSpec("local", "local", 1), HostSpec("local", "local", 1)
    assert (one.user, one.port, one.options) == ("", None, {})
    one.options["python"] = "other"
    assert two.options == {}


def test_frozen() -> None:
    """A host stays what the user named, and takes no other attributes."""
    spec = HostSpec("local", "local", 1)
    for name in [field.name for field in dataclasses.fields(spec)]:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(spec, name, "other")
    assert not hasattr(spec, "__dict__")


def test_equal_by_value() -> None:
    """Two spellings of one host are one host; every field counts."""
    spec = HostSpec("ssh", "box", 2, "me", 22, {"python": "py"})
    assert spec == HostSpec("ssh", "box", 2, "me", 22, {"python": "py"})
    changes: list[dict[str, Any]] = [{"workers": 3}, {"user": ""}, {"port": None}, {"options": {}}]
    for change in changes:
        assert dataclasses.replace(spec, **change) != spec


def test_an_order_keeps_its_secret() -> None:
    """What is printed of it shows neither the token nor anything else of the settings."""

    async def listen_tcp() -> int:
        raise AssertionError

    order = Order({"token": "hush"}, Access(), listen_tcp)
    assert "hush" not in repr(order)
    assert order.settings["token"] == "hush"
    with pytest.raises(dataclasses.FrozenInstanceError):
        order.settings = {}  # type: ignore[misc]  # that is the point


def test_access_by_default() -> None:
    """The usual program, and everything else is found out."""
    access = Access()
    assert access.ssh_command == ("ssh",)
    assert (access.advertise, access.credential, access.ssl_context) == (None, None, None)
