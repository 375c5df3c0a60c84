"""The limit of open descriptors; each test lowers it in a process of its own."""

import subprocess
import sys

import pytest

pytest.importorskip("resource")

SCRIPT = """
import resource, sys
from pool_client.hosts.descriptors import make_room
from pool_client.errors import PoolBroken
workers, soft, hard = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
try:
    make_room(workers)
except PoolBroken as error:
    print("PoolBroken", error)
else:
    print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def limits(workers: int, soft: int, hard: int) -> str:
    """Call `make_room` under these limits; returns the limits after it, or the error."""
    command = [sys.executable, "-c", SCRIPT, str(workers), str(soft), str(hard)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


def test_raised() -> None:
    """Too low a soft limit is raised so that every worker has a descriptor, the hard one kept."""
    soft, hard = map(int, limits(150, 64, 512).split())
    assert 150 < soft <= 512
    assert hard == 512


def test_left_alone() -> None:
    """A soft limit that is enough is left as it is."""
    assert limits(4, 256, 512) == "256 512"


def test_raised_as_far_as_possible() -> None:
    """A hard limit that is enough for the workers but for little else is used to the full."""
    assert limits(150, 64, 200) == "200 200"


def test_hard_limit_too_low() -> None:
    """A hard limit that is too low is told with the number of workers and the limit."""
    said = limits(500, 64, 200)
    assert said.startswith("PoolBroken 500 workers")
    assert " 200 at most" in said


@pytest.mark.parametrize("workers", [1, 183, 184, 185, 1000])
def test_enough_or_error(workers: int) -> None:
    """Either there is more room than workers afterwards, or there is an error."""
    said = limits(workers, 64, 200)
    assert said.startswith("PoolBroken") or int(said.split()[0]) > workers
    assert said.startswith("PoolBroken") == (workers > 184)
