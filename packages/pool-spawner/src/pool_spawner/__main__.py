"""The ``pool-spawner`` program: its command line."""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from pool_protocol import CredentialError, quota
from pool_protocol.security import DEFAULT
from pool_spawner import __version__, logs
from pool_spawner.credential import default_place, fingerprint

DESCRIPTION = """\
Start pool-worker on this machine when a client of the pool asks for it over the network.

  pool-spawner init     make the credential that a group of machines shares
  pool-spawner serve    serve clients that have the same credential (the default)

Clients name this machine in their pool, Pool(hosts=['this-host/4']); the workers then connect back
to the client. Every connection is TLS 1.3, and both sides prove that they have the credential.
Whoever has the credential can run any program here as the user who runs pool-spawner.
"""

EPILOG = """\
signals: SIGTERM or SIGINT ends the workers and stops, a second one at once; SIGHUP reads the
credential again (when a terminal is closed, it stops). exit status: 0 after an orderly stop, 1
after an error, 2 for bad arguments.
"""

PORT = 8899
LOOPBACK = "127.0.0.1"


def cpu_count() -> int:
    """How many CPUs this process may use; of those it may run on, a quota can leave a part."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return quota.bounded(usable or 1, _text)


def _text(path: str) -> str:
    try:
        # A control group's name is bytes of any kind, as that of a file is.
        with open(path, errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _between(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{value} is not between {least} and {most}")
        return value

    return number


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Say it, and exit with 2."""
        print(f"pool-spawner: {message} (see pool-spawner --help)", file=sys.stderr)
        sys.exit(2)


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command line. Flags that are not given are None."""
    parser = _Parser(
        prog="pool-spawner",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"pool-spawner {__version__}")
    parser.add_argument("command", nargs="?", default="serve", help="init or serve, as above")
    parser.add_argument(
        "--credential",
        metavar="PATH",
        help="the credential; serve also takes a folder that holds it as credential.pem, and "
        f"beside it other certificates that are accepted (default: ~/{DEFAULT})",
    )
    serve = parser.add_argument_group("flags of serve")
    serve.add_argument(
        "--host",
        metavar="ADDRESS",
        help=f"listen at this address or name; 0.0.0.0 or :: for all (default: {LOOPBACK}, which "
        "other machines cannot reach)",
    )
    serve.add_argument(
        "--port",
        type=_between(0, 65535),
        help=f"listen on this port; 0 for any that is free (default: {PORT})",
    )
    serve.add_argument(
        "--max-workers",
        metavar="N",
        type=_between(1, 1 << 20),
        help="start at most N workers, for all clients together; who comes later waits for its "
        "turn (default: 4 for each CPU)",
    )
    serve.add_argument(
        "--log-format", choices=logs.FORMATS, help="lines for people, or JSON (default: plain)"
    )
    serve.add_argument("--log-level", choices=logs.LEVELS, help="default: info")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        arguments: The command line without the program's name; None takes that of the process.

    Returns:
        The exit code: 0 after an orderly stop or a credential made, 1 after an error.

    Raises:
        SystemExit: With 0 after ``--help`` and ``--version``, with 2 after bad arguments.
    """
    parser = build_parser()
    flags = parser.parse_args(arguments)
    if flags.command not in ("init", "serve"):
        # Not the parser's choices: with them, the value of an unknown flag would be blamed.
        parser.error(f"there is no command {flags.command!r}, only init and serve")
    if flags.command == "init":
        for name in ("host", "port", "max_workers", "log_format", "log_level"):
            if getattr(flags, name) is not None:
                parser.error(f"--{name.replace('_', '-')} is a flag of serve, not of init")
    try:
        return _init(flags.credential) if flags.command == "init" else _serve(flags)
    except CredentialError as error:
        return _fail(str(error))


def _fail(reason: str) -> int:
    print(f"pool-spawner: {reason}", file=sys.stderr)
    return 1


def _init(place: str | None) -> int:
    try:
        from pool_spawner.making import make_credential
    except ImportError as error:
        return _fail(f"init needs the package cryptography ({error}): pip install cryptography")
    path = make_credential(Path(place).expanduser().absolute() if place else default_place())
    print(
        f"made {path}\n"
        f"SHA-256 {fingerprint(path)}\n"
        "Copy it to each machine of the group, the clients' too, to the same place or to one that "
        "--credential (Pool's credential=) names, readable for its user alone. Keep it secret: "
        "whoever has it can run any program on all of these machines."
    )
    return 0


def _serve(flags: argparse.Namespace) -> int:
    if os.name != "posix":
        return _fail("it cannot serve on this system; Linux and macOS it can")
    from pool_spawner.server import Options, ServeError, Server

    logs.configure(flags.log_format or logs.PLAIN, flags.log_level or "info")
    cpus = cpu_count()
    options = Options(
        host=LOOPBACK if flags.host is None else flags.host,
        port=PORT if flags.port is None else flags.port,
        max_workers=flags.max_workers or 4 * cpus,
        cpus=cpus,
        credential=flags.credential,
    )
    try:
        asyncio.run(Server(options).run())
    except ServeError as error:
        return _fail(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
