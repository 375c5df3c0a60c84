"""The shared test support: it must find what it looks for, or its tests prove nothing."""

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import support


def test_snapshot_names_each_kind_of_leak():
    before = support.Snapshot.take()
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait, name="left over")
    thread.start()
    reader, writer = os.pipe()
    handle, name = tempfile.mkstemp()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    left = "\n".join(support.Snapshot.take().beyond(before))
    gate.set()
    thread.join()
    for descriptor in (reader, writer, handle):
        os.close(descriptor)
    os.unlink(name)
    child.kill()
    child.wait()
    assert "left over" in left
    assert f"descriptor {reader}" in left
    assert os.path.basename(name) in left
    assert f"process {child.pid}" in left
    assert support.Snapshot.take().beyond(before) == []


def test_orphans_are_found_by_their_mark():
    code = """if True:
        import subprocess
        sleep = ["sleep", "60"]
        nothing = subprocess.DEVNULL
        print(subprocess.Popen(sleep, stdout=nothing, stderr=nothing, start_new_session=True).pid)
        """
    before = support.Snapshot.take()
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    orphan = int(out.stdout)
    assert support.is_alive(orphan)
    assert orphan in support.our_processes()
    support.end_leftovers(before)
    support.wait_until(lambda: not support.is_alive(orphan), what="the orphan to end")


def test_a_stranger_is_looked_at_once(monkeypatch):
    code = """if True:
        import subprocess
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        print(subprocess.Popen(["sleep", "60"], env={"A": "B"}, **quiet).pid)
        """
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    stranger = int(out.stdout)
    look = support._row
    looked: list[int] = []
    try:
        # Before it runs its program, it is not known for one.
        support.wait_until(lambda: b"\0A=B" in support._environment(stranger))
        assert stranger not in support.our_processes()
        monkeypatch.setattr(support, "_row", lambda pid: [looked.append(pid), look(pid)][1])
        child = subprocess.Popen(["sleep", "60"])
        assert child.pid in support.our_processes()
        assert child.pid in looked
        assert stranger not in looked
    finally:
        support.kill(stranger)
    child.kill()
    child.wait()


def test_wait_until_is_bounded():
    with pytest.raises(AssertionError, match="the moon"):
        support.wait_until(lambda: False, timeout=0.05, what="the moon")
    assert support.wait_until(lambda: 7, timeout=0.05) == 7


def test_run_script_reports_a_hang_with_its_stacks(tmp_path: Path, monkeypatch):
    communicate = subprocess.Popen.communicate
    running = tmp_path / "running"

    def once_it_runs(process, *args, timeout=None):
        """The time is over once the script runs, however long that takes."""
        monkeypatch.setattr(subprocess.Popen, "communicate", communicate)
        support.wait_until(running.exists)
        raise subprocess.TimeoutExpired(process.args, timeout)

    monkeypatch.setattr(subprocess.Popen, "communicate", once_it_runs)
    source = "import sys, time\nopen(sys.argv[1], 'w').close()\ntime.sleep(60)"
    with pytest.raises(AssertionError, match="did not end") as caught:
        support.run_script(source, running)
    assert "Fatal Python error: Aborted" in str(caught.value)


def test_run_script_checks_the_exit_code(tmp_path: Path):
    source = "import sys\nprint(sys.argv[1])\nsys.exit(3)"
    done = support.run_script(source, "word", code=3, as_file=tmp_path / "script.py")
    assert done.stdout == "word\n"
    with pytest.raises(AssertionError, match="ended with 3, not 0"):
        support.run_script(source, "word")


def test_terminal_delivers_ctrl_c(tmp_path: Path):
    source = """
        import time
        try:
            print("ready", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            print("interrupted")
        """
    with support.Terminal(source, tmp_path / "script.py") as terminal:
        terminal.wait_for("ready")
        terminal.press_ctrl_c()
        assert terminal.wait() == 0
        assert "interrupted" in terminal.output
