"""Limits of the machine: descriptors, a temporary directory that cannot be used."""

import os
import shutil
import subprocess
import sys
import textwrap

import pytest
from support import run_script, with_tests_on_path

USE = """
import sys, tempfile
from pool_client import Pool, HostError, PoolBroken

def use(number):
    with Pool(number) as pool:
        assert sorted(pool.map(abs, range(-50, 0))) == list(range(1, 51))
        return len(set(pool.run_on_all(__import__("os").getpid)))
"""


def test_soft_descriptor_limit_is_raised():
    """A pool that needs more descriptors than the soft limit raises it: 40, with 120 workers."""
    source = """
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (40, hard))
print(use(120))
"""
    assert run_script(USE + source).stdout == "120\n"


def test_hard_descriptor_limit():
    """More workers than descriptors is a clear error, and a smaller pool works: 64 of them."""
    source = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
try:
    use(100)
except (OSError, HostError, PoolBroken) as error:
    text = str(error)
    print("descriptors" in text or "open files" in text, text, file=sys.stderr)
    print("refused")
print(use(4))
"""
    done = run_script(USE + source)
    assert done.stdout == "refused\n4\n"
    assert done.stderr.startswith("True"), done.stderr


def test_descriptors_run_out_in_a_running_pool():
    """A pool whose client has no descriptor left for a replacement recovers with the next one."""
    source = """
import os, resource, time
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
with Pool(2, retries=20, connect_timeout=20) as pool:
    assert pool.run(abs, -1) == 1
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    for worker in pool.workers():
        os.kill(worker.pid, 9)
    futures = [pool.submit(abs, -n) for n in range(20)]
    time.sleep(1.0)
    for descriptor in held:
        os.close(descriptor)
    print([future.result(25) for future in futures] == list(range(20)))
"""
    assert run_script(USE + source).stdout == "True\n"


def test_temporary_directory_that_cannot_be_used():
    """A temporary directory that is not there or not writable: another one, or a clear error."""
    source = """
import os
for path in ("/proc/nowhere", "/nowhere at all", "/proc/self/cmdline"):
    tempfile.tempdir = os.environ["XDG_RUNTIME_DIR"] = path
    try:
        print(use(1))
    except (OSError, HostError) as error:
        print(1 if path in str(error) or "XDG_RUNTIME_DIR" in str(error) else error)
"""
    done = run_script(USE + source)
    assert done.stdout == "1\n1\n1\n", done.stdout + done.stderr


def test_long_temporary_directory(tmp_path):
    """A temporary directory whose path is too long for a Unix socket is no obstacle."""
    directory = tmp_path / ("x" * 120)
    directory.mkdir()
    done = run_script(USE + "print(use(2))", env={"TMPDIR": str(directory)})
    assert done.stdout == "2\n"
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("options", ["size=4k,nr_inodes=1", "ro"])
def test_temporary_directory_that_is_full_or_read_only(short_directory, options):
    """A full or read-only temporary directory: another one, or a clear error. A small tmpfs."""
    program = shutil.which("unshare")
    mount = [
        "sh",
        "-c",
        f"mount -t tmpfs -o {options} none '{short_directory}' && exec \"$@\"",
        "sh",
    ]
    if program is None or subprocess.call([program, "-m", *mount, "true"]) != 0:
        pytest.skip("needs the right to mount")
    source = USE + (
        "tempfile.tempdir = sys.argv[1]\n"
        "try:\n    print(use(1))\n"
        "except (OSError, HostError) as error:\n"
        "    print(1 if sys.argv[1] in str(error) else error)\n"
    )
    done = subprocess.run(
        [program, "-m", *mount, sys.executable, "-c", textwrap.dedent(source), short_directory],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
        env={
            **os.environ,
            "PYTHONPATH": with_tests_on_path(),
            "XDG_RUNTIME_DIR": str(short_directory),
        },
    )
    assert done.stdout == "1\n", done.stdout + done.stderr
