"""The ``pool-client`` program."""

import sys
from collections.abc import Sequence

from pool_client.__about__ import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program with these arguments (default: the process's); returns its exit status."""
    from pool_client.check import command

    parser = command.Parser(
        prog="pool-client", description="Look after a process pool that spans machines."
    )
    parser.add_argument("--version", action="version", version=f"pool-client {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    check = commands.add_parser(
        "check",
        help="tell whether hosts are fit for a pool, and if not, why not",
        description=command.DESCRIPTION,
        epilog=command.EPILOG,
    )
    command.add_arguments(check)
    return command.run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
