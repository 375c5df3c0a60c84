"""``python -m pool_worker``: see ``cli``."""

import os
import sys

from pool_worker.cli import main

if __name__ == "__main__":
    status = main()
    if sys.argv[1:] == ["--launch"]:
        # A client may wait for the end. There is nothing left to do, and nothing unwritten: to take
        # the interpreter apart takes a seventh of all the time that an idle supervisor takes.
        os._exit(status)
    sys.exit(status)
