"""pool_worker.linux: what prctl and /proc give."""

import os
import signal
import subprocess
import sys

import pytest
from test_children import until

from pool_worker import linux

pytestmark = pytest.mark.skipif(not linux.LINUX, reason="needs Linux")

PROGRAM = """
import os, signal, subprocess, sys
from pool_worker import linux
{body}
"""


def run(body: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert not done.stderr
    return done.stdout.strip()


def test_a_child_dies_with_its_parent() -> None:
    pid = int(
        run(
            """
pid = os.fork()
if not pid:
    os.close(1)
    os.close(2)
    assert linux.die_with_parent(signal.SIGKILL)
    signal.pause()
while linux.state_and_session(pid)[0] != "S":
    pass
print(pid, flush=True)
os._exit(0)
"""
        )
    )
    until(lambda: linux.state_and_session(pid)[0] in ("", "Z"))


def test_orphans_are_adopted() -> None:
    out = run(
        """
assert linux.adopt_orphans()
child = subprocess.Popen(["sh", "-c", "sleep 100 >/dev/null & echo $!"], stdout=subprocess.PIPE)
orphan = int(child.stdout.readline())
child.wait()
assert orphan in linux.children(), (orphan, linux.children())
os.kill(orphan, signal.SIGKILL)
os.waitpid(orphan, 0)
print(linux.children())
"""
    )
    assert out == "[]"


def test_state_and_session() -> None:
    assert linux.state_and_session(os.getpid()) == ("R", os.getsid(0))
    child = subprocess.Popen(["sleep", "100"], start_new_session=True)
    try:
        child.send_signal(signal.SIGSTOP)
        until(lambda: linux.state_and_session(child.pid)[0] == "T")
        assert linux.state_and_session(child.pid) == ("T", child.pid)
    finally:
        child.kill()
        child.wait()
    assert linux.state_and_session(child.pid) == ("", 0)
    assert child.pid not in linux.children()
