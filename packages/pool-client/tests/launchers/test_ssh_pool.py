"""Pools with workers on ssh hosts: a real sshd, a real tunnel, on loopback."""

import asyncio
import collections
import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
import support
from hosts import fake_ssh
from hosts.fake_pythons import program
from hosts.slow_line import SlowLine
from hosts.ssh_seen import ssh_processes, tunnel

from launchers.ssh_tasks import fail_in_the_worker, hold, nap, note, numbered, sources, where
from pool_client import Pool
from pool_client.launchers.ssh import SshLauncher


@contextlib.contextmanager
def ssh_pool(sshd, hosts, local=0, **options):
    """A pool with the functions of these tests within its workers' reach; it leaves no socket."""
    given = {"ssh_command": sshd.command, **options}
    with support.running_pool(local, hosts, **given) as pool:
        tunnels = [tunnel(pid) for pid in ssh_processes()]
        assert all(path.is_socket() for path in tunnels)
        yield pool
    assert tunnels
    for path in tunnels:
        support.wait_until(lambda path=path: not path.exists(), what="the socket is removed")


class TestHosts:
    def test_with_pool_worker_installed(self, sshd):
        with ssh_pool(sshd, sshd.host(2)) as pool:
            assert pool.total_workers() == 2
            assert pool.run(abs, -3) == 3
            assert len(ssh_processes()) == 1
            pids = set(pool.run_on_all(os.getpid))
            assert len(pids) == 2

    def test_with_nothing_but_python(self, bare_sshd, tmp_path):
        files = set(os.listdir(bare_sshd.home))
        with ssh_pool(bare_sshd, bare_sshd.host(2)) as pool:
            file, python = pool.run(sources)
            assert file.startswith("/<pool-client>/")
            assert python != sys.executable
            assert sorted(pool.map(lambda x: x * x, range(100))) == [x * x for x in range(100)]
        assert set(os.listdir(bare_sshd.home)) == files

    def test_with_a_python_that_was_chosen(self, sshd, bare_sshd):
        """Though pool-worker is installed in the Python that commands find there."""
        python = bare_sshd._environment["PATH"].split(":")[0] + "/python3"
        with ssh_pool(sshd, sshd.host(1, f"python={python}")) as pool:
            assert pool.run(sources) == ("/<pool-client>/pool_worker/__init__.py", python)

    def test_errors_of_the_worker_that_was_sent_show_its_lines(self, bare_sshd):
        with ssh_pool(bare_sshd, bare_sshd.host(1)) as pool:
            with pytest.raises(Exception, match="unusable") as caught:
                pool.run(fail_in_the_worker)
            text = "".join(traceback.format_exception(caught.value))
            assert "/<pool-client>/pool_worker/settings.py" in text
            assert "raise SettingsError" in text

    def test_asynchronous_tasks_and_an_asynchronous_pool(self, bare_sshd):
        async def body():
            async with Pool(0, bare_sshd.host(2), ssh_command=bare_sshd.command) as pool:
                return await pool.run_async(nap, 0.01), [x async for x in pool.map_async(abs, [-1])]

        assert asyncio.run(body()) == (0.01, [1])

    def test_as_many_workers_as_the_host_has_processors(self, sshd):
        with ssh_pool(sshd, sshd.host("auto")) as pool:
            assert pool.total_workers() == len(os.sched_getaffinity(0))
            assert len(set(pool.run_on_all(os.getpid))) == pool.total_workers()

    def test_the_command_may_be_a_string(self, sshd):
        with ssh_pool(sshd, sshd.host(1), ssh_command=shlex.join(sshd.command)) as pool:
            assert pool.run(abs, -3) == 3

    def test_hosts_start_side_by_side(self, make_sshd, tmp_path):
        """Each waits for the others at its start, so that one after the other would never end."""
        hosts = [make_sshd(), make_sshd(), make_sshd()]
        wait = (
            f"touch {tmp_path}/$1; until [ $(ls {tmp_path}/up-* | wc -l) = 3 ]; do sleep 0.01; done"
        )
        configs = []
        for number, sshd in enumerate(hosts):
            script = program(tmp_path / f"wait{number}", wait)
            line = f'command="{script} up-{number}; eval \\"$SSH_ORIGINAL_COMMAND\\"" '
            sshd.authorized_keys.write_text(line + sshd.authorized_keys.read_text())
            configs.append(f"Include {sshd.config}")
        merged = merge(hosts, tmp_path)
        with support.running_pool(
            0, [sshd.host(1) for sshd in hosts], ssh_command=["ssh", "-F", str(merged)]
        ) as pool:
            assert pool.total_workers() == 3
            assert len(ssh_processes()) == 3


class TestShells:
    @pytest.mark.parametrize(
        ("shell", "file"),
        [
            ("bash", ".bashrc"),
            ("zsh", ".zshenv"),
            ("fish", ".config/fish/config.fish"),
            ("tcsh", ".tcshrc"),
        ],
    )
    def test_a_login_shell_that_talks(self, make_sshd, shell, file):
        if shutil.which(shell) is None:
            pytest.skip(f"there is no {shell} here: apt-get install {shell}")
        rc = "-i" if shell == "bash" else ""  # not every bash reads it for sshd
        sshd = make_sshd(f'ForceCommand exec {shell} {rc} -c "$SSH_ORIGINAL_COMMAND"')
        (sshd.home / file).parent.mkdir(parents=True, exist_ok=True)
        (sshd.home / file).write_text("echo Welcome\necho -n 'to 50% off {} ready'\n")
        with ssh_pool(sshd, sshd.host(1)) as pool:
            assert pool.run(abs, -3) == 3

    def test_what_the_shell_complains_about_is_not_repeated_at_the_end(self, make_sshd, capfd):
        sshd = make_sshd('ForceCommand echo "stty: not a tty" >&2; eval "$SSH_ORIGINAL_COMMAND"')
        with ssh_pool(sshd, sshd.host(1)) as pool:
            assert pool.run(abs, -3) == 3
        assert "not a tty" not in capfd.readouterr().err


class TestConfigurations:
    def test_nothing_in_the_users_configuration_breaks_it(self, make_sshd):
        sshd = make_sshd()
        sshd.write_config(
            "ForwardAgent yes",
            "ForwardX11 yes",
            "RequestTTY force",
            "RemoteCommand uptime",
            "ForkAfterAuthentication yes",
            "SessionType none",
            "StdinNull yes",
            "PermitLocalCommand yes",
            f"LocalCommand touch {sshd.folder}/local",
            "Tunnel yes",
            "SendEnv LANG LC_*",
            "SetEnv FOO=bar",
            "LogLevel QUIET",
            "ControlMaster auto",
            f"ControlPath {sshd.folder}/control",
            "ControlPersist yes",
            "Compression yes",
            "VisualHostKey yes",
            "BatchMode no",
            "ServerAliveInterval 0",
            "ExitOnForwardFailure no",
        )
        with ssh_pool(sshd, sshd.host(1)) as pool:
            assert pool.run(abs, -3) == 3
        assert not (sshd.folder / "control").exists()
        assert not (sshd.folder / "local").exists()

    @pytest.mark.parametrize("kind", ["LocalForward", "RemoteForward", "DynamicForward"])
    def test_a_forwarding_of_the_users_that_is_in_use_already(self, make_sshd, kind):
        """By a shell of the user's on the same host: the usual case."""
        sshd = make_sshd()
        target = "" if kind == "DynamicForward" else "127.0.0.1:9"
        with SlowLine(9, 0) as somebody:
            sshd.write_config(f"{kind} 127.0.0.1:{somebody.port} {target}")
            with ssh_pool(sshd, sshd.host(1)) as pool:
                assert pool.run(abs, -3) == 3

    def test_a_talkative_ssh_blocks_nothing(self, sshd, capfd):
        """It writes more than a pipe holds, and everything that is forwarded passes through it."""
        command = [sshd.command[0], "-vvv", *sshd.command[1:]]
        with ssh_pool(sshd, sshd.host(2), ssh_command=command) as pool:
            futures = [pool.submit(abs, -number) for number in range(2000)]
            assert [future.result(30) for future in futures] == list(range(2000))

    def test_through_a_jump_host(self, make_sshd):
        sshd = make_sshd()
        jump = shlex.join([*sshd.command, "-p", str(sshd.port), "-W", f"127.0.0.1:{sshd.port}"])
        sshd.write_config(
            "Host behind",
            f"HostKeyAlias [127.0.0.1]:{sshd.port}",
            f"ProxyCommand {jump.replace(str(sshd.config), str(sshd.folder / 'jump'))} 127.0.0.1",
            "Host *",
        )
        shutil.copy(sshd.config, sshd.folder / "jump")
        with ssh_pool(sshd, "ssh://behind/1") as pool:
            assert pool.run(abs, -3) == 3


class TestTasks:
    def test_a_hundred_thousand_over_ssh_and_local_each_once(self, sshd):
        with ssh_pool(sshd, sshd.host(2), local=2) as pool:
            assert pool.total_workers() == 4
            mapped = list(pool.map(numbered, range(100_000), chunksize=100))
            assert [number for number, _ in mapped] == list(range(100_000))
            assert len({pid for _, pid in mapped}) == 4
            futures = [pool.submit(numbered, number) for number in range(20_000)]
            assert [future.result()[0] for future in futures] == list(range(20_000))

    def test_each_runs_once(self, sshd, tmp_path):
        log = tmp_path / "log"
        log.touch()
        with ssh_pool(sshd, sshd.host(2), local=1) as pool:
            for future in [pool.submit(note, str(log), number) for number in range(3000)]:
                future.result(30)
        counts = collections.Counter(log.read_text().split())
        assert counts == {str(number): 1 for number in range(3000)}

    def test_large_arguments_and_results(self, sshd):
        with ssh_pool(sshd, sshd.host(2)) as pool:
            data = os.urandom(1 << 20) * 20
            for result in pool.map(bytes.swapcase, [data] * 3):
                assert result == data.swapcase()

    @pytest.mark.parametrize("kind", ["ssh", "stand-in"])
    def test_a_slow_line_is_slower_and_correct(self, make_sshd, kind):
        """Row 16: 20 ms each way."""
        with contextlib.ExitStack() as stack:
            if kind == "ssh":
                sshd = make_sshd()
                line = stack.enter_context(SlowLine(sshd.port, 0.02))
                sshd.write_config(f"HostKeyAlias [127.0.0.1]:{sshd.port}")
                host, command = f"ssh://127.0.0.1:{line.port}/2", sshd.command
            else:
                host, command = "ssh://anywhere/2", fake_ssh.command(0.02)
            pool = stack.enter_context(support.running_pool(0, host, ssh_command=command))
            futures = [pool.submit(numbered, number) for number in range(5000)]
            assert [future.result(30)[0] for future in futures] == list(range(5000))
            assert list(pool.map(abs, range(-100_000, 0))) == list(range(100_000, 0, -1))

    def test_no_short_task_waits_behind_a_long_one_while_a_worker_idles(self, tmp_path):
        """On a slow line, where hundreds are in a worker's hands. The long one ends only after."""
        release = tmp_path / "release"
        command = fake_ssh.command(0.02)
        with support.running_pool(0, "ssh://anywhere/2", ssh_command=command) as pool:
            for future in [pool.submit(abs, number) for number in range(5000)]:
                future.result(30)
            long = pool.submit(hold, str(tmp_path / "started"), str(release))
            short = [pool.submit(abs, -number) for number in range(5000)]
            assert [future.result(30) for future in short] == list(range(5000))
            assert not long.done()
            release.touch()
            long.result(30)

    def test_nor_behind_one_of_the_same_function(self, tmp_path):
        """The estimate says that it is short, so many are sent with it."""
        release = tmp_path / "release"
        release.touch()
        command = fake_ssh.command(0.02)
        with support.running_pool(0, "ssh://anywhere/2", ssh_command=command) as pool:
            started, never = str(tmp_path / "started"), str(tmp_path / "never")
            for future in [pool.submit(hold, os.devnull, str(release)) for _ in range(2000)]:
                future.result(30)
            futures = [pool.submit(hold, os.devnull, str(release)) for _ in range(50)]
            long = pool.submit(hold, started, never)
            futures += [pool.submit(hold, os.devnull, str(release)) for _ in range(2000)]
            for future in futures:
                future.result(30)
            assert not long.done()
            Path(never).touch()
            long.result(30)


class TestSecrets:
    """Row 55."""

    def test_no_token_in_the_process_list_the_environment_logs_or_reprs(
        self, sshd, bare_sshd, monkeypatch, caplog
    ):
        caplog.set_level(0)
        tokens = []
        launch = SshLauncher.launch

        async def spy(self, spec, order):
            tokens.append(order.settings["token"])
            assert tokens[-1] not in repr(order)
            return await launch(self, spec, order)

        monkeypatch.setattr(SshLauncher, "launch", spy)
        for server in (sshd, bare_sshd):
            with ssh_pool(server, server.host(2)) as pool:
                pids = {pid for pair in pool.run_on_all(where) for pid in pair}
                assert len(pids) == 3
                pids |= set(ssh_processes())
                seen = [read_proc(pid) for pid in pids] + [server.log.read_text()]
                seen += [repr(pool), repr(pool.workers()), caplog.text]
            assert len(tokens) >= 1
            for text in seen:
                assert text
                assert not any(token in text for token in tokens)


def read_proc(pid):
    """What anybody may see of a process with ps, and its owner with more."""
    texts = [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
    done = subprocess.run(["ps", "-ww", "-o", "args=", str(pid)], capture_output=True, text=True)
    return done.stdout + b"\n".join(texts).decode(errors="replace")


def merge(hosts, folder):
    """One configuration for all hosts: they differ in their port alone."""
    merged = folder / "merged"
    known = folder / "known_hosts"
    known.write_text("".join(sshd.known_hosts.read_text() for sshd in hosts))
    keys = "\n".join(f"IdentityFile {sshd.folder / 'user_key'}" for sshd in hosts)
    merged.write_text(
        f"{keys}\nIdentitiesOnly yes\nIdentityAgent none\nUserKnownHostsFile {known}\n"
        "GlobalKnownHostsFile none\nStrictHostKeyChecking yes\n"
    )
    return merged
