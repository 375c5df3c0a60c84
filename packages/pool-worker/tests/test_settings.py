"""pool_worker.settings: the line that the client writes."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from pool_worker import machine
from pool_worker.settings import THREAD_VARIABLES, Settings, SettingsError

GOOD: dict[str, Any] = {"address": "/a", "launch": "00" * 8, "token": "ab" * 32}


def parse(**changes: Any) -> Settings:
    return Settings.parse(json.dumps(GOOD | changes))


def test_the_least_and_everything() -> None:
    least = parse()
    assert least.launch == bytes(8) and least.token == b"\xab" * 32
    assert least.client_pid is None and least.max_message is None and least.host == "local"
    most = parse(host="h", cwd="/", sys_path=["/x"], client_pid=1, share=2, stderr=5)
    assert (most.host, most.client_pid, most.share, most.stderr) == ("h", 1, 2, 5)


def test_what_a_remote_host_needs() -> None:
    least = parse()
    assert (least.credential, least.lease) == (None, None)
    assert not (least.output or least.modules or least.unlink or least.share)
    most = parse(credential="/c", lease=300, output=True, modules=True, unlink=True)
    assert (most.credential, most.lease) == ("/c", 300)
    assert most.output and most.modules and most.unlink


def test_a_field_of_another_release_does_no_harm() -> None:
    """The handshake comes first, and says which releases fit together."""
    assert parse(unknown=1) == parse()


def test_the_line_is_what_is_parsed() -> None:
    settings = parse(cwd="/", sys_path=["/x"], share=2, max_message=10, lease=1.5, output=True)
    assert Settings.parse(settings.line()) == settings


def test_the_token_is_not_shown() -> None:
    assert "ab" * 4 not in repr(parse()) and "\\xab" not in repr(parse())


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"not json",
        b"[]",
        b"3",
        b"\xff",
        json.dumps({"address": "/a"}).encode(),
        json.dumps(GOOD | {"token": "abcd"}).encode(),
        json.dumps(GOOD | {"token": 3}).encode(),
        json.dumps(GOOD | {"launch": "zz"}).encode(),
        json.dumps(GOOD | {"address": 3}).encode(),
        json.dumps(GOOD | {"client_pid": "1"}).encode(),
        json.dumps(GOOD | {"sys_path": [1]}).encode(),
        json.dumps(GOOD | {"sys_path": "/x"}).encode(),
        json.dumps(GOOD | {"output": 1}).encode(),
        json.dumps(GOOD | {"share": True}).encode(),
        json.dumps(GOOD | {"lease": 0}).encode(),
        json.dumps(GOOD | {"max_workers": 0}).encode(),
        json.dumps(GOOD | {"lease": float("nan")}).encode(),
    ],
)
def test_bad_lines_are_refused_without_showing_the_token(line: bytes) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.parse(line)
    assert "abab" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_apply(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setattr(sys, "path", ["old"])
    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setattr(machine, "cpus", lambda: 8)
    parse(cwd=str(tmp_path), sys_path=["new"], share=3).apply()
    assert Path.cwd() == tmp_path.resolve()
    assert sys.path == ["new"]
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert os.environ["MKL_NUM_THREADS"] == "2"


def test_a_folder_that_may_not_be_entered_was_inherited(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["old"])

    def refuse(place: str) -> None:
        raise PermissionError(13, "Permission denied", place)

    monkeypatch.setattr(os, "chdir", refuse)
    parse(cwd="/private", sys_path=["new"], share=0).apply()
    assert sys.path == ["new"]


def test_more_workers_than_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in THREAD_VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(machine, "cpus", lambda: 4)
    parse(share=100).apply()
    assert {os.environ[name] for name in THREAD_VARIABLES} == {"1"}


def test_nothing_to_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    before = (os.getcwd(), list(sys.path))
    parse().apply()
    assert (os.getcwd(), list(sys.path)) == before
    assert "OMP_NUM_THREADS" not in os.environ
