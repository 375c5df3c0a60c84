"""Limits: memory of a container, the spawner's cap; and that secrets stay secret."""

import hashlib
import re
import ssl
from collections.abc import Callable

import pytest
from harness.agent import RemoteError
from harness.containers import Containers
from harness.hosts import create_pool


def test_a_worker_killed_for_memory(containers: Callable[..., Containers]) -> None:
    """The future gets WorkerLost, whose text points at memory; the pool goes on."""
    cluster = containers("ssh2")
    host = cluster.add("ssh-small", "ssh2", mem_limit="256m", memswap_limit="256m")
    cluster.wait_until_ready()
    with cluster.agent() as agent:
        create_pool(agent, cluster, host.spec(1))
        error = agent.submit("eat", 2000, retries=0).error()
        assert error.names[0] == "WorkerLost"
        assert "for want of memory" in error.text
        assert "ssh-small" in error.text
        assert agent.submit("eat", 1).result() == 2**20


def test_the_cap_of_a_spawner(containers: Callable[..., Containers]) -> None:
    """More workers than it allows are refused; one client waits for another's to end."""
    cluster = containers("lan1")
    command = ["pool-spawner", "serve", "--host", "0.0.0.0", "--max-workers", "2"]
    host = cluster.add("lan-small", "lan1", command=command)
    cluster.wait_until_ready()
    with cluster.agent() as one, cluster.agent() as two:
        with pytest.raises(RemoteError) as caught:
            create_pool(one, cluster, host.spec(1000))
        assert "--max-workers" in caught.value.text
        create_pool(one, cluster, host.spec(2))
        with pytest.raises(RemoteError) as caught:
            create_pool(two, cluster, host.spec(1), connect_timeout=3)
        assert "lan-small" in caught.value.text
        one.call("shutdown")
        create_pool(two, cluster, host.spec(2))
        assert two.submit("pow", 2, 10).result() == 1024


@pytest.mark.parametrize("name", ["lan1", "ssh2"])
def test_a_quota_of_cpu_bounds_the_workers(
    containers: Callable[..., Containers], name: str
) -> None:
    """A host that may use one CPU offers one worker, however many CPUs its machine has."""
    cluster = containers(name)
    host = cluster.add(f"{name[:3]}-one", name, nano_cpus=10**9)
    cluster.wait_until_ready()
    with cluster.agent() as agent:
        create_pool(agent, cluster, host.spec("auto"))
        assert agent.call("total_workers") == 1


def test_secrets_stay_secret(containers: Callable[..., Containers]) -> None:
    """No token or key is in arguments, environments, output or reprs; open files are refused."""
    cluster = containers("ssh2", "bare", "lan1")
    pem = cluster.hosts["lan1"].read("/keys/credential.pem")
    key = re.search(r"PRIVATE KEY-+\n(\w{40})", pem)
    assert key
    # A token has 64 digits, and so has the fingerprint of the certificate, which is public.
    certificate = pem[pem.index("-----BEGIN CERTIFICATE") :]
    public = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest()
    secret = re.compile(rf"\b(?!{public})[0-9a-f]{{64}}\b|{key[1]}", re.IGNORECASE)
    with cluster.agent() as agent:
        create_pool(agent, cluster, workers=1)
        seen = [agent.ask("describe"), agent.tail(), str(agent.call("workers"))]
        for found in agent.ask("on_all", function="secrets"):
            assert "pool" in found["arguments"]
            seen += found.values()
        seen += ["\n".join(host.processes()) for host in cluster.hosts.values()]
        seen.append("\n".join(cluster.client.processes()))
        seen += [host.inner.logs().decode() for host in cluster.hosts.values()]
    assert not [text for text in seen if secret.search(text)]


def test_a_credential_that_others_can_read(containers: Callable[..., Containers]) -> None:
    """The spawner refuses it, and says how to mend it."""
    cluster = containers("lan1")
    script = (
        "cp /keys/credential.pem /tmp/open.pem && chmod 644 /tmp/open.pem && "
        "timeout 20 pool-spawner serve --port 9999 --credential /tmp/open.pem"
    )
    code, output = cluster.hosts["lan1"].inner.exec_run(["sh", "-c", script])
    assert code not in (0, 124)
    assert b"chmod 600" in output


def test_a_credential_of_another_group(containers: Callable[..., Containers]) -> None:
    """A client with a credential that the spawner does not know gets nowhere, and is told."""
    cluster = containers("lan1")
    other = cluster.add("lan-other", "lan1", command=["sleep", "infinity"])
    other.run("sh", "-c", "pool-spawner init --credential /tmp/other.pem")
    pem = other.read("/tmp/other.pem")
    cluster.client.run("sh", "-c", f"umask 077; echo '{pem}' > /tmp/other.pem")
    with cluster.agent() as agent:
        with pytest.raises(RemoteError) as caught:
            spec = cluster.hosts["lan1"].spec(1)
            create_pool(agent, cluster, spec, credential="/tmp/other.pem")
        assert "lan1" in caught.value.text
        assert "credential" in caught.value.text
