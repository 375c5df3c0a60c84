"""What is run on a host and sent to it: through every login shell, with every kind of Python."""

import json
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hosts.bare import bare_python
from hosts.fake_pythons import old_python, other_python, program, tools

from pool_client.errors import HostError
from pool_client.launchers import bootstrap
from pool_protocol import PROTOCOL_VERSION

#: In place of the program that is sent: says where it runs.
SAY = json.dumps("import sys; print(sys.executable, sys.flags.safe_path, __name__)").encode()


def run(folders, home, shell="sh", python="", text=SAY):
    """Run the command as a login shell would; what it prints."""
    done = subprocess.run(
        [shutil.which(shell), "-c", bootstrap.shell_command("MARK", python, f"{home}/socket")],
        input=text + b"\n",
        capture_output=True,
        env={"PATH": os.pathsep.join(map(str, folders)), "HOME": str(home)},
        timeout=30,
    )
    assert done.stderr == b""
    return done.returncode, done.stdout.decode()


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def path(tmp_path):
    """A PATH without any Python."""
    return tools(tmp_path / "bin")


def here(file):
    """Link this Python."""
    return program(file, f'exec {sys.executable} "$@"')


@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "zsh", "fish", "tcsh"])
def test_every_login_shell_hands_it_on(shell, home, path):
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here: apt-get install {shell}")
    here(path / "python3")
    status, said = run([path], home, shell)
    assert (status, said) == (0, f"{sys.executable} True pool-worker\n")


def test_an_interpreter_in_the_home_folder_can_be_named(home, path):
    here(home / "env" / "python")
    assert run([path], home, python="~/env/python")[0] == 0


@pytest.mark.parametrize("python", ["it's", "a\\b", "a!b", "a b", "a\nb"])
def test_what_no_quoting_brings_through_every_shell_is_refused(python):
    with pytest.raises(ValueError, match="python="):
        bootstrap.shell_command("MARK", python, "/tmp/socket")


def test_a_path_is_no_command(home, path):
    status, said = run([path], home, python="$(touch${IFS}x);`id`")
    assert status == 69
    assert said == "\nMARK none \n"


class TestTheSearch:
    def test_a_host_without_python_says_so(self, home, path):
        (home / "socket").touch()
        assert run([path], home) == (69, "\nMARK none \n")
        assert not (home / "socket").exists(), "the tunnel's end is removed"

    def test_all_that_were_too_old_are_named_once_each(self, home, path):
        old = old_python(path / "python3", "3.9.2")
        older = old_python(path / "python", "2.7.18")
        status, said = run([path], home)
        assert status == 69
        assert said == f"\nMARK none python3 is 3.9.2 ({old}); python is 2.7.18 ({older})\n"

    def test_one_that_does_not_run_is_named(self, home, path):
        broken = program(path / "python3", "exit 127")
        assert run([path], home)[1] == f"\nMARK none python3 does not run ({broken})\n"

    def test_the_next_is_taken_when_the_first_is_too_old(self, home, path):
        old_python(path / "python3", "3.9.2")
        here(path / "python3.11")
        assert run([path], home)[0] == 0

    def test_usual_places_outside_the_path(self, home, path):
        here(home / ".local" / "bin" / "python3.12")
        assert run([path], home)[0] == 0

    def test_the_python_of_an_installed_pool_worker(self, home, path):
        python = here(home / "tool" / "python")
        program(path / "pool-worker", f'echo "pool-worker 0.1.0"; echo "Python 3.12.0 ({python})"')
        assert run([path], home)[0] == 0

    def test_the_python_of_a_pool_worker_that_is_not_on_the_path(self, home, path):
        python = here(home / "tool" / "python")
        worker = home / ".local" / "bin" / "pool-worker"
        program(worker, f'echo "Python 3.12.0 ({python})"')
        assert run([path], home)[0] == 0

    def test_the_clients_own_minor_version_is_preferred(self, home, path):
        """Elsewhere functions that are sent by value would not run."""
        python = program(path / "python3", "echo 3.99.1; exit 2")
        here(path / "python3.11")
        assert run([path], home)[1].split()[0] == sys.executable
        # … but another one is better than none.
        (path / "python3.11").unlink()
        other_python(python, "3.99.1")
        assert run([path], home)[0] == 0

    def test_a_real_python_of_another_minor_version_is_taken_at_once_only_with_a_worker(
        self, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(bootstrap.sys, "version_info", (3, 99))
        source = Path(bootstrap.__file__).read_text()
        probe: dict = {}
        exec(compile(source, bootstrap.__file__, "exec"), probe)
        words = ["-c", probe["_PROBE"], "pool_worker"]
        assert subprocess.run([sys.executable, *words], timeout=20).returncode == 0
        bare = bare_python(tmp_path / "bare")
        assert subprocess.run([bare, *words], timeout=20).returncode == 2

    def test_the_named_one_is_taken_and_no_other(self, home, path):
        here(path / "python3")
        old = old_python(home / "old", "3.8.1")
        status, said = run([path], home, python=str(old))
        assert (status, said) == (69, f"\nMARK none old is 3.8.1 ({old})\n")
        assert run([path], home, python="/no/such/python") == (69, "\nMARK none \n")

    def test_what_lies_in_the_home_folder_shadows_nothing(self, home, path, monkeypatch):
        monkeypatch.chdir(home)
        for name in ("types", "json", "random", "importlib"):
            (home / f"{name}.py").write_text("raise SystemExit('shadowed')")
        here(path / "python3")
        assert run([path], home)[0] == 0


class TestTheProgram:
    def test_it_is_one_line_that_a_python_runs(self):
        line = bootstrap.program_line("MARK", False, "/tmp/socket", ["/tmp/a", "/tmp/b"])
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        source = json.loads(line)
        compile(source, "program", "exec")
        assert source.endswith(
            f"main('MARK', {PROTOCOL_VERSION}, False, '/tmp/socket', ['/tmp/a', '/tmp/b'])\n"
        )

    def test_it_says_nothing_but_the_standard_library(self):
        source = json.loads(bootstrap.program_line("MARK", False, "/tmp/socket"))
        assert "import pool" not in source
        assert "from pool" not in source


class TestTheBundle:
    def texts(self):
        length, _, packed = bootstrap.bundle().partition(b"\n")
        assert int(length) == len(packed)
        return json.loads(zlib.decompress(packed))

    def test_it_holds_every_source_of_the_worker(self):
        texts = self.texts()
        for name in ("pool_worker/cli.py", "pool_protocol/__init__.py", "cloudpickle/__init__.py"):
            assert name in texts
        assert {name.split("/")[0] for name in texts} == set(bootstrap.PACKAGES)
        for name, text in texts.items():
            compile(text, name, "exec")

    def test_it_is_small(self):
        assert 20_000 < len(bootstrap.bundle()) < 200_000

    def test_the_client_finds_it_without_importing_the_worker(self):
        script = (
            "import sys; from pool_client.launchers.bootstrap import bundle; bundle(); "
            "sys.exit('pool_worker' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", script], timeout=30).returncode == 0

    def test_sources_that_are_not_there_as_files_are_named(self, monkeypatch):
        bootstrap.bundle.cache_clear()
        monkeypatch.setattr(bootstrap, "find_spec", lambda name: None)
        with pytest.raises(HostError, match="sources of pool_worker"):
            bootstrap.bundle()
