"""The command line of the check, in this process."""

import argparse
import json
from typing import Any

import fake_remote
import pytest

from pool_client.__main__ import main
from pool_client.check import command
from pool_client.check import probe as probe_module
from pool_client.check.report import Report


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_module, "MEASURE", 0.02)
    fake_remote.register()


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("ssh://node1/4", "ssh://node1/4"),
        ("ssh://me@node1:22", "ssh://me@node1:22/1"),
        ("ssh://node1/auto", "ssh://node1/auto"),
        ("node1:8899", "node1:8899/1"),
        ("local", "local/1"),
        ("ssh://node1?python=/opt/py/bin/python", "ssh://node1/1?python=/opt/py/bin/python"),
        ("ssh://node1/2?python=/opt/python", "ssh://node1/2?python=/opt/python"),
        ("[::1]:8899", "[::1]:8899/1"),
    ],
)
def test_hosts(text: str, host: str) -> None:
    """The number of workers may be left out."""
    assert command.host_string(text) == host


@pytest.mark.parametrize("text", ["", "a b", "ssh://", "node1/0", "-oProxyCommand=x/1", "a/b/c"])
def test_no_hosts(text: str) -> None:
    """The error shows what a host looks like."""
    with pytest.raises(argparse.ArgumentTypeError, match="host"):
        command.host_string(text)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["check"],
        ["check", "a b"],
        ["check", "--timeout", "0", "local"],
        ["check", "--timeout", "-1", "local"],
        ["check", "--timeout", "soon", "local"],
        ["check", "--timeout", "nan", "local"],
        ["check", "--ssh-command", "", "local"],
        ["check", "--ssh-command", "'", "local"],
        ["check", "--unknown", "local"],
        ["other"],
    ],
)
def test_bad_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One line that says what is wrong, and status 2."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    output, errors = capsys.readouterr()
    assert output == "" and errors.count("\n") == 1
    assert errors.startswith("pool-client") and "--help" in errors


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Each option is explained, and so is the exit status."""
    with pytest.raises(SystemExit) as caught:
        main(["check", "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    options = ("--json", "--timeout", "--credential", "--ssh-command", "--advertise")
    for part in (*options, "HOST", "Exit status"):
        assert part in text


def test_table_and_status(capsys: pytest.CaptureFixture[str]) -> None:
    """The table on standard output, progress on standard error; 1 for a host that fails."""
    assert main(["check", "local/2", "fake://node1"]) == 0
    output, errors = capsys.readouterr()
    assert [line.split()[:2] for line in output.splitlines()[3:5]] == [
        ["local/2", "ok"],
        ["fake://node1/1", "ok"],
    ]
    assert "local/2: measuring" in errors
    assert main(["check", "local", "ssh://node1", "--ssh-command", "/no/such/ssh -v"]) == 1
    output, _ = capsys.readouterr()
    assert "ssh://node1/1  FAILED" in output and "/no/such/ssh" in output


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output holds JSON and nothing else."""
    assert main(["check", "--json", "local"]) == 0
    output, _ = capsys.readouterr()
    [host] = json.loads(output)["hosts"]
    assert host["ok"] and host["host"] == "local/1"


def test_options_reach_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is said for reaching hosts."""
    seen: list[dict[str, Any]] = []

    async def note(host: str, settings: dict[str, Any], *_: object) -> Report:
        seen.append(settings)
        return Report(host)

    monkeypatch.setattr(command, "probe", note)
    words = ["--ssh-command", "ssh -F 'my config'", "--timeout", "7", "--credential", "/c.pem"]
    assert main(["check", *words, "--advertise", "10.0.0.1", "node1"]) == 0
    assert seen == [
        {
            "connect_timeout": 7.0,
            "ssh_command": ["ssh", "-F", "my config"],
            "credential": "/c.pem",
            "advertise": "10.0.0.1",
        }
    ]


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It ends with the status that shells expect, and prints no table."""

    async def interrupt(*_: object) -> Report:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "probe", interrupt)
    assert main(["check", "local"]) == 130
    assert capsys.readouterr().out == ""
