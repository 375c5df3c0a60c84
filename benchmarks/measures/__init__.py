"""The measures: one small module for each family, and the table that names them.

A measure is a function from a `Plan` to a `Report`. The table is what `python -m benchmarks` runs,
in this order, each in a process of its own.
"""

from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple, cast

from ..plan import Plan
from ..report import Report


class Measure(NamedTuple):
    """Where a measure is, and how long it may take."""

    module: str
    function: str
    seconds: float
    """The time, in seconds, after which the measure's processes are killed."""

    def load(self) -> Callable[[Plan], Report]:
        """Import the measure's function."""
        module = import_module(f".{self.module}", __name__)
        return cast(Callable[[Plan], Report], getattr(module, self.function))


MEASURES = {
    "single-async": Measure("single", "asynchronous", 150),
    "single-sync": Measure("single", "blocking_singles", 240),
    "map": Measure("mapping", "defaults", 120),
    "map-1": Measure("mapping", "one_by_one", 120),
    "map-1000": Measure("mapping", "by_thousands", 120),
    "round-trip": Measure("round_trip", "measure", 90),
    "large": Measure("large", "measure", 150),
    "start": Measure("start", "measure", 120),
    "memory": Measure("memory", "workers", 60),
    "map-memory": Measure("memory", "mapping", 120),
    "idle": Measure("idle", "measure", 60),
    "many": Measure("many", "measure", 120),
    "simulated": Measure("simulated", "measure", 150),
    "naps": Measure("naps", "measure", 120),
    "links": Measure("links", "measure", 180),
    "links-ssh": Measure("links", "large", 120),
}
