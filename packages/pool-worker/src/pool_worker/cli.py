"""The flags of the program.

A launch has one form and many workers wait for it, so it is recognised before argparse is loaded.
"""

import sys
from collections.abc import Sequence

from pool_worker.__about__ import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program with these arguments (default: the process's); returns its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if list(argv) == ["--launch"]:
        return _launch(None)
    import argparse

    parser = argparse.ArgumentParser(
        prog="pool-worker",
        description="Run worker processes for a process pool. Started by a pool's client; "
        "without arguments it prints that it is installed, with its versions.",
        epilog="exit status: 0 after an orderly end, 1 after an error, 2 for bad arguments",
        allow_abbrev=False,
    )
    parser.error = _one_line  # type: ignore[method-assign, assignment]
    parser.add_argument("--version", action="version", version=f"pool-worker {__version__}")
    parser.add_argument(
        "--launch",
        action="store_true",
        help="supervise workers for the client that gives its settings, one line of JSON, on "
        "standard input; the end of standard input ends everything",
    )
    parser.add_argument(
        "--start-method",
        choices=("fork", "spawn"),
        help="how workers are made; with --launch only (default: fork on Linux, else spawn)",
    )
    options = parser.parse_args(argv)
    if options.launch:
        return _launch(options.start_method)
    if options.start_method is not None:
        _one_line("--start-method needs --launch")
    print("\n".join(installed()))
    return 0


def _one_line(message: str) -> None:
    print(f"pool-worker: {message} (see pool-worker --help)", file=sys.stderr)
    sys.exit(2)


def installed() -> list[str]:
    """What is installed here, a line each."""
    from importlib import metadata, util

    import pool_protocol

    lines = [
        f"pool-worker {__version__} is installed",
        f"pool-protocol {pool_protocol.__version__}",
        f"wire protocol {pool_protocol.PROTOCOL_VERSION}",
        f"Python {sys.version.split()[0]} ({sys.executable})",
    ]
    for name in ("cloudpickle", "uvloop", "dill"):
        if util.find_spec(name) is not None:
            lines.append(f"{name} {metadata.version(name)}")
    return lines


def _launch(start_method: str | None) -> int:
    from pool_worker.supervisor import launch

    return launch(start_method)
