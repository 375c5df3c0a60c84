"""Every kind of host, alone and all in one pool."""

from collections.abc import Callable

import pytest
from harness.hosts import Cluster, create_pool, executions

ALONE = 10_000
TOGETHER = 100_000


@pytest.mark.parametrize("kind", ["ssh1", "ssh2", "bare", "lan1"])
def test_a_kind_of_host_alone(hosts: Callable[..., Cluster], kind: str) -> None:
    """Each task runs once, gives its own result, and both workers of the host take part."""
    cluster = hosts(kind)
    with cluster.agent() as agent:
        create_pool(agent, cluster)
        done = agent.ask("map", count=ALONE, function="tiny", arguments=[cluster.log])
    assert not done["wrong"]
    assert len(done["by_worker"]) == 2
    ran = executions(cluster)
    assert set(ran.values()) == {1}
    assert len(ran) == ALONE


def test_all_kinds_in_one_pool(containers: Callable[..., Cluster]) -> None:
    """100,000 tasks: each runs once, gives its own result, and every worker takes part."""
    cluster = containers("ssh1", "ssh2", "bare", "lan1", "lan2")
    with cluster.agent() as agent:
        create_pool(agent, cluster, num_workers=2)
        arguments = [cluster.log]
        done = agent.ask("map", 250, count=TOGETHER, function="tiny", arguments=arguments)
    assert not done["wrong"]
    assert {worker.split()[0] for worker in done["by_worker"]} == {*cluster.hosts, "client"}
    assert len(done["by_worker"]) == 12
    ran = executions(cluster)
    assert set(ran.values()) == {1}
    local = sum(n for worker, n in done["by_worker"].items() if worker.startswith("client "))
    assert len(ran) == TOGETHER - local


def test_the_example(containers: Callable[..., Cluster]) -> None:
    """The example in the client's container uses every host and counts 17,984 primes."""
    cluster = containers("ssh1", "ssh2", "bare", "lan1", "lan2")
    text = cluster.run("python", "example.py")
    assert "17984 primes" in text
    assert all(f"{name} counted" in text for name in cluster.hosts)
