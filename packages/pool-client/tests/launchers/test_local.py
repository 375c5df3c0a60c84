"""Starting the program on this machine: here another program stands in for it."""

import json
import os
import signal
import sys
import time

import pytest
import support

from pool_client.errors import HostError
from pool_client.launchers import HostSpec, local
from pool_client.launchers.local import LocalLauncher

SPEC = HostSpec("local", "local", 2)

#: Answers on standard error with what it was given, and goes on until its standard input ends.
STAND_IN = """
import json, os, sys
settings = json.loads(sys.stdin.readline())
settings["argv"] = sys.argv
settings["pid"] = os.getpid()
settings["leader"] = os.getsid(0) == os.getpid()
settings["stderr_works"] = os.write(settings["stderr"], b"") == 0
settings["environment"] = any("secret" in value for value in os.environ.values())
sys.stderr.write(json.dumps(settings) + chr(10))
sys.stderr.flush()
{then}
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Make a program that stands in for pool-worker; returns a function that launches it."""
    launched = []

    def launch(then="sys.stdin.read()", settings=None):
        package = tmp_path / "pool_worker"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(STAND_IN.format(then=then))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        launched.append(LocalLauncher().launch(SPEC, settings or {"token": "secret"}))
        return launched[0]

    yield launch
    for child in launched:
        child.kill()
        child.close()


def report(child):
    """What the program wrote."""
    return json.loads(support.wait_until(child.errors, what="the program's report"))


def test_settings_come_on_standard_input_and_nowhere_else(program):
    child = program()
    assert "secret" not in repr(vars(child))
    seen = report(child)
    assert seen["token"] == "secret"
    assert seen["client_pid"] == os.getpid()
    assert not any("secret" in argument for argument in seen["argv"])
    assert not seen["environment"]
    assert seen["leader"], "a Ctrl-C must not reach it"
    assert seen["stderr_works"]
    assert seen["argv"][1:] == ["--launch"]


def test_it_ends_when_its_standard_input_does(program):
    child = program()
    report(child)
    assert child.exit_code() is None
    child.hang_up()
    child.hang_up()
    assert support.wait_until(lambda: child.exit_code() is not None)
    assert child.exit_code() == 0
    child.close()


def test_it_can_be_killed(program):
    child = program("import time; time.sleep(60)")
    report(child)
    child.kill()
    child.close()
    assert child.exit_code() == -signal.SIGKILL


def test_one_that_does_not_end_is_killed(program, monkeypatch):
    monkeypatch.setattr(local, "_PATIENCE", 0.05)
    child = program("import time; time.sleep(60)")
    pid = report(child)["pid"]
    child.close()
    assert child.exit_code() == -signal.SIGKILL
    assert not support.is_alive(pid)


def test_closing_waits_for_it_to_end(program):
    child = program("sys.stdin.read(); import time; time.sleep(0.1)")
    report(child)
    child.close()
    assert child.exit_code() == 0


def test_one_that_ends_at_once_says_why(program):
    child = program("sys.exit('no such luck')")
    assert support.wait_until(lambda: child.exit_code() is not None)
    assert child.exit_code() == 1
    assert "no such luck" in child.errors()
    child.close()
    assert "no such luck" in child.errors(), "also afterwards"


def test_settings_for_one_that_is_gone_already(program):
    """More than a pipe holds: the write fails when the reader is gone."""
    child = program("", {"token": "x" * 10})
    support.wait_until(lambda: child.exit_code() is not None)
    again = local._Child(child._process, {"token": "x" * 10**6})
    assert again.exit_code() == 0


def test_only_the_tail_of_its_standard_error_is_kept(program):
    child = program("sys.stderr.write('x' * 100_000 + 'the end'); sys.stderr.flush()")
    support.wait_until(lambda: (child.errors(), child.exit_code())[1] is not None)
    assert child.errors().endswith("the end")
    assert len(child.errors()) <= 8192


def test_a_program_that_cannot_be_started(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(HostError, match="local: cannot start /nowhere/python"):
        LocalLauncher().launch(SPEC, {})


def test_without_a_standard_error_it_gets_one_that_swallows_all(program, monkeypatch):
    dup = os.dup

    def refuse(descriptor):
        if descriptor == 2:
            raise OSError("closed")
        return dup(descriptor)

    monkeypatch.setattr(os, "dup", refuse)
    assert report(program())["stderr_works"]


def test_a_forked_child_lets_go_and_the_program_goes_on(program):
    child = program()
    pid = report(child)["pid"]
    forked = os.fork()
    if not forked:
        child.abandon()
        child.abandon()
        held = child.exit_code() is None
        os._exit(1 if held else 0)
    assert os.waitpid(forked, 0)[1] == 0
    time.sleep(0.05)
    assert support.is_alive(pid)
    assert child.exit_code() is None


def test_letting_go_closes_every_descriptor_and_waits_for_nobody(program):
    before = support.open_descriptors()
    child = program()
    pid = report(child)["pid"]
    child.abandon()
    child.abandon()
    assert support.open_descriptors() == before
    assert child.exit_code() == 0, "as far as this copy knows"
    os.waitpid(pid, 0)
