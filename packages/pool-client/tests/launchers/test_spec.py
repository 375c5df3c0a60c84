"""Host strings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_client.launchers import HostSpec, parse
from pool_client.launchers.spec import in_brackets


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("local/4", HostSpec("local", "local", 4)),
        (" local/4\n", HostSpec("local", "local", 4)),
        ("local://local/4", HostSpec("local", "local", 4)),
        ("box/8", HostSpec("spawner", "box", 8)),
        ("box:8899/8", HostSpec("spawner", "box", 8, port=8899)),
        ("local:8899/8", HostSpec("spawner", "local", 8, port=8899)),
        ("me@local/8", HostSpec("spawner", "local", 8, user="me")),
        ("ssh://box/8", HostSpec("ssh", "box", 8)),
        ("ssh://me@box.example.org:2222/16", HostSpec("ssh", "box.example.org", 16, "me", 2222)),
        ("ssh://[::1]/2", HostSpec("ssh", "::1", 2)),
        ("ssh://me@[fe80::1%eth0]:22/2", HostSpec("ssh", "fe80::1%eth0", 2, "me", 22)),
        ("10.0.0.7/2", HostSpec("spawner", "10.0.0.7", 2)),
        ("x-own+1.0://box/1", HostSpec("x-own+1.0", "box", 1)),
        (
            "ssh://box/2?python=/opt/py&x=a%20b",
            HostSpec("ssh", "box", 2, options={"python": "/opt/py", "x": "a b"}),
        ),
        ("ssh://box/2?", HostSpec("ssh", "box", 2)),
        ("box/auto", HostSpec("spawner", "box", 0)),
        ("local/auto", HostSpec("local", "local", 0)),
        ("ssh://me@box:22/auto?a=b", HostSpec("ssh", "box", 0, "me", 22, {"a": "b"})),
    ],
)
def test_hosts(text, spec):
    assert parse(text) == spec


@pytest.mark.parametrize(
    "text",
    [
        "",
        "box",
        "box/",
        "box/x",
        "box/Auto",
        "box/auto4",
        "/4",
        "box/-4",
        "box:port/4",
        "a@b@c/4",
        "::1/4",
        "[::1/4",
        "[box]/4",
        "box 1/4",
        "SSH://box/4",
        "ssh:/box/4",
        "box/4/5",
        "box/4\nother/5",
    ],
)
def test_what_is_not_a_host(text):
    with pytest.raises(ValueError, match="is not a host; write local/4"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ssh://-oProxyCommand=x/4", "begins with '-'"),
        ("ssh://-l@box/4", "begins with '-'"),
        ("box:0/4", "port 0"),
        ("box:65536/4", "port 65536"),
        ("box/0", "at least one worker"),
        ("box/00", "at least one worker"),
    ],
)
def test_hosts_that_are_refused(text, words):
    with pytest.raises(ValueError, match=words):
        parse(text)


def test_a_host_is_named_with_its_user():
    assert parse("ssh://me@box/1").name == "me@box"
    assert parse("ssh://box/1").name == "box"


@pytest.mark.parametrize("host", ["box", "10.0.0.7", "::1", "fe80::1%eth0"])
def test_a_host_is_read_as_it_is_written(host):
    assert parse(f"ssh://{in_brackets(host)}:22/1").host == host
    assert parse(f"ssh://{in_brackets(host)}/1").host == host


@given(st.text())
def test_any_text_is_a_host_or_a_clear_error(text):
    try:
        spec = parse(text)
    except ValueError as error:
        assert repr(text) in str(error)
    else:
        assert spec.workers > 0 or text.rstrip().partition("?")[0].endswith("/auto")
        assert not spec.host.startswith("-")
        assert not spec.user.startswith("-")
