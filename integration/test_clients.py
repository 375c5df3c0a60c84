"""Clients: killed, two at once; what they see of their tasks; workers that join by hand."""

import json
import signal
from collections.abc import Callable

import pytest
from harness.agent import Agent
from harness.containers import Containers
from harness.hosts import Cluster, Residue, create_pool, executions, wait_for

GATE = "/tmp/gate"


@pytest.mark.parametrize("names", [("ssh1", "lan1")])
def test_a_killed_client_takes_its_workers_along(
    hosts: Callable[..., Cluster], names: tuple[str, ...]
) -> None:
    """Every process that it had on any host ends, also one that keeps the GIL busy."""
    cluster = hosts(*names)
    residue = Residue(cluster)
    with cluster.agent() as agent:
        create_pool(agent, cluster)
        for _ in range(2 * len(names)):
            agent.submit("spin", 3600, cluster.log)
        wait_for("all run", lambda: executions(cluster)["spin"] == 2 * len(names))
        assert set(residue.now()) == set(names)
        agent.kill()
        residue.wait_until_gone(25)


def test_a_killed_client_of_all_kinds_of_hosts(containers: Callable[..., Containers]) -> None:
    """Every process that it had on any host ends, the one without pool-worker included."""
    cluster = containers("ssh1", "ssh2", "bare", "lan1", "lan2")
    residue = Residue(cluster)
    with cluster.agent() as agent:
        create_pool(agent, cluster, workers=1)
        assert set(residue.now()) == set(cluster.hosts)
        agent.kill()
        residue.wait_until_gone(25)


def test_nothing_is_left_after_a_pool(hosts: Callable[..., Cluster]) -> None:
    """After shutdown, no process of the pool is on any host, and no file either."""
    cluster = hosts("ssh1", "lan1")
    residue = Residue(cluster)
    with cluster.agent() as agent:
        create_pool(agent, cluster)
        assert len(agent.ask("on_all", function="where")) == 4
        agent.call("shutdown")
        residue.wait_until_gone()


def test_two_clients_at_once(hosts: Callable[..., Cluster]) -> None:
    """Each gets its own results; one that is killed does not disturb the other."""
    cluster = hosts("ssh1", "lan1")
    with cluster.agent() as one, cluster.agent() as two:
        for agent in (one, two):
            create_pool(agent, cluster, workers=1)
            agent.ask("load", width=4, log=cluster.log, seconds=0.01)
        wait_for("both work", lambda: all(a.ask("progress")["by_node"] for a in (one, two)))
        one.kill()
        before = sum(two.ask("progress")["by_node"].values())
        wait_for(
            "the other goes on",
            lambda: sum(two.ask("progress")["by_node"].values()) > before + 100,
        )
        done = two.ask("stop_load")
        assert (done["pending"], done["wrong"], done["errors"]) == (0, 0, {})
        assert two.call("stats")["workers_lost"] == 0


@pytest.mark.parametrize("name", ["ssh1", "lan1"])
def test_what_tasks_print_is_shown(hosts: Callable[..., Cluster], name: str) -> None:
    """Lines come out on the client's own streams, in order, with the host in front."""
    cluster = hosts(name)
    with cluster.agent() as agent:
        create_pool(agent, cluster, workers=1)
        assert agent.submit("say", 50, "line").result() == 50
        agent.call("shutdown")
    for stream in ("stdout", "stderr"):
        lines = [line for line in agent.lines[stream] if "line " in line]
        assert [int(line.rpartition(" ")[2]) for line in lines] == list(range(50))
        assert all(f"[{cluster.hosts[name].pool_name} " in line for line in lines)


def test_a_host_joins_by_hand_and_leaves(containers: Callable[..., Containers]) -> None:
    """Started on a host with the credential, workers take part; told to go, they finish first."""
    cluster = containers("lan1")
    host = cluster.hosts["lan1"]
    with cluster.agent() as agent:
        agent.ask("create", num_workers=1)
        port = agent.call("listen", "0.0.0.0", 0)
        command = ["pool-worker", "--connect", f"client:{port}", "-n", "2"]
        joined = host.inner.exec_run(
            [*command, "--credential", "/keys/credential.pem"], detach=True
        )
        assert joined is not None
        wait_for("they joined", lambda: len(agent.call("workers")) == 3)
        held = [agent.submit("hold", cluster.log, GATE, name) for name in "abc"]
        wait_for("two run there", lambda: executions(cluster).total() == 2)
        host.signal("--connect", signal.SIGTERM, most=1)
        wait_for("they leave", lambda: "leaving" in host_states(agent))
        assert not any(task.done() for task in held)
        for machine in (host, cluster.client):
            machine.run("touch", GATE)
        names = {tuple(task.result())[:2] for task in held}
        assert sorted(node for _, node in names) == ["client", "lan1", "lan1"]
        wait_for("they left", lambda: len(agent.call("workers")) == 1)
        assert agent.call("stats")["retried"] == 0


def host_states(agent: Agent) -> list[str]:
    """Return what the pool says that its hosts do."""
    return [host["state"] for host in agent.call("hosts")]


def test_hosts_are_checked(containers: Callable[..., Containers]) -> None:
    """`pool-client check` finds good hosts good, and says of a bad one what is wrong."""
    cluster = containers("ssh1", "bare", "lan1")
    good = [host.spec(1) for host in cluster.hosts.values()]
    check = ["pool-client", "check", "--timeout", "120"]
    report = json.loads(cluster.run(*check, "--json", *good))
    assert "ssh1" in json.dumps(report)
    code, output = cluster.client.inner.exec_run([*check, "ssh://nowhere/1"])
    assert code == 1
    assert b"nowhere" in output
