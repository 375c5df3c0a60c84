"""``python -m pool_worker``: see ``cli``."""

import sys

from pool_worker.cli import main

if __name__ == "__main__":
    sys.exit(main())
