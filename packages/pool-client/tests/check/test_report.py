"""What was found out about hosts: the table, the JSON, the notes, the exit status."""

import json
from dataclasses import replace

import pytest

from pool_client.check.report import (
    Figures,
    Report,
    Side,
    advice,
    as_json,
    as_table,
    duration,
    exit_status,
    notes,
    size,
)

PACKAGES: dict[str, str | None] = {
    "pool-worker": "0.2.0",
    "pool-protocol": "0.2.0",
    "cloudpickle": "3.1.0",
    "uvloop": "0.20",
    "dill": "0.4",
}
HERE = Side("3.11.7", {"pool-client": "0.2.0", **PACKAGES}, "Linux-here")
THERE = Side("3.11.2", PACKAGES, "Linux-there")
GOOD = Report(
    host="ssh://me@node1/8",
    side=THERE,
    workers=8,
    cpus=16,
    memory=33 * 2**30,
    started=0.73,
    figures=Figures(0.00042, 81_234.5, 350e6, 1_410e6),
)
BAD = Report(host="node2:8899/4", error="nothing listens there\nstart it with pool-spawner")


def has(**packages: str | None) -> Side:
    """A host on which some packages are others than on the client."""
    named = {name.replace("_", "-"): version for name, version in packages.items()}
    return replace(THERE, packages=PACKAGES | named)


def words(line: str) -> str:
    return " ".join(line.split())


def test_exit_status() -> None:
    """One host that fails is enough."""
    assert (GOOD.ok, BAD.ok) == (True, False)
    assert exit_status([GOOD, GOOD]) == 0
    assert exit_status([GOOD, BAD]) == 1


def test_table() -> None:
    """Columns stand below each other, what is wrong stands below with its second line indented."""
    lines = as_table(HERE, [GOOD, BAD]).splitlines()
    assert lines[0].startswith("here: Python 3.11.7, pool-client 0.2.0, pool-worker 0.2.0")
    head, good, bad = lines[2:5]
    assert words(head) == (
        "HOST STATE PYTHON POOL-WORKER WORKERS CPUS MEMORY UP IN "
        "ROUND TRIP TASKS/S MB/S TO MB/S FROM"
    )
    assert words(good) == (
        "ssh://me@node1/8 ok 3.11.2 0.2.0 8 16 33 GiB 730.0 ms 420 µs 81,234 350 1,410"
    )
    assert bad.split() == ["node2:8899/4", "FAILED"]
    for word, value in (("PYTHON", "3.11.2"), ("STATE", "ok"), ("POOL-WORKER", "0.2.0")):
        assert head.index(word) == good.index(value)
    assert bad.index("FAILED") == head.index("STATE")
    for word, value in (("WORKERS", " 8 "), ("CPUS", " 16 ")):
        assert head.index(word) + len(word) == good.index(value) + len(value) - 1
    assert len(head) == len(good)
    assert lines[5:] == [
        "",
        "node2:8899/4: nothing listens there",
        "    start it with pool-spawner",
    ]


def test_table_of_a_host_that_came_only_half_way() -> None:
    """What is known stands there, and what is wrong."""
    half = replace(GOOD, figures=None, error="its tasks were not done", memory=0)
    line = as_table(HERE, [half]).splitlines()[3]
    assert words(line) == "ssh://me@node1/8 FAILED 3.11.2 0.2.0 8 16 ? 730.0 ms"


def test_worker_that_was_sent() -> None:
    """Where nothing is installed, the client has sent the worker."""
    sent = replace(GOOD, side=has(pool_worker=None, pool_protocol=None, cloudpickle=None))
    assert as_table(HERE, [sent]).splitlines()[3].split()[3] == "sent"


def test_notes_stand_below() -> None:
    """Each with its host."""
    noted = replace(GOOD, notes=("one thing", "another"))
    assert as_table(HERE, [noted]).splitlines()[4:] == [
        *("", "ssh://me@node1/8: one thing"),
        *("", "ssh://me@node1/8: another"),
    ]


def test_no_notes_on_equal_sides() -> None:
    """Nothing is said where there is nothing to say; neither of what is only here missing."""
    assert notes(HERE, THERE) == ()
    assert notes(replace(HERE, packages={}), THERE) == ()
    assert notes(HERE, has(pool_worker=None, pool_protocol=None, cloudpickle=None)) == ()


def test_no_notes_on_what_is_installed_beside_the_worker_that_was_sent() -> None:
    """It is not what runs: all three were sent."""
    assert notes(HERE, has(pool_worker=None, pool_protocol="0.1", cloudpickle="2.0")) == ()


@pytest.mark.parametrize(
    ("there", "text"),
    [
        (replace(THERE, python="3.13.0"), "install Python 3.11 there"),
        (replace(THERE, python="3.1.0"), "Python 3.1 there and 3.11 here"),
        (has(cloudpickle="2.0"), "python -m pip install cloudpickle==3.1.0"),
        (has(pool_worker="0.1"), "pool-worker 0.1 there and 0.2.0 here"),
        (has(dill=None), "dill is not installed there"),
        (has(uvloop=None), "uvloop is not installed there"),
    ],
)
def test_notes(there: Side, text: str) -> None:
    """What differs and may matter, with what to do."""
    [note] = notes(HERE, there)
    assert text in note


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("node1/4", "write ssh://node1/4"),
        ("node1:8899/4", "write ssh://node1/4"),
        ("[fe80::1]:8899/4", "write ssh://[fe80::1]/4"),
        ("ssh://node1/4", ""),
        ("spawner://node1/4", ""),
        ("local/4", ""),
    ],
)
def test_advice(host: str, text: str) -> None:
    """Whoever leaves ``ssh://`` out may not have meant to."""
    assert text in advice(host) and bool(text) == bool(advice(host))


def test_json() -> None:
    """Everything that is known, in the order of the hosts."""
    found = json.loads(as_json(HERE, [BAD, GOOD]))
    assert found["client"]["packages"]["pool-client"] == "0.2.0"
    bad, good = found["hosts"]
    assert (bad["ok"], bad["error"], bad["side"]) == (False, BAD.error, None)
    assert (good["ok"], good["error"], good["host"]) == (True, "", "ssh://me@node1/8")
    assert good["figures"]["tasks_per_second"] == 81_234.5
    assert good["side"]["packages"]["uvloop"] == "0.20"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.00000123, "1 µs"), (0.0009, "900 µs"), (0.0123, "12.3 ms"), (1, "1.0 s"), (99, "99.0 s")],
)
def test_duration(seconds: float, text: str) -> None:
    """Times."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (2048, "2 KiB"), (16 << 30, "16 GiB"), (5 << 50, "5120 TiB")],
)
def test_size(count: int, text: str) -> None:
    """Bytes."""
    assert size(count) == text
