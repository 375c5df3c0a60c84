"""SshLauncher: what it does and says, with a real sshd, and with programs that stand in for ssh."""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import support
from hosts import sshd as loopback
from hosts.fake_pythons import old_python, program, tools
from hosts.ports import free_port

from pool_client.errors import HostError
from pool_client.launchers import Access, Order, parse
from pool_client.launchers.ssh import SshLauncher
from pool_client.launchers.ssh_command import Attempt

TOKEN = "feedface" * 8


def order(command, address):
    async def listen_tcp():
        raise AssertionError("ssh needs no TCP")

    settings = {
        "address": address,
        "launch": "00" * 8,
        "token": TOKEN,
        "host": "there",
        "cwd": "/here",
        "sys_path": ["/here"],
        "max_message": None,
        "share": 2,
    }
    return Order(settings, Access(ssh_command=tuple(command)), listen_tcp)


def launch(host, command, seconds=30.0, use=None, address="/tmp/pt-nobody/socket"):
    """Launch, look at it, end it; returns what ``use`` made of it."""

    async def body():
        launched = await asyncio.wait_for(
            SshLauncher().launch(parse(host), order(command, address)), seconds
        )
        try:
            return await use(launched) if use is not None else None
        finally:
            launched.kill()
            launched.close()

    return asyncio.run(body())


def refusal(host, command, seconds=30.0):
    """Launch in vain; the reason."""
    with pytest.raises(HostError) as caught:
        launch(host, command, seconds)
    assert caught.value.host == parse(host).name
    assert TOKEN not in str(caught.value)
    return caught.value.reason


async def until_ended(launched):
    while (reason := launched.ended()) is None:
        await asyncio.sleep(0.005)
    return f"{reason}\n{launched.errors()}"


class TestWithAStandIn:
    """A program that gets ssh's words, and answers as a host would."""

    @pytest.fixture
    def stand_in(self, tmp_path):
        """Write a program in Python; returns the words that start it."""

        def make(source):
            file = tmp_path / "ssh.py"
            file.write_text(source)
            return [sys.executable, str(file)]

        return make

    ANSWER = """
import json, os, sys
def line():
    return sys.stdin.buffer.raw.readline()
words = sys.argv
mark = words[-1].split()[-3]
program = line()
print("welcome", flush=True)
print(mark, file=sys.stderr)
sys.stdout.write(f"\\n{mark} ready " + json.dumps(
    {"python": "3.11.1", "executable": "/x", "installed": INSTALLED}) + "\\n")
sys.stdout.flush()
"""

    def host_with_worker(self, installed=True):
        return self.ANSWER.replace("INSTALLED", str(installed))

    def test_the_settings_come_on_standard_input_and_nowhere_else(self, stand_in, tmp_path):
        source = self.host_with_worker() + (
            "settings = line().decode()\n"
            "argv = open('/proc/self/cmdline').read()\n"
            "seen = [words, dict(os.environ), argv, program.decode()]\n"
            f"with open({str(tmp_path / 'seen')!r}, 'w') as file:\n"
            "    json.dump([json.loads(settings), repr(seen), words], file)\n"
        )
        launch("ssh://host/2", stand_in(source), use=until_ended)
        settings, seen, words = json.loads((tmp_path / "seen").read_text())
        assert TOKEN not in seen
        there, _, here = words[words.index("-R") + 1].partition(":")
        assert here == "/tmp/pt-nobody/socket"
        assert settings == {
            "address": there,
            "launch": "00" * 8,
            "token": TOKEN,
            "host": "there",
            "cwd": None,
            "sys_path": None,
            "max_message": None,
            "share": 2,
            "unlink": True,
            "lease": 300,
            "output": True,
            "modules": True,
        }

    def test_each_launch_has_another_unguessable_socket(self, stand_in):
        source = self.host_with_worker() + "line(); sys.exit(words[words.index('-R') + 1])"

        async def use(launched):
            return (await until_ended(launched)).splitlines()[-1].partition(":")[0]

        command = stand_in(source)
        first, second = (launch("ssh://host/2", command, use=use) for _ in range(2))
        assert first != second
        assert len(Path(first).stem) > 32
        assert first.startswith("/tmp/")

    def test_every_socket_that_may_be_left_is_removed_by_the_next_start(self, stand_in, tmp_path):
        """Starts that failed before anything of ours ran there could not remove theirs."""
        seen, works = tmp_path / "seen", tmp_path / "works"
        source = (
            "import os, sys\n"
            f"with open({str(seen)!r}, 'a') as file:\n"
            "    file.write(sys.argv[sys.argv.index('-R') + 1].partition(':')[0] + ' ')\n"
            f"os.path.exists({str(works)!r}) or sys.exit(1)\n"
        ) + self.host_with_worker()
        source += f"open({str(works)!r}, 'w').write(json.loads(program).splitlines()[-1]); line()"
        command = stand_in(source)
        launcher = SshLauncher()
        wanted = order(command, "/tmp/pt-nobody/socket")

        async def start():
            launched = await launcher.launch(parse("ssh://host/2"), wanted)
            await until_ended(launched)
            launched.close()

        def told():
            return works.read_text().partition("[")[2].partition("]")[0]

        for _ in range(3):
            with pytest.raises(HostError):
                asyncio.run(start())
        works.touch()
        asyncio.run(start())
        *left, last = seen.read_text().split()
        assert len(left) == 3
        assert told() == ", ".join(map(repr, left))
        asyncio.run(start())
        assert told() == repr(last)

    def test_the_sources_are_sent_only_where_there_is_no_worker(self, stand_in):
        rest = "sys.exit(str(len(sys.stdin.buffer.read())))"

        async def use(launched):
            launched.hang_up()
            return int((await until_ended(launched)).splitlines()[-1])

        sent = [
            launch("ssh://host/2", stand_in(self.host_with_worker(installed) + rest), use=use)
            for installed in (True, False)
        ]
        assert sent[0] < 1000
        assert sent[1] > 20_000

    def test_what_it_is_given_is_in_no_repr_and_no_log(self, stand_in, caplog):
        caplog.set_level(0)
        source = self.host_with_worker() + "line(); sys.stdin.read()"

        async def use(launched):
            return repr(launched)

        assert TOKEN not in launch("ssh://host/2", stand_in(source), use=use)
        assert TOKEN not in repr(order(["ssh"], "/tmp/socket"))
        assert TOKEN not in caplog.text
        assert "Python 3.11.1 (/x), pool-worker installed" in caplog.text

    def test_it_is_cancelled_at_any_time_and_nothing_is_left(self, stand_in):
        for source in (
            "import time; time.sleep(1000)",
            self.host_with_worker(False) + "import time; time.sleep(1000)",
        ):
            with pytest.raises(TimeoutError):
                launch("ssh://host/2", stand_in(source), 0.5)

    def test_its_stage_says_what_it_waits_for(self, stand_in):
        launcher = SshLauncher()
        command = stand_in("import time; time.sleep(1000)")

        async def body():
            launching = launcher.launch(parse("ssh://me@h:1/2"), order(command, "/tmp/socket"))
            await asyncio.wait_for(launching, 0.3)

        with pytest.raises(TimeoutError):
            asyncio.run(body())
        assert "no answer through ssh yet" in launcher.stage
        assert "-p 1 me@h`" in launcher.stage

    def test_an_older_ssh_is_called_again_without_what_it_does_not_know(self, stand_in):
        source = (
            "import sys\n"
            "if any('SessionType' in word for word in sys.argv):\n"
            "    print('command-line: line 0: Bad configuration option: sessiontype',"
            " file=sys.stderr)\n"
            "    sys.exit(255)\n"
        ) + self.host_with_worker()
        launch("ssh://host/2", stand_in(source))

    def test_a_server_that_drops_us_is_asked_again(self, stand_in, tmp_path):
        source = (
            "import pathlib, sys, time\n"
            f"count = pathlib.Path({str(tmp_path / 'count')!r})\n"
            "tries = count.read_text().split() if count.exists() else []\n"
            "count.write_text(' '.join([*tries, str(time.monotonic())]))\n"
            "if len(tries) < 2:\n"
            "    print('kex_exchange_identification: Connection closed by remote host',"
            " file=sys.stderr)\n"
            "    sys.exit(255)\n"
        ) + self.host_with_worker()
        launch("ssh://host/2", stand_in(source))
        first, second, third = map(float, (tmp_path / "count").read_text().split())
        assert second - first > 0.2
        assert third - second > 0.4, "later and later"

    def test_a_host_without_python_is_named_so_that_it_can_be_pasted(self, stand_in):
        source = "import sys\nmark = sys.argv[-1].split()[-3]\nprint(mark, 'none')\n"
        reason = refusal("ssh://[::1]/2", stand_in(source))
        assert "ssh://[::1]/4?python=/path/to/python3" in reason

    def test_no_ssh_at_all(self):
        reason = refusal("ssh://host/2", ["/no/such/ssh"])
        assert "'/no/such/ssh'" in reason
        assert "openssh-client" in reason

    def test_something_that_is_not_ssh(self):
        assert "not OpenSSH's" in refusal("ssh://host/2", ["true"])

    @pytest.mark.parametrize("host", ["ssh://host/2?pyhton=x", "ssh://host/2?python=a b"])
    def test_options_that_mean_nothing(self, host):
        assert "python" in refusal(host, ["true"])


class TestPythonOnTheHost:
    def test_none_that_is_new_enough(self, make_sshd, tmp_path):
        old = old_python(tools(tmp_path / "bin") / "python3", "3.9.2")
        sshd = make_sshd(PATH=str(old.parent))
        reason = refusal(sshd.host(1), sshd.command)
        assert "no Python 3.11 or newer" in reason
        assert f"python3 is 3.9.2 ({old})" in reason
        assert "?python=" in reason

    def test_none_at_all(self, make_sshd, tmp_path):
        sshd = make_sshd(PATH=str(tools(tmp_path / "bin")))
        assert "no Python was found" in refusal(sshd.host(1), sshd.command)

    def test_the_one_that_was_named_is_not_there(self, sshd):
        reason = refusal(sshd.host(1, "python=/no/such/python"), sshd.command)
        assert "python=/no/such/python is no Python 3.11 or newer there" in reason
        assert "there is no such program" in reason

    def test_one_without_its_standard_library(self, make_sshd, tmp_path):
        """Debian's python3-minimal."""
        worker = tmp_path / "site" / "pool_worker"
        program(tmp_path / "bin" / "python3", f'exec {sys.executable} "$@"')
        worker.mkdir(parents=True)
        (worker / "__init__.py").touch()
        (worker / "cli.py").write_text("def main(argv): import missing_of_stdlib")
        sshd = make_sshd(PATH=f"{tmp_path}/bin:/usr/bin:/bin", PYTHONPATH=str(worker.parent))

        reason = launch(sshd.host(1), sshd.command, use=until_ended)
        assert "no module missing_of_stdlib" in reason
        assert "?python=" in reason


class TestRefusals:
    """Row 39 of the faults: each is named with its reason, and with what to do."""

    @pytest.fixture
    def at_once(self, monkeypatch):
        """Who may have too many callers is asked again without a pause."""
        monkeypatch.setattr(Attempt, "pause", 0.0)

    def test_the_hosts_key_is_not_known(self, sshd, monkeypatch):
        with changed(sshd.known_hosts, ""):
            reason = refusal(sshd.host(1), sshd.command)
        assert "not known here" in reason
        assert f"-p {sshd.port} 127.0.0.1` once" in reason

    def test_the_hosts_key_has_changed(self, sshd, tmp_path):
        loopback.make_key(tmp_path / "other")
        other = (tmp_path / "other.pub").read_text()
        with changed(sshd.known_hosts, f"[127.0.0.1]:{sshd.port} {other}"):
            reason = refusal(sshd.host(1), sshd.command)
        assert "key has changed" in reason
        assert f"`ssh-keygen -R '[127.0.0.1]:{sshd.port}'`" in reason

    def test_nobody_is_let_in_with_these_keys(self, sshd):
        with changed(sshd.authorized_keys, ""):
            reason = refusal(sshd.host(1), sshd.command)
        assert "ssh-add" in reason
        assert f"`ssh-copy-id -p {sshd.port} 127.0.0.1`" in reason
        assert "Permission denied (publickey)" in reason, "what ssh said follows"

    def test_a_quiet_ssh_still_gives_its_reason(self, make_sshd):
        sshd = make_sshd()
        sshd.authorized_keys.write_text("")
        sshd.write_config("LogLevel QUIET")
        assert "ssh-copy-id" in refusal(sshd.host(1), sshd.command)

    def test_another_user_is_not_let_in(self, sshd):
        host = sshd.host(1).replace("//", "//nobody@")
        assert "ssh-copy-id" in refusal(host, sshd.command)

    @pytest.mark.parametrize("word", ["restrict", "no-port-forwarding"])
    def test_the_key_may_not_forward(self, sshd, word):
        with changed(sshd.authorized_keys, f"{word} {sshd.authorized_keys.read_text()}"):
            reason = refusal(sshd.host(1), sshd.command)
        assert "`restrict`" in reason

    @pytest.mark.parametrize(
        "line",
        [
            "AllowStreamLocalForwarding no",
            "AllowStreamLocalForwarding local",
            "AllowTcpForwarding no",
            "DisableForwarding yes",
        ],
    )
    def test_the_server_allows_no_tunnel(self, make_sshd, line):
        sshd = make_sshd(line)
        assert "AllowStreamLocalForwarding yes" in refusal(sshd.host(1), sshd.command)

    def test_nor_does_it_when_other_forwardings_fail_too(self, make_sshd):
        """The second try lets forwardings fail, but not ours."""
        sshd = make_sshd("AllowStreamLocalForwarding no")
        with taken_port() as port:
            sshd.write_config(f"LocalForward 127.0.0.1:{port} localhost:1")
            reason = refusal(sshd.host(1), sshd.command)
        assert "AllowStreamLocalForwarding yes" in reason

    def test_the_server_runs_no_commands(self, make_sshd):
        sshd = make_sshd("MaxSessions 0")
        assert "MaxSessions" in refusal(sshd.host(1), sshd.command)

    @pytest.mark.parametrize("command", ["/usr/sbin/nologin", "true", "echo hello"])
    def test_the_server_runs_something_else(self, sshd, command):
        line = f'command="{command}" {sshd.authorized_keys.read_text()}'
        with changed(sshd.authorized_keys, line):
            reason = refusal(sshd.host(1), sshd.command)
        assert "authorized_keys" in reason or "chsh -s /bin/sh" in reason
        if "hello" in command:
            assert "hello" in reason

    def test_a_name_that_nobody_knows(self, sshd, monkeypatch):
        monkeypatch.setenv("RES_OPTIONS", "timeout:1 attempts:1")  # the name servers may be away
        assert "no host of that name" in refusal("ssh://nosuch.invalid/1", sshd.command)

    def test_a_port_on_which_nobody_listens(self, sshd):
        host = f"ssh://127.0.0.1:{free_port()}/1"
        assert "nothing listens there" in refusal(host, sshd.command)

    def test_a_host_that_drops_everything(self, make_sshd):
        sshd = make_sshd()
        sshd.write_config("ConnectTimeout 1")
        with taken_port() as port:
            reason = refusal(f"ssh://127.0.0.1:{port}/1", sshd.command)
        assert "does not answer" in reason

    def test_something_else_listens_there(self, sshd, at_once):
        with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
            reason = refusal(f"ssh://127.0.0.1:{port}/1", sshd.command)
        assert "is it an ssh server" in reason

    def test_the_users_configuration_has_a_mistake(self, make_sshd):
        sshd = make_sshd()
        sshd.write_config("Frobnicate yes")
        reason = refusal(sshd.host(1), sshd.command)
        assert "configuration" in reason
        assert "-G" in reason

    def test_ssh_and_sshd_have_no_cipher_in_common(self, make_sshd):
        sshd = make_sshd("Ciphers aes128-ctr")
        sshd.write_config("Ciphers aes256-gcm@openssh.com")
        assert "no cipher in common" in refusal(sshd.host(1), sshd.command)

    def test_a_private_key_that_others_can_read(self, make_sshd):
        sshd = make_sshd()
        (sshd.folder / "user_key").chmod(0o644)
        assert "chmod 600" in refusal(sshd.host(1), sshd.command)

    def test_a_jump_host_that_does_not_get_through(self, make_sshd, at_once):
        sshd = make_sshd()
        jump = f"ssh -F {sshd.config} -p {sshd.port} -W 127.0.0.1:1 127.0.0.1"
        sshd.write_config("Host behind", f"ProxyCommand {jump}", "Host *")
        assert "jump host" in refusal("ssh://behind/1", sshd.command)


class TestOnceItRuns:
    """The client's socket is not there, so pool-worker ends by itself."""

    def test_why_pool_worker_ended(self, sshd):
        reason, _, said = launch(sshd.host(1), sshd.command, use=until_ended).partition("\n")
        assert reason.startswith("pool-worker has ended")
        assert "/tmp/pt-nobody/socket" in said

    def test_a_killed_ssh_is_told_by_its_signal(self, sshd, silent_client):
        async def use(launched):
            launched.kill()
            return await until_ended(launched)

        reason = launch(sshd.host(1), sshd.command, use=use, address=silent_client)
        assert "SIGKILL" in reason


@pytest.fixture
def silent_client():
    """The socket of a client that says nothing, so that pool-worker stays for a while."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{folder}/socket")
        listening.listen()
        yield f"{folder}/socket"


class TestTheHelper:
    def test_nothing_of_the_users_own_ssh_is_touched(self, sshd):
        done = sshd.run("echo", "$HOME", "it's")
        assert (done.returncode, done.stdout) == (0, "$HOME it's\n")
        traced = sshd.run("true", ssh=["-v"]).stderr
        assert str(sshd.folder) in traced
        assert str(Path.home() / ".ssh") not in traced
        assert "/etc/ssh" not in traced.replace("/etc/ssh/ssh_config", "")

    def test_its_sessions_can_be_counted_and_ended(self, make_sshd):
        sshd = make_sshd()
        words = [*sshd.command, "-p", str(sshd.port), "127.0.0.1", "echo up; exec cat"]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as session:
            assert session.stdout.readline() == b"up\n"
            [*others, last] = sshd.sessions()
            assert len(others) <= 1
            sshd.stop()
            assert session.wait(20) == 255
        support.wait_until(lambda: not support.is_alive(last))
        assert sshd.sessions() == []


@contextlib.contextmanager
def changed(file, text):
    """Give a file another content for a while."""
    before = file.read_text()
    file.write_text(text)
    try:
        yield
    finally:
        file.write_text(before)


@contextlib.contextmanager
def taken_port():
    """A port on which somebody listens who never answers."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        with socket.create_connection(sock.getsockname()):  # the backlog is full
            yield sock.getsockname()[1]


@contextlib.contextmanager
def answering(data):
    """A port on which somebody says something and hangs up."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(10)

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = sock.accept()
                    with peer:
                        peer.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            sock.shutdown(socket.SHUT_RDWR)
            thread.join()
