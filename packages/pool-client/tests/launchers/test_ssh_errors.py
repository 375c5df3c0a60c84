"""The translation of ssh's refusals: what it really says, word for word, and what we make of it."""

import pytest

from pool_client.launchers.ssh_errors import Called

SOCKET = "/tmp/pool-cb631b816e0bd645.sock"
CALLED = Called("nas", 2222, ["ssh", "-F", "my config", "-p", "2222", "me@nas"], SOCKET)

CHANGED = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Someone could be eavesdropping on you right now (man-in-the-middle attack)!
It is also possible that a host key has just been changed.
Offending ED25519 key in /home/me/.ssh/known_hosts:1
Host key for [nas]:2222 has changed and you have requested strict checking.
Host key verification failed."""
UNPROTECTED = """\
@         WARNING: UNPROTECTED PRIVATE KEY FILE!          @
Permissions 0644 for '/home/me/.ssh/id_ed25519' are too open.
This private key will be ignored.
Load key "/home/me/.ssh/id_ed25519": bad permissions
me@nas: Permission denied (publickey)."""
JUMP = """\
channel 0: open failed: connect failed: Connection refused
stdio forwarding failed
kex_exchange_identification: Connection closed by remote host
Connection closed by UNKNOWN port 65535"""

#: What OpenSSH 9.2 says (8.x and 10.x where noted), and words that the answer must have.
MESSAGES = [
    (
        (
            "No ED25519 host key is known for [nas]:2222 and you have requested strict checking.\n"
            "Host key verification failed."
        ),
        ["not known", "`ssh -F 'my config' -p 2222 me@nas` once"],
    ),
    ("Host key verification failed.", ["not known", "fingerprint"]),
    (CHANGED, ["has changed", "`ssh-keygen -R '[nas]:2222'`", "between you and the host"]),
    (
        "me@nas: Permission denied (publickey,password).",
        ["ssh-add", "`ssh-copy-id -p 2222 me@nas`", "it takes: publickey,password"],
    ),
    (UNPROTECTED, ["chmod 600"]),
    (
        (
            "Received disconnect from 10.0.0.1 port 22:2: Too many authentication failures\n"
            "Disconnected from 10.0.0.1 port 22"
        ),
        ["IdentitiesOnly yes", "nas"],
    ),
    (
        "WARNING: Your password has expired.\nPassword change required but no TTY available.",
        ["password", "expired", "-p 2222 me@nas"],
    ),
    (
        "ssh: Could not resolve hostname nas: Name or service not known",
        ["no host of that name", "spelling"],
    ),
    (
        "ssh: connect to host nas port 22: Connection refused",
        ["nothing listens", "ssh://nas:PORT/n"],
    ),
    ("ssh: connect to host nas port 22: Connection timed out", ["does not answer", "firewall"]),
    ("Connection timed out during banner exchange", ["does not answer"]),
    ("ssh: connect to host nas port 22: Operation timed out", ["does not answer"]),
    ("ssh: connect to host nas port 22: No route to host", ["no way to the host"]),
    ("ssh: connect to host nas port 22: Network is unreachable", ["no way to the host"]),
    (
        f"Error: remote port forwarding failed for listen path {SOCKET}",
        [
            "AllowStreamLocalForwarding yes",
            "AllowTcpForwarding yes",
            "DisableForwarding",
            "restrict",
        ],
    ),
    (
        f"Warning: remote port forwarding failed for listen path {SOCKET}",
        ["AllowStreamLocalForwarding yes"],
    ),
    (JUMP, ["jump host"]),
    (
        (
            "/home/me/.ssh/config: line 1: Bad configuration option: foo\n"
            "/home/me/.ssh/config: terminating, 1 bad configuration options"
        ),
        ["`ssh -G -F 'my config' -p 2222 me@nas`"],
    ),
    ("Bad owner or permissions on /home/me/.ssh/config", ["configuration"]),
    ("Can't open user config file my config: No such file or directory", ["configuration"]),
    (
        (
            "Unable to negotiate with 10.0.0.1 port 22: no matching host key type found. "
            "Their offer: ssh-rsa,ssh-dss"
        ),
        ["no host key type in common"],
    ),
    (
        (
            "kex_exchange_identification: read: Connection reset by peer\n"
            "Connection reset by 10.0.0.1 port 22"
        ),
        ["MaxStartups", "is it an ssh server"],
    ),
    (
        (
            "kex_exchange_identification: Connection closed by remote host\n"
            "Connection closed by 10.0.0.1 port 22"
        ),
        ["MaxStartups"],
    ),
    # OpenSSH 10, PerSourcePenalties
    ("kex_exchange_identification: banner line 0: Not allowed at this time", ["keep this machine"]),
    ("ssh_exchange_identification: Connection closed by remote host", ["MaxStartups"]),  # 7.x
    ("Timeout, server nas not responding.", ["15 s"]),
    ("Connection to nas closed by remote host.", ["was lost"]),
    ("client_loop: send disconnect: Broken pipe", ["was lost"]),
    ("Connection reset by 10.0.0.1 port 22", ["was lost"]),
    ("This account is currently not available.", ["login shell", "chsh"]),
    ("channel 0: open failed: connect failed: open failed", ["MaxSessions"]),
    ("channel 0: open failed: administratively prohibited: open failed", ["MaxSessions"]),
    ("exec request failed on channel 0", ["MaxSessions", "processes"]),
    (
        "Traceback (most recent call last):\nModuleNotFoundError: No module named 'ctypes'",
        ["no module ctypes", "?python="],
    ),
    (
        "'exec' is not recognized as an internal or external command,\r\noperable program",
        ["Windows", "WSL"],
    ),
    ("bash: line 1: exec: sh: not found", ["has no sh"]),
    (
        "bind [127.0.0.1]:8080: Address already in use\nCould not request local forwarding.",
        ["forwarding of your ssh configuration"],
    ),
    ("ssh: illegal option -- T\nusage: ssh [-l login]", ["OpenSSH"]),
]


@pytest.mark.parametrize(("said", "words"), MESSAGES, ids=[said[-50:] for said, _ in MESSAGES])
def test_what_is_wrong_and_the_command_that_mends_it(said, words):
    text = CALLED.explain(255, said, False)
    for word in words:
        assert word in text, text
    assert "{" not in text
    assert "\n" not in text


def test_what_is_said_before_does_not_hide_the_reason():
    banner = "Authorized use only. Unauthorized use is refused. Broken? Call the desk.\n"
    text = CALLED.explain(255, banner + "me@nas: Permission denied (publickey).", False)
    assert "ssh-copy-id" in text


def test_an_unknown_reason_names_the_command_to_try():
    assert "`ssh -F 'my config' -p 2222 me@nas`" in CALLED.explain(255, "something new", False)
    assert "`ssh -F 'my config' -p 2222 me@nas`" in CALLED.explain(255, "", True)


def test_the_signal_that_ended_ssh_is_named_whatever_it_said():
    text = CALLED.explain(-9, "Connection to nas closed by remote host.", True)
    assert "ssh process" in text
    assert "SIGKILL" in text


def test_pool_worker_has_ended_by_itself():
    assert CALLED.explain(1, "pool-worker: cannot start: x", True) == (
        "pool-worker has ended: it exited with code 1"
    )


@pytest.mark.parametrize("status", [0, 1])
def test_something_else_ran_in_place_of_our_command(status):
    text = CALLED.explain(status, "", False)
    assert "authorized_keys" in text
    assert f"status {status}" in text


@pytest.mark.parametrize("status", [126, 127])
def test_the_host_cannot_run_our_command(status):
    text = CALLED.explain(status, "bash: line 1: exec: nosuch: not found", False)
    assert "sh -c true" in text


def test_only_our_own_tunnel_counts_as_refused():
    ours = f"Warning: remote port forwarding failed for listen path {SOCKET}"
    assert "AllowStreamLocalForwarding" in (CALLED.tunnel_refused(ours) or "")
    assert CALLED.tunnel_refused("Warning: remote port forwarding failed for listen port 1") is None
    told = f"debug1: Remote connections from {SOCKET}:-2 forwarded to local address /run/socket:-2"
    assert CALLED.tunnel_refused(told) is None


def test_a_plain_host_is_named_plainly():
    called = Called("nas", None, ["ssh", "nas"], SOCKET)
    assert "`ssh-keygen -R nas`" in called.explain(255, CHANGED, False)
    assert "`ssh-copy-id nas`" in called.explain(255, "Permission denied (publickey)", False)


def test_the_usual_port_is_not_in_known_hosts():
    called = Called("nas", 22, ["ssh", "-p", "22", "nas"], SOCKET)
    assert "`ssh-keygen -R nas`" in called.explain(255, CHANGED, False)


def test_an_ipv6_address_stands_in_brackets_where_a_port_follows():
    refused = "ssh: connect to host ::1 port 22: Connection refused"
    called = Called("::1", None, ["ssh", "::1"], SOCKET)
    assert "ssh://[::1]:PORT/n" in called.explain(255, refused, False)
    assert "`ssh-keygen -R ::1`" in called.explain(255, CHANGED, False)


def test_braces_in_what_is_named_stay_as_they_are():
    called = Called("nas", None, ["ssh", "-o", "ProxyCommand={x}", "nas"], SOCKET)
    assert "ProxyCommand={x}" in called.explain(255, "Host key verification failed.", False)


def test_ssh_itself_is_missing():
    text = CALLED.no_program(FileNotFoundError(2, "No such file or directory"))
    assert "'ssh'" in text
    assert "openssh-client" in text
    assert "ssh_command=" in text
