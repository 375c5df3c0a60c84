"""Clusters for the tests: made for each test, of containers or on loopback, and gone after it."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "packages" / "pool-client" / "tests")]

from harness.hosts import Cluster  # noqa: E402  (found through the line above)
from hosts import sshd  # noqa: E402

from tools.cluster import why_not  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    """Clear away what runs left behind that were killed."""
    if not hasattr(config, "workerinput") and not why_not():
        from harness.containers import connect, sweep_dead

        with contextlib.closing(connect()) as api:
            for project in sweep_dead(api):
                print(f"removed what is left of {project}")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Clear away what a process of this run left behind when it was interrupted."""
    pytest_configure(config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that take longest: the others run beside them."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session")
def no_containers() -> str:
    """Say why there are no containers here; nothing if there are."""
    return why_not()


@pytest.fixture
def containers(no_containers: str) -> Iterator[Callable[..., Cluster]]:
    """Make clusters of containers from names of services."""
    if no_containers:
        pytest.skip(no_containers)
    from harness.containers import Containers

    with contextlib.ExitStack() as stack:
        yield lambda *services: stack.enter_context(Containers(services))


@pytest.fixture
def loopback() -> Iterator[Callable[..., Cluster]]:
    """Make clusters of an ssh server and a spawner here."""
    from harness.loopback import Loopback

    with contextlib.ExitStack() as stack:

        def make(*services: str) -> Cluster:
            if not sshd.find() and any(not name.startswith("lan") for name in services):
                pytest.skip(sshd.MISSING)
            return stack.enter_context(Loopback(services))

        yield make


@pytest.fixture
def pause() -> Callable[[float], None]:
    """Let time go by where that is what is tested; everything else waits for conditions."""
    return time.sleep


@pytest.fixture(params=["containers", "loopback"])
def hosts(request: pytest.FixtureRequest) -> Callable[..., Cluster]:
    """Make clusters of either kind, one after the other."""
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]  # by its name
