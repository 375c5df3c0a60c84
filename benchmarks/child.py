"""Run one measure: ``python -m benchmarks.child NAME FILE``. `__main__.py` starts this.

Each measure has a process of its own, so that none inherits the memory, the threads or the
garbage of the one before, and so that one that hangs can be ended.
"""

import argparse
import json
from pathlib import Path

from .measures import MEASURES
from .plan import Plan


def increment_in_main(number: int) -> int:
    """Return the next number: the task that is a function of `__main__`."""
    return number + 1


def main() -> None:
    """Run the measure and write its report as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=MEASURES)
    parser.add_argument("file", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int)
    options = parser.parse_args()
    report = MEASURES[options.name].load()(Plan(options.quick, options.rounds))
    options.file.write_text(json.dumps(report.to_json()))


if __name__ == "__main__":
    main()
