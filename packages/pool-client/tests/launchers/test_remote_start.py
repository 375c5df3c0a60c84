"""The program that is sent to a host: run by a Python with and without a worker."""

import json
import linecache
import os
import subprocess
import sys
import tempfile
import traceback

import pytest
from hosts.bare import bare_python
from hosts.fake_pythons import program

from pool_client.launchers import bootstrap
from pool_client.launchers.remote_start import PLACE, Sources
from pool_protocol import PROTOCOL_VERSION

#: A worker that says where it comes from, what it is given, and what is in its way.
WORKER = {
    "pool_worker/__init__.py": "",
    "pool_worker/cli.py": (
        "import os, sys\n"
        "def main(argv):\n"
        "    print(__file__, argv, os.read(0, 99), flush=True)\n"
        "    import pool_worker.sub.leaf\n"
        "    return 7\n"
    ),
    "pool_worker/sub/__init__.py": "",
    "pool_worker/sub/leaf.py": "print(__package__, flush=True)\n",
    "pool_protocol/__init__.py": f"PROTOCOL_VERSION = {PROTOCOL_VERSION}\n",
    "cloudpickle/__init__.py": "",
}


@pytest.fixture(scope="session")
def bare(tmp_path_factory):
    """A Python without anything of ours."""
    return bare_python(tmp_path_factory.mktemp("bare"))


def start(
    python,
    exact=False,
    path="/usr/bin:/bin",
    home="/nonexistent",
    given=b"",
    own=False,
    **environment,
):
    """Run the program as the host does; returns what it told and how it ended.

    ``own``: it becomes a program that is installed there.
    """
    with tempfile.NamedTemporaryFile(delete=False) as socket:
        line = bootstrap.program_line("MARK", exact, socket.name)
    code = "import json, sys; exec(json.loads(sys.stdin.buffer.raw.readline()), dict(__name__='x'))"
    done = subprocess.run(
        [python, "-P", "-c", code, "pool-worker"],
        input=line + given,
        capture_output=True,
        env={"PATH": str(path), "HOME": str(home), **environment},
        timeout=30,
    )
    if os.path.exists(socket.name):
        os.unlink(socket.name)
        assert own, "the tunnel's end is removed, unless that is left to a program of its own"
    first, mark, rest = done.stdout.partition(b"\nMARK ready ")
    assert (first, mark) == (b"", b"\nMARK ready "), done
    told, _, more = rest.partition(b"\n")
    assert more == b"", "nothing but the answer goes to standard output"
    before, mark, said = done.stderr.decode().partition("MARK\n")
    assert (before, mark) == ("", "MARK\n"), "where our program begins to speak"
    return json.loads(told), done.returncode, said


def packed(texts):
    data = bootstrap.zlib.compress(json.dumps(texts).encode())
    return b"%d\n%s" % (len(data), data)


class TestAHostWithoutAWorker:
    def test_it_asks_for_the_sources_and_runs_them_from_memory(self, bare, tmp_path):
        before = set(os.listdir(tmp_path))
        told, status, said = start(bare, given=packed(WORKER) + b"settings\n", TMPDIR=str(tmp_path))
        assert told["installed"] is False
        assert told["python"] == sys.version.split()[0]
        assert told["executable"] == str(bare)
        assert said.splitlines() == [
            f"{PLACE}pool_worker/cli.py ['--launch'] b'settings\\n'",
            "pool_worker.sub",
        ]
        assert status == 7
        assert set(os.listdir(tmp_path)) == before

    def test_the_real_worker_comes_as_far_as_its_settings(self, bare):
        _, status, said = start(bare, given=bootstrap.bundle() + b"{}\n")
        assert status == 2
        assert "unusable settings" in said

    def test_tracebacks_show_its_lines(self, bare):
        worker = (
            "import traceback\n"
            "def main(argv):\n"
            "    try:\n"
            "        return 1 / 0  # here\n"
            "    except ZeroDivisionError: traceback.print_exc()\n"
        )
        texts = WORKER | {"pool_worker/cli.py": worker}
        _, _, said = start(bare, given=packed(texts))
        assert f'File "{PLACE}pool_worker/cli.py", line 4, in main' in said
        assert "return 1 / 0  # here" in said

    def test_a_client_that_goes_away_ends_it(self, bare):
        _, status, said = start(bare, given=b"100\nabc")
        assert status == 1
        assert "the client has gone" in said

    def test_packages_of_the_host_stay_usable(self, bare, tmp_path):
        (tmp_path / "theirs.py").write_text("VALUE = 5")
        texts = WORKER | {"pool_worker/cli.py": "import theirs\ndef main(a): return theirs.VALUE"}
        assert start(bare, given=packed(texts), PYTHONPATH=str(tmp_path))[1] == 5


class TestAHostWithAWorker:
    def test_an_installed_one_is_used(self):
        told, status, said = start(sys.executable, given=b"{}\n")
        assert told["installed"] is True
        assert status == 2
        assert "unusable settings" in said

    @pytest.mark.parametrize(
        "broken",
        [
            {"pool_protocol/__init__.py": "PROTOCOL_VERSION = 0"},
            {"pool_worker/cli.py": "raise RuntimeError('broken')"},
        ],
        ids=["of another protocol", "broken"],
    )
    def test_one_that_will_not_do_gives_way_to_what_is_sent(self, bare, tmp_path, broken):
        for name, text in (WORKER | broken).items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        told, _, said = start(bare, given=packed(WORKER) + b"x\n", PYTHONPATH=str(tmp_path))
        assert told["installed"] is False
        assert said.startswith(PLACE)

    def test_one_without_cloudpickle_is_none(self, bare, tmp_path):
        for name, text in WORKER.items():
            if not name.startswith("cloudpickle"):
                file = tmp_path / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
        told, _, said = start(bare, given=packed(WORKER) + b"x\n", PYTHONPATH=str(tmp_path))
        assert told["installed"] is False
        assert said.startswith(PLACE)


class TestAProgramOfItsOwn:
    """pool-worker was installed in an environment of its own: pipx, uv tool."""

    def fake(self, path, protocol=PROTOCOL_VERSION):
        says = f"echo pool-protocol 9.9; echo protocol {protocol}"
        return program(path, f'if [ "$1" = --launch ]; then read x; echo "got $x"; else {says}; fi')

    def test_it_is_found_on_the_path(self, bare, tmp_path):
        self.fake(tmp_path / "pool-worker")
        told, _, said = start(bare, path=f"{tmp_path}:/usr/bin:/bin", given=b"settings\n", own=True)
        assert told["installed"] is True
        assert said == "got settings\n"

    def test_it_is_found_where_pipx_puts_it(self, bare, tmp_path):
        self.fake(tmp_path / ".local" / "bin" / "pool-worker")
        told, _, said = start(bare, home=tmp_path, given=b"settings\n", own=True)
        assert told["installed"] is True
        assert said == "got settings\n"

    def test_it_takes_nothing_of_what_is_sent(self, bare, tmp_path):
        says = f"cat >/dev/null; echo protocol {PROTOCOL_VERSION}"
        launch = 'read x; echo "got $x"'
        program(tmp_path / "pool-worker", f'if [ "$1" = --launch ]; then {launch}; else {says}; fi')
        _, _, said = start(bare, path=f"{tmp_path}:/usr/bin:/bin", given=b"settings\n", own=True)
        assert said == "got settings\n"

    @pytest.mark.parametrize("protocol", [PROTOCOL_VERSION + 1, 10 * PROTOCOL_VERSION, 9.9])
    def test_one_of_another_protocol_is_left_alone(self, bare, tmp_path, protocol):
        self.fake(tmp_path / "pool-worker", protocol)
        path = f"{tmp_path}:/usr/bin:/bin"
        told, _, _ = start(bare, path=path, given=packed(WORKER) + b"x\n")
        assert told["installed"] is False

    def test_the_real_one_says_what_we_look_for(self, bare):
        path = os.path.dirname(sys.executable)
        told, status, said = start(bare, path=f"{path}:/usr/bin:/bin", given=b"{}\n", own=True)
        assert told["installed"] is True
        assert status == 2
        assert "unusable settings" in said

    def test_it_is_left_alone_when_the_interpreter_was_chosen(self, bare, tmp_path):
        self.fake(tmp_path / "pool-worker")
        path = f"{tmp_path}:/usr/bin:/bin"
        told, _, said = start(bare, exact=True, path=path, given=packed(WORKER) + b"x\n")
        assert told["installed"] is False
        assert said.startswith(PLACE)

    def test_one_that_cannot_be_run_is_none(self, bare, tmp_path):
        program(tmp_path / "pool-worker", "exit 1")
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "pool-worker").write_bytes(b"\x7fELF nonsense")
        (tmp_path / "other" / "pool-worker").chmod(0o755)
        path = f"{tmp_path}:{tmp_path / 'other'}:/usr/bin:/bin"
        told, _, _ = start(bare, path=path, given=packed(WORKER) + b"x\n")
        assert told["installed"] is False


class TestWhereWorkersAreFreshProcesses:
    """Not on Linux: what is sent must be files then, for a while."""

    SCRIPT = """
import sys
from pool_client.launchers import remote_start
texts = {
    "pool_worker/__init__.py": "",
    "pool_worker/leaf.py": "print(__file__)",
    "pool_worker/cli.py": (
        "import subprocess, sys\\n"
        "def main(argv):\\n"
        "    done = subprocess.run([sys.executable, '-P', '-m', 'pool_worker.leaf'],"
        " capture_output=True, text=True)\\n"
        "    print(argv, done.stdout, done.stderr)\\n"
        "    return 3\\n"
    ),
}
remote_start.run_sent(texts, forks=False)
"""

    def test_they_find_it_and_it_is_removed_at_the_end(self, tmp_path):
        done = subprocess.run(
            [sys.executable, "-c", self.SCRIPT],
            capture_output=True,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": "/elsewhere"},
            timeout=30,
        )
        assert done.returncode == 3, done.stderr
        assert f"{tmp_path}/pool-worker-" in done.stdout
        assert "pool_worker/leaf.py" in done.stdout
        assert list(tmp_path.iterdir()) == []


class TestSources:
    @pytest.fixture
    def finder(self):
        texts = {
            "made_up/__init__.py": "from made_up.inner import fail\n",
            "made_up/inner.py": "def fail():\n    raise KeyError('x')  # the line\n",
        }
        finder = Sources(texts)
        sys.meta_path.insert(0, finder)
        yield finder
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.partition(".")[0] == "made_up"]:
            del sys.modules[name]
        linecache.clearcache()

    def test_modules_know_their_package_and_file(self, finder):
        import made_up.inner

        assert made_up.__path__ == []
        assert made_up.__file__ == PLACE + "made_up/__init__.py"
        assert made_up.inner.__package__ == "made_up"
        assert os.path.isabs(made_up.inner.__file__)
        assert not made_up.__spec__.loader_state

    def test_a_traceback_shows_the_line(self, finder):
        import made_up

        with pytest.raises(KeyError) as caught:
            made_up.fail()
        assert "# the line" in "".join(traceback.format_exception(caught.value))

    def test_other_modules_are_left_to_others(self, finder):
        assert finder.find_spec("json") is None
        assert finder.find_spec("made_up.other") is None

    def test_what_it_offers_to_inspect_and_runpy(self, finder):
        assert finder.is_package("made_up")
        assert not finder.is_package("made_up.inner")
        assert finder.get_source("made_up.inner").startswith("def fail")
        assert finder.get_code("made_up.inner").co_filename == PLACE + "made_up/inner.py"
