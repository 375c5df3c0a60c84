"""The command line of the check."""

import argparse
import asyncio
import shlex
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from pool_client.check.probe import probe, this_side
from pool_client.check.report import Report, as_json, as_table, exit_status
from pool_client.launchers import parse
from pool_client.loop_thread import new_loop
from pool_client.options import CONNECT_TIMEOUT, seconds

DESCRIPTION = """\
Start workers on each host, side by side, and tell whether it is fit for a pool: the versions on
both sides, CPUs and memory, the round trip of a task, tasks a second, and MB/s to the host and
from it. If it is not fit: what is wrong, and the command that mends it.
"""

EPILOG = """\
A host is named as for a pool: ssh://user@host/8, host:8899/8 (with pool-spawner there), local/4.
The number of workers may be left out: one. Progress goes to standard error. Exit status: 0 if
every host can be used, 1 if one cannot, 2 for bad arguments.
"""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Say it, and exit with 2."""
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(2)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything that the check can be told."""
    parser.add_argument("hosts", nargs="+", metavar="HOST", type=host_string)
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    parser.add_argument(
        "--timeout",
        type=positive,
        default=CONNECT_TIMEOUT,
        metavar="SECONDS",
        help=f"how long a host may take to come up (default: {CONNECT_TIMEOUT:g})",
    )
    parser.add_argument(
        "--ssh-command",
        type=words,
        default=["ssh"],
        metavar="COMMAND",
        help="how ssh is called, such as 'ssh -F my_config'",
    )
    parser.add_argument(
        "--credential",
        metavar="PATH",
        help="the credential for LAN hosts (default: where pool-spawner init puts it)",
    )
    parser.add_argument(
        "--advertise",
        metavar="ADDRESS",
        help="the address at which LAN hosts reach this machine (default: found out)",
    )


def host_string(text: str) -> str:
    """A host as a pool wants it, with a number of workers. Raises ArgumentTypeError."""
    path, mark, options = text.partition("?")
    try:
        try:
            parse(f"{path}/1{mark}{options}")
            return f"{path}/1{mark}{options}"
        except ValueError:
            parse(text)
            return text
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def words(text: str) -> list[str]:
    """A command as a shell would split it. Raises ArgumentTypeError."""
    try:
        found = shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from error
    if not found:
        raise argparse.ArgumentTypeError("it is empty")
    return found


def positive(text: str) -> float:
    """A number of seconds. Raises ArgumentTypeError."""
    try:
        return seconds("--timeout", float(text)) or 0.0
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds above 0") from error


def run(options: argparse.Namespace) -> int:
    """Check the hosts and print the outcome; returns the exit status."""
    settings = {
        "connect_timeout": options.timeout,
        "ssh_command": options.ssh_command,
        "credential": options.credential,
        "advertise": options.advertise,
    }
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            reports = runner.run(check(options.hosts, settings))
    except KeyboardInterrupt:
        return 130
    print((as_json if options.json else as_table)(this_side(), reports))
    return exit_status(reports)


async def check(hosts: Sequence[str], settings: dict[str, Any]) -> list[Report]:
    """Check hosts side by side; the reports in their order.

    Args:
        hosts: As for a pool.
        settings: More arguments for the pools.
    """
    alone = asyncio.Lock()
    return await asyncio.gather(*(probe(host, settings, alone, _tell) for host in hosts))


def _tell(host: str, what: str) -> None:
    print(f"{host}: {what}", file=sys.stderr, flush=True)
