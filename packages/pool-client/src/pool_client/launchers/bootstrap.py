"""What is run on an ssh host, and what is sent to it: a shell command, a program, the worker.

1. The login shell, whichever it is, runs ``sh``, which looks for a Python.
2. That Python reads a program (`remote_start`) from standard input, one line, and says what it is
   and whether a worker is installed.
3. Where none is, it is sent the worker's sources and runs them from memory.

The shell's output may hold anything: what is said to us stands on a line behind a mark.
"""

import json
import re
import sys
import zlib
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from pool_client.errors import HostError
from pool_client.launchers import remote_start
from pool_protocol import PROTOCOL_VERSION

#: What the worker consists of, all of it pure Python.
PACKAGES = ("pool_worker", "pool_protocol", "cloudpickle")
#: The oldest Python that runs it.
OLDEST = (3, 11)

#: Where Python is looked for, in this order: names on the PATH, then the places where it is when a
#: shell that nobody types into does not have it there.
_NAMES = "python3 python3.14 python3.13 python3.12 python3.11 python"
_PLACES = (
    "~/.local/bin/python3 ~/.local/bin/python3.1[1-9] /usr/local/bin/python3 "
    "/usr/local/bin/python3.1[1-9] /opt/python/bin/python3 /opt/homebrew/bin/python3 "
    "/opt/conda/bin/python3 ~/miniconda3/bin/python3 ~/miniforge3/bin/python3 "
    "~/.pyenv/shims/python3 /opt/*/bin/python3"
)
#: Last, the Python of an installed pool-worker, which says its path.
_PROGRAMS = "pool-worker ~/.local/bin/pool-worker"
#: Says a Python's version. Status 0: take it; 2: take it if there is no better one; else: too old.
#: The better one has a worker, or is the client's own minor version, so that it runs functions that
#: are sent by value too.
_PROBE = (
    "import sys; sys.path.pop(0); print(sys.version.split()[0]); v = sys.version_info; "
    f"v < {OLDEST} and sys.exit(1); import importlib.util as u; "
    f"sys.exit(2 * bool(v[1] - {sys.version_info[1]} and u.find_spec(sys.argv[1]) is None))"
)
_START = (
    "import json, sys; "
    "exec(json.loads(sys.stdin.buffer.raw.readline()), dict(__name__=sys.argv[1]))"
)
#: For ``sh -c``. It must be one line without ' and !: so every login shell hands it on as it is,
#: csh and fish too.
_FIND = (
    'mark=$1; want=$2; socket=$3; case $want in "~/"*) want=$HOME/${want#??};; esac; '
    f'if [ -n "$want" ]; then set -- "$want"; else set -- {_NAMES} {_PLACES} {_PROGRAMS}; fi; '
    "best=; found=; for p do case $p in *pool-worker) "
    'p=$("$p" </dev/null 2>/dev/null | sed -n "s/^Python .*(\\(.*\\))$/\\1/p");; esac; '
    'w=$(command -v "$p" 2>/dev/null) || continue; '
    f'v=$("$p" -c "{_PROBE}" pool_worker </dev/null 2>/dev/null); '
    "case $? in 0) best=$p; break;; 2) best=${best:-$p}; continue;; esac; "
    'case $found in *"($w)"*) ;; *) '
    'found="$found${found:+; }${p##*/} ${v:+is }${v:-does not run} ($w)";; esac; done; '
    f'[ -n "$best" ] && exec "$best" -P -c "{_START}" pool-worker; '
    'rm -f "$socket"; echo; echo "$mark none $found"; exit 69'
)
_UNQUOTABLE = re.compile(r"['\\!\s]")


def shell_command(mark: str, python: str, socket: str) -> str:
    """What the login shell is to run.

    Args:
        mark: What begins each line that is meant for us; letters and digits.
        python: Path of the interpreter to use; empty to look for one.
        socket: Path of the tunnel's socket there, which is removed at the end.

    Raises:
        ValueError: The path holds what no quoting brings through every shell.
    """
    if _UNQUOTABLE.search(python):
        raise ValueError(f"python={python}: quotes, backslashes, '!' and spaces are refused")
    return f"exec sh -c '{_FIND}' pool-worker {mark} '{python}' {socket}"


def program_line(mark: str, exact: bool, socket: str, left: Sequence[str] = ()) -> bytes:
    """The program for the Python that was found, one line.

    Args:
        mark: As for `shell_command`.
        exact: The interpreter was chosen, so that a worker elsewhere is none.
        socket: As for `shell_command`.
        left: The same of starts before this one, which may not have removed theirs.
    """
    source = Path(remote_start.__file__).read_text(encoding="utf-8")
    call = f"main({mark!r}, {PROTOCOL_VERSION}, {exact!r}, {socket!r}, {list(left)!r})\n"
    return json.dumps(f"{source}\n{call}").encode() + b"\n"


@lru_cache(1)
def bundle() -> bytes:
    """The worker's sources, packed, with their length in front: what `remote_start` receives.

    Raises HostError when they are not there as files.
    """
    sources: dict[str, str] = {}
    for package in PACKAGES:
        found = find_spec(package)
        folders = found.submodule_search_locations if found is not None else None
        for folder in map(Path, folders or ()):
            for file in sorted(folder.rglob("*.py")):
                name = f"{package}/{file.relative_to(folder).as_posix()}"
                sources[name] = file.read_text(encoding="utf-8")
        if f"{package}/__init__.py" not in sources:
            raise HostError(
                "local",
                f"the sources of {package}, to be sent to a host without pool-worker, are not "
                "here as files: install pool-worker on that host, or here from a wheel",
            )
    packed = zlib.compress(json.dumps(sources).encode(), 6)
    return b"%d\n%s" % (len(packed), packed)
