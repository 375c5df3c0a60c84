"""The `pool-spawner` program, which cannot serve yet and says so."""

import argparse
import sys
from collections.abc import Sequence

from pool_spawner import __version__

DESCRIPTION = (
    "Will be a small server for hosts on a local network that ssh does not reach: it will start "
    "pool-worker when an authenticated client asks for workers. This version cannot serve yet."
)

NOT_YET = f"pool-spawner {__version__} cannot serve yet: local pools need only pool-client"

EXIT_CANNOT_SERVE = 2


def build_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line.

    Returns:
        A parser that knows ``--help`` and ``--version`` and takes nothing else.
    """
    parser = argparse.ArgumentParser(prog="pool-spawner", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"pool-spawner {__version__}")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        arguments: The command line without the program's name; None takes that of the process.

    Returns:
        The exit code: always 2, because there is no server yet.

    Raises:
        SystemExit: With code 0 after ``--help`` and ``--version``, with 2 after an unknown flag.
    """
    build_parser().parse_args(arguments)
    print(NOT_YET, file=sys.stderr)
    return EXIT_CANNOT_SERVE


if __name__ == "__main__":
    sys.exit(main())
