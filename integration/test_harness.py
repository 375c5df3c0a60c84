"""What the tests rely on: nothing is left behind, even by a run that was killed."""

import contextlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from docker.errors import APIError, NotFound
from harness.agent import RemoteError
from harness.containers import (
    LABEL,
    PREFIX,
    Container,
    Containers,
    connect,
    items,
    project_name,
    sweep_dead,
)
from harness.hosts import Cluster


def test_what_a_killed_run_left_is_removed(no_containers: str) -> None:
    """The next run removes it, and leaves alone what belongs to a run that goes on."""
    if no_containers:
        pytest.skip(no_containers)
    with (
        contextlib.closing(connect()) as api,
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process,
    ):
        lives = project_name(process.pid, 1)
        # Another process has its number by now, or none has.
        over = [f"{PREFIX}-{process.pid}-1-1", f"{PREFIX}-{2**31 - 1}-1-1"]
        volumes = [api.volumes.create(name, labels={LABEL: name}) for name in (lives, *over)]
        try:
            # Another run on this machine may sweep as well, at this very moment.
            sweep_dead(api)
            assert left(api).intersection([lives, *over]) == {lives}
            process.communicate()
            sweep_dead(api)
            assert lives not in left(api)
        finally:
            for volume in volumes:
                with contextlib.suppress(NotFound):
                    volume.remove()


def left(api: Any) -> set[str]:
    """Return the names of the projects of which there is anything."""
    return {item.attrs["Labels"][LABEL] for item in items(api)}


def test_a_cluster_is_gone_after_its_test(no_containers: str) -> None:
    """No container, network or volume of it is left, also after an error in its block."""
    if no_containers:
        pytest.skip(no_containers)
    with pytest.raises(ZeroDivisionError), Containers(["ssh2"]) as cluster:
        assert cluster.network()
        raise ZeroDivisionError
    with contextlib.closing(connect()) as api:
        assert items(api, cluster.project) == []


def test_a_container_that_cannot_be_frozen_at_once_is_frozen_later() -> None:
    """With control groups of version 1 that is a game of chance; other errors are told."""
    done: list[str] = []
    errors = [APIError("unable to freeze: unknown"), APIError("unable to freeze: unknown")]

    class Inner:
        def pause(self) -> None:
            if errors:
                raise errors.pop()
            done.append("pause")

        def unpause(self) -> None:
            done.append("unpause")

    container = Container(None, "one", Inner())  # type: ignore[arg-type]  # it needs no cluster
    with container.frozen():
        assert done == ["pause"]
    assert done == ["pause", "unpause"]
    errors.append(APIError("no such container"))
    with pytest.raises(APIError, match="no such"), container.frozen():
        pass
    assert done == ["pause", "unpause"]


def test_errors_of_the_client_come_back(loopback: Callable[..., Cluster]) -> None:
    """An exception there is one here; a client that has ended is said to have ended."""
    with loopback().agent() as agent:
        with pytest.raises(RemoteError) as caught:
            agent.ask("create", num_workers=-1)
        assert caught.value.names[0] == "ValueError"
        agent.kill()
        with pytest.raises(AssertionError, match="has ended"):
            agent.ask("describe")
