"""The words of ssh's command line."""

import subprocess

import pytest

from pool_client.errors import HostError
from pool_client.launchers import HostSpec
from pool_client.launchers.ssh_command import Attempt, arguments, check, login

FORWARD = ("/tmp/there.sock", "/run/here/socket")


def words(spec=None, attempt=None, ssh_command=("ssh",), forward=FORWARD):
    spec = spec or HostSpec("ssh", "host", 2)
    return arguments(spec, ssh_command, forward, "the command", attempt or Attempt())


def options(words):
    return dict(words[i + 1].split("=", 1) for i, word in enumerate(words) if word == "-o")


def test_what_the_tunnel_depends_on_is_said_whatever_the_configuration_holds():
    said = options(words())
    assert said["BatchMode"] == "yes"
    assert said["ExitOnForwardFailure"] == "yes"
    assert said["ServerAliveInterval"] == "5"
    assert said["ServerAliveCountMax"] == "3"
    assert said["ControlMaster"] == "no"
    assert said["ControlPath"] == "none"
    assert said["StreamLocalBindUnlink"] == "yes"
    assert said["ForwardAgent"] == said["ForwardX11"] == "no"
    assert "-T" in words()


def test_nothing_is_said_about_the_checking_of_hosts_and_about_keys():
    text = " ".join(words()).lower()
    for word in ("hostkey", "knownhosts", "stricthost", "identity", "-i ", "-f "):
        assert word not in text


def test_the_host_and_the_command_come_last_behind_the_options():
    assert words()[-3:] == ["--", "host", "the command"]


def test_one_reverse_tunnel_from_socket_to_socket():
    said = words()
    assert said[said.index("-R") + 1] == "/tmp/there.sock:/run/here/socket"
    assert said.count("-R") == 1


def test_port_and_user_are_said_only_if_they_were_given():
    plain = words()
    assert "-p" not in plain
    assert "-l" not in plain
    said = words(HostSpec("ssh", "host", 2, "me", 2222))
    assert said[said.index("-p") + 1] == "2222"
    assert said[said.index("-l") + 1] == "me"


def test_the_users_program_and_its_arguments_come_first():
    said = words(ssh_command=("ssh", "-F", "mine"))
    assert said[:3] == ["ssh", "-F", "mine"]


def test_a_real_ssh_takes_every_option():
    """``ssh -G`` reads the command line and prints what it makes of it."""
    said = words(HostSpec("ssh", "host", 2, "me", 2222), ssh_command=("ssh", "-F", "none", "-G"))
    done = subprocess.run(said, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    assert "batchmode yes" in done.stdout
    assert "user me" in done.stdout
    assert "port 2222" in done.stdout
    assert "exitonforwardfailure yes" in done.stdout


@pytest.mark.parametrize("path", ["/run/a:b/s", "/run/a%h/s", "/run/${A}/s", "/run/a b", "rel"])
def test_a_path_that_ssh_would_expand_or_split_is_refused(path):
    with pytest.raises(HostError, match="set XDG_RUNTIME_DIR"):
        words(forward=("/tmp/there.sock", path))


@pytest.mark.parametrize("spec", [("-oProxyCommand=x", ""), ("host", "-oProxyCommand=x")])
def test_what_ssh_would_take_for_an_option_is_refused(spec):
    with pytest.raises(HostError, match="begins with '-'"):
        check(HostSpec("ssh", spec[0], 1, spec[1]))


def test_an_option_that_means_nothing_is_refused_and_the_known_one_named():
    with pytest.raises(HostError, match="no option pyhton; there is: python"):
        check(HostSpec("ssh", "host", 1, options={"pyhton": "x", "python": "y"}))
    check(HostSpec("ssh", "host", 1, options={"python": "y"}))


def test_how_the_user_would_call_it():
    assert login(HostSpec("ssh", "host", 1), ["ssh"]) == ["ssh", "host"]
    spec = HostSpec("ssh", "host", 1, "me", 22)
    assert login(spec, ["ssh", "-F", "x"]) == ["ssh", "-F", "x", "-p", "22", "me@host"]


class TestAnotherTry:
    def test_an_older_ssh_gets_no_newer_options(self):
        said = "command-line: line 0: Bad configuration option: forkafterauthentication\r\n"
        after = Attempt().after(said)
        assert after == Attempt(newer=False)
        assert "SessionType" in options(words())
        assert not {"SessionType", "StdinNull", "ForkAfterAuthentication"} & set(
            options(words(attempt=after))
        )
        assert after.after(said) is None

    def test_a_mistake_in_the_users_own_configuration_stays_one(self):
        assert Attempt().after("config: line 3: Bad configuration option: foo") is None

    @pytest.mark.parametrize(
        "said",
        [
            "bind [127.0.0.1]:8080: Address already in use\nCould not request local forwarding.",
            "Error: remote port forwarding failed for listen port 8080",
        ],
    )
    def test_a_forwarding_of_the_users_own_may_fail(self, said):
        after = Attempt().after(said)
        assert after == Attempt(all_forwards=False)
        assert options(words(attempt=after))["ExitOnForwardFailure"] == "no"
        assert after.after(said) is None

    def test_our_own_forwarding_may_not(self):
        said = "Error: remote port forwarding failed for listen path /tmp/there.sock"
        assert Attempt().after(said) is None

    @pytest.mark.parametrize(
        "said",
        [
            "kex_exchange_identification: Connection closed by remote host\nConnection closed by x",
            "kex_exchange_identification: read: Connection reset by peer",
        ],
    )
    def test_a_server_that_drops_us_is_asked_again_later_and_later_a_few_times(self, said):
        attempt, pauses = Attempt(), []
        while (after := attempt.after(said)) is not None:
            attempt = after
            pauses.append(attempt.pause)
        assert Attempt().pause == 0
        assert pauses == sorted(pauses)
        assert pauses[0] > 0
        assert 3 <= len(pauses) <= 6
        assert sum(pauses) < 5

    def test_other_refusals_are_final(self):
        assert Attempt().after("root@host: Permission denied (publickey).") is None
        assert Attempt().after("") is None
