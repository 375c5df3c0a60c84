"""Each example runs to its end, and says what it is there to say."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
EXPECTED = {
    "asynchronous.py": ["one: 2432902008176640000", "many: [0, 1, 2, 3, 4]", "asynchronous: 42",
                        "mapped: [1, 2, 3, 4]", "too slow: cancelled"],
    "demo.py": ["2 workers ready", "factor numbers", "compress sources", "faster", "equal"],
    "drop_in.py": ["cherry: ", "4 done, 0 pending", "{'apple': ", "fig: "],
    "events.py": ["files, ", "bytes each on average"],
    "every_worker.py": ["words with an a: 2", "on every worker: [3, 3]", "processes: 2"],
    "limits.py": ["hang: ", "crash: ", "SIGKILL", "good: True", "afterwards: 1024"],
    "stream.py": ["27 (odd) takes 111 steps", "takes 170 steps"],
}  # fmt: skip
OPTIONS = {"demo.py": ["--quick", "--workers", "2"]}


def run(name: str) -> "subprocess.CompletedProcess[str]":
    """Run an example as its reader would."""
    command = [sys.executable, str(FOLDER / name), *OPTIONS.get(name, [])]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_every_example_is_tested() -> None:
    assert {p.name for p in FOLDER.glob("*.py")} - {Path(__file__).name} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_an_example(name: str) -> None:
    ended = run(name)
    assert ended.stderr == ""
    assert ended.returncode == 0
    assert not [text for text in EXPECTED[name] if text not in ended.stdout]


def test_the_demo_prints_plain_lines_where_there_is_no_terminal() -> None:
    output = run("demo.py").stdout
    assert "\r" not in output
    assert "DIFFER" not in output
    assert output.count(" done\n") == 4
