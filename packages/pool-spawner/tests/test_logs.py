"""Formats of the logs, and how often strangers may fill them."""

import json
import logging
import sys
import time

import pytest

from pool_spawner.logs import JsonFormatter, PlainFormatter, RateLimit, configure


def record(message: str, *values: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("pool_spawner", logging.WARNING, "f", 1, message, values, None)
    made.__dict__.update(extra)
    return made


def test_plain_is_one_line_for_people() -> None:
    text = PlainFormatter().format(record("started %d", 7))
    assert text.endswith(" WARNING started 7")
    assert "\n" not in text


def test_plain_indents_what_follows_the_first_line() -> None:
    text = PlainFormatter().format(record("it said:\n2026-01-01 INFO forged"))
    assert text.splitlines()[1] == "    2026-01-01 INFO forged"


def test_json_is_one_object_with_what_the_record_has_extra() -> None:
    text = JsonFormatter().format(record("a\nb", pid=7, client="10.0.0.1"))
    assert "\n" not in text
    values = json.loads(text)
    assert values["time"].endswith("Z") and "T" in values["time"]
    del values["time"]
    assert values == {"level": "warning", "message": "a\nb", "pid": 7, "client": "10.0.0.1"}


def test_json_times_are_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    made = record("x")
    made.created, made.msecs = 0.25, 250.0
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "JST-9")
        time.tzset()
        text = JsonFormatter().format(made)
    time.tzset()
    assert json.loads(text)["time"] == "1970-01-01T00:00:00.250Z"


def test_json_tells_an_error_with_its_traceback() -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        made = record("a fault")
        made.exc_info = sys.exc_info()
    assert "ValueError: broken" in json.loads(JsonFormatter().format(made))["error"]


@pytest.mark.parametrize("style", ["plain", "json"])
def test_configure_sends_records_of_the_level_to_standard_error(
    style: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = logging.root.handlers[:], logging.root.level
    try:
        configure(style, "warning")
        logging.getLogger("pool_spawner").info("unseen")
        logging.getLogger("pool_spawner").warning("seen")
    finally:
        logging.root.handlers[:] = before[0]
        logging.root.setLevel(before[1])
    said = capsys.readouterr().err
    assert "unseen" not in said
    assert ('"message": "seen"' if style == "json" else "WARNING seen") in said


def test_a_flood_of_lines_is_cut_and_counted() -> None:
    limit = RateLimit(0.0, burst=3, seconds=10.0)
    assert [limit.allow(0.0) for _ in range(5)] == [0, 0, 0, None, None]
    assert limit.allow(9.9) is None
    assert limit.allow(10.0) == 3, "how many were left out"
    assert limit.allow(10.1) is None
    assert [limit.allow(1000.0) for _ in range(4)] == [1, 0, 0, None]
