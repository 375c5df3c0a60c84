"""The flags of the program.

A launch has one form and many workers wait for it, so it is recognised before argparse is loaded.
"""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pool_worker.__about__ import __version__

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program with these arguments (default: the process's); returns its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if list(argv) == ["--launch"]:
        return _launch(None)
    parser = _parser()
    options = parser.parse_args(argv)
    for name in ("workers", "credential", "host_name", "retry"):
        if getattr(options, name) is not None and options.connect is None:
            parser.error(f"--{name.replace('_', '-')} needs --connect")
    if options.connect is not None:
        return _join(options)
    if options.launch:
        return _launch(options.start_method)
    if options.start_method is not None:
        parser.error("--start-method needs --launch or --connect")
    print("\n".join(installed()))
    return 0


def _parser() -> "ArgumentParser":
    import argparse

    parser = argparse.ArgumentParser(
        prog="pool-worker",
        description="Run worker processes for a process pool. Without arguments it prints that it "
        "is installed, with its versions, a line each; `protocol N` is that of the wire protocol.",
        epilog="exit status: 0 after an orderly end, 1 after an error or when --retry is over, "
        "2 for bad arguments or an unusable credential",
        allow_abbrev=False,
    )
    parser.error = _one_line  # type: ignore[method-assign, assignment]
    parser.add_argument("--version", action="version", version=f"pool-worker {__version__}")
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument(
        "--launch",
        action="store_true",
        help="supervise workers for the client that gives its settings, one line of JSON, on "
        "standard input; the end of standard input ends everything",
    )
    modes.add_argument(
        "--connect",
        metavar="HOST:PORT",
        type=_address,
        help="join the pool that listens there (Pool.listen), over TLS, and join again when it "
        "has gone. SIGTERM: finish the running tasks, hand back the rest, end; twice, or SIGINT: "
        "end now",
    )
    parser.add_argument(
        "-n",
        "--workers",
        metavar="N",
        type=_count,
        help="workers to offer (default: as many as there are CPUs)",
    )
    parser.add_argument(
        "--credential",
        metavar="FILE",
        help="the group's credential, a file or a folder (default: ~/.config/pool/credential.pem)",
    )
    parser.add_argument(
        "--host-name", metavar="NAME", help="how the pool names this machine (default: its name)"
    )
    parser.add_argument(
        "--retry",
        metavar="SECONDS",
        type=_seconds,
        help="how long to look for a pool, at the start and whenever it has gone; 0: try once "
        "(default: for ever)",
    )
    parser.add_argument(
        "--start-method",
        choices=("fork", "spawn"),
        help="how workers are made (default: fork on Linux, else spawn)",
    )
    return parser


def _address(text: str) -> str:
    from argparse import ArgumentTypeError

    from pool_worker.stream import SCHEME, AddressError, host_and_port

    try:
        host_and_port(text)
    except AddressError as error:
        raise ArgumentTypeError(str(error)) from None
    return SCHEME + text


def _count(text: str) -> int:
    return int(_at_least(1, int, text, "a number of workers"))


def _seconds(text: str) -> float:
    return _at_least(0, float, text, "a number of seconds")


def _at_least(least: int, kind: Callable[[str], float], text: str, what: str) -> float:
    from argparse import ArgumentTypeError

    try:
        number = kind(text)
    except ValueError:
        number = -1
    if not least <= number < float("inf"):
        raise ArgumentTypeError(f"{text!r} is not {what}")
    return number


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
        f"protocol {pool_protocol.PROTOCOL_VERSION}",
        f"Python {sys.version.split()[0]} ({sys.executable})",
    ]
    for name in ("cloudpickle", "uvloop", "dill"):
        if util.find_spec(name) is None:
            continue
        try:
            lines.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:  # it merely lies in a folder of the path
            lines.append(f"{name}, of unknown version")
    return lines


def _launch(start_method: str | None) -> int:
    from pool_worker.supervisor import launch

    return launch(start_method)


def _join(options: "Namespace") -> int:
    import socket

    from pool_worker import machine
    from pool_worker.joining import Wish, join

    workers = options.workers or machine.cpus()
    host = options.host_name or socket.gethostname()
    wish = Wish(
        options.connect, workers, options.credential, host, options.retry, options.start_method
    )
    return join(wish)
