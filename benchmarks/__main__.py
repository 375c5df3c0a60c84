"""``python -m benchmarks [NAME…] [--quick] [--rounds N] [--json FILE]``: measure and compare."""

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .measures import MEASURES
from .peers import COLUMNS
from .report import Report

ROOT = Path(__file__).parents[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measures that were named, or all; return how many could not be taken."""
    options = parse(arguments)
    total, failed, begin = Report(), [], time.monotonic()
    for name in options.names or MEASURES:
        print(f"{name} …", flush=True)
        start = time.monotonic()
        report = run(name, options)
        if report is None:
            failed.append(name)
            continue
        total.extend(report)
        print("\n".join(report.lines()))
        print(f"        {time.monotonic() - start:.0f} s\n", flush=True)
    summary(total, failed, time.monotonic() - begin)
    if options.json:
        data = total.to_json() | {"machine": machine(), "quick": options.quick, "failed": failed}
        options.json.write_text(json.dumps(data, indent=1) + "\n")
    return len(failed)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"what to measure; all if none is given: {', '.join(MEASURES)}",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="smaller counts and fewer rounds: about two minutes, rougher figures",
    )
    parser.add_argument("--rounds", type=int, help="rounds of each measure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in MEASURES:
            parser.error(f"there is no measure {name!r}; there are: {', '.join(MEASURES)}")
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    return options


def run(name: str, options: argparse.Namespace) -> Report | None:
    """Run one measure in a process of its own; None, and a line that says why, if it failed."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "report.json")
        command = [sys.executable, "-m", "benchmarks.child", name, str(file)]
        command += ["--quick"] * options.quick
        command += ["--rounds", str(options.rounds)] if options.rounds else []
        child = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        try:
            status = child.wait(MEASURES[name].seconds)
        except subprocess.TimeoutExpired:
            print(f"FAILED  {name}: not done after {MEASURES[name].seconds:.0f} s", flush=True)
            return None
        finally:
            kill_group(child)
        if status or not file.exists():
            print(f"FAILED  {name}: exit status {status}", flush=True)
            return None
        return Report.from_json(json.loads(file.read_text()))


def kill_group(child: subprocess.Popen[bytes]) -> None:
    """End whatever is left of a measure: its process, and the workers in its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def summary(total: Report, failed: Sequence[str], seconds: float) -> None:
    """Print the table of all contestants and then every target with its figure."""
    print("\n".join(total.table(COLUMNS)), end="\n\n")
    print("\n".join(target.line() for target in total.targets), end="\n\n")
    missed = sum(not target.met for target in total.targets)
    print(
        f"{len(total.targets) - missed} of {len(total.targets)} targets met in {seconds:.0f} s; "
        f"{describe(machine())}"
    )
    if failed:
        print(f"could not be measured: {', '.join(failed)}")


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    found = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": str(len(os.sched_getaffinity(0))),
    }
    for name in ("distex", "loky", "numpy", "uvloop"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def describe(found: dict[str, str]) -> str:
    """Return the machine and the versions on one line."""
    return ", ".join(f"{name} {text}" for name, text in found.items())


if __name__ == "__main__":
    sys.exit(main())
