"""Starting the program on this machine: here another program stands in for it."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import support
from loops import holds_in_child

from pool_client.errors import HostError
from pool_client.launchers import Access, HostSpec, Order, local
from pool_client.launchers.local import LocalLauncher

SPEC = HostSpec("local", "local", 2)


def launch_now(settings):
    """Launch the program; its standard input is written by the time that this returns."""

    async def listen_tcp():
        raise AssertionError("a local host needs no TCP")

    order = Order(settings, Access(), listen_tcp)
    return asyncio.run(LocalLauncher().launch(SPEC, order))


#: Answers on standard error with what it was given, and goes on until its standard input ends.
STAND_IN = """
import json, os, sys
settings = json.loads(sys.stdin.readline())
settings["argv"] = sys.argv
settings["command"] = sys.orig_argv
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
        launched.append(launch_now(settings or {"token": "secret"}))
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
    assert not any("secret" in word for word in seen["command"]), "argv is what is left of it"
    assert not seen["environment"]
    assert seen["leader"], "a Ctrl-C must not reach it"
    assert seen["stderr_works"]
    assert seen["argv"][1:] == ["--launch"]


def test_it_ends_when_its_standard_input_does(program):
    child = program()
    report(child)
    assert child.ended() is None
    child.hang_up()
    child.hang_up()
    assert support.wait_until(lambda: child.ended() is not None)
    assert "code 0" in child.ended()
    child.close()


def test_it_can_be_killed(program):
    child = program("import time; time.sleep(60)")
    report(child)
    child.kill()
    child.close()
    assert "SIGKILL" in child.ended()


def test_one_that_does_not_end_is_killed(program, monkeypatch):
    monkeypatch.setattr(local, "_PATIENCE", 0.05)
    child = program("import time; time.sleep(60)")
    pid = report(child)["pid"]
    child.close()
    assert "SIGKILL" in child.ended()
    assert not support.is_alive(pid)


def test_closing_waits_for_it_to_end(program):
    child = program("sys.stdin.read(); import time; time.sleep(0.1)")
    report(child)
    child.close()
    assert "code 0" in child.ended()


def test_one_that_ends_at_once_says_why(program):
    child = program("sys.exit('no such luck')")
    assert support.wait_until(lambda: child.ended() is not None)
    assert "code 1" in child.ended()
    assert "no such luck" in child.errors()
    child.close()
    assert "no such luck" in child.errors(), "also afterwards"


def test_settings_for_one_that_is_gone_already(program):
    """More than a pipe holds: the write fails when the reader is gone."""
    child = program("", {"token": "x" * 10})
    support.wait_until(lambda: child.ended() is not None)
    again = local._Child(child._process, {"token": "x" * 10**6})
    assert "code 0" in again.ended()


def test_only_the_tail_of_its_standard_error_is_kept(program):
    child = program("sys.stderr.write('x' * 100_000 + 'the end'); sys.stderr.flush()")
    support.wait_until(lambda: (child.errors(), child.ended())[1] is not None)
    assert child.errors().endswith("the end")
    assert len(child.errors()) <= 8192


def test_options_that_mean_nothing_here():
    spec = HostSpec("local", "local", 2, options={"python": "/opt/python"})
    order = Order({}, Access(), None)
    with pytest.raises(HostError, match=r"local: local workers take no options.*this Python"):
        asyncio.run(LocalLauncher().launch(spec, order))


def test_a_program_that_cannot_be_started(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(HostError, match="local: cannot start /nowhere/python"):
        launch_now({})


def run_client(*arguments):
    """Run another interpreter with these arguments; what it prints as JSON into the last one."""
    subprocess.run([sys.executable, *arguments], check=True, timeout=60)
    return json.loads(Path(arguments[-1]).read_text())


CLIENT = """
import json, os, subprocess, sys
from pool_client import Pool

def look():
    streams = [os.readlink(f"/proc/self/fd/{number}") for number in range(3)]
    return streams, subprocess._args_from_interpreter_flags()

with open(sys.argv[-1], "w") as file, Pool(1) as pool:
    json.dump([pool.run(look), look()], file)
"""


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_streams_that_are_closed_lead_nowhere_in_a_worker(tmp_path, closed):
    """And to nothing of the supervisor's that has got their numbers."""
    close = f"import os\nfor number in {closed}: os.close(number)\n"
    [streams, _], [ours, _] = run_client("-c", close + CLIENT, str(tmp_path / "seen"))
    for number in range(3):
        expected = os.devnull if number == 0 or number in closed else ours[number]
        assert streams[number] == expected


def test_the_interpreters_options_reach_the_workers(tmp_path):
    options = ["-O", "-W", "ignore::UserWarning", "-X", "utf8", "-s"]
    [_, seen], [_, ours] = run_client(*options, "-c", CLIENT, str(tmp_path / "seen"))
    assert {"-O", "-Wignore::UserWarning", "-s"} <= set(ours)
    assert sorted(seen) == sorted([*ours, "-P"])


def test_a_program_that_is_found_on_a_path_of_the_clients_making(tmp_path):
    """As where everything is in one archive, or the script changes ``sys.path``."""
    change = f"import sys; sys.path[:] = {sys.path!r}\n"
    [_, seen], _ = run_client("-I", "-S", "-c", change + CLIENT, str(tmp_path / "seen"))
    assert "-S" in seen


def test_a_forked_child_lets_go_and_the_program_goes_on(program):
    child = program()
    pid = report(child)["pid"]

    def let_go():
        child.abandon()
        child.abandon()
        return child.ended() is not None

    assert holds_in_child(let_go)
    time.sleep(0.05)
    assert support.is_alive(pid)
    assert child.ended() is None


def test_letting_go_closes_every_descriptor_and_waits_for_nobody(program):
    before = support.open_descriptors()
    child = program()
    pid = report(child)["pid"]
    child.abandon()
    child.abandon()
    assert not support.open_descriptors() - before
    assert "code 0" in child.ended(), "as far as this copy knows"
    os.waitpid(pid, 0)
