"""What was found out about hosts, as a table, as JSON, and as an exit status. Pure."""

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

#: Packages whose versions matter on both sides, by the names of their distributions.
PACKAGES = ("pool-worker", "pool-protocol", "cloudpickle", "uvloop", "dill")
#: Those that the client sends where they are not installed.
_SENT = ("pool-worker", "pool-protocol", "cloudpickle")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True, slots=True)
class Side:
    """A Python and what is installed for it; None: not installed."""

    python: str
    packages: dict[str, str | None]
    platform: str


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured; ``round_trip`` is in seconds."""

    round_trip: float
    tasks_per_second: float
    bytes_per_second_to: float
    bytes_per_second_from: float


@dataclass(frozen=True, slots=True)
class Report:
    """One host: as it was named, and what is known of it.

    ``error`` is empty if it can be used, and says otherwise what is wrong and what to do.
    ``started`` is how long it took to come up, in seconds.
    """

    host: str
    error: str = ""
    side: Side | None = None
    workers: int = 0
    cpus: int = 0
    memory: int = 0
    started: float = 0.0
    figures: Figures | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Can it be used?"""
        return not self.error


def exit_status(reports: Sequence[Report]) -> int:
    """0 if every host can be used, else 1."""
    return 0 if all(report.ok for report in reports) else 1


def notes(here: Side, there: Side) -> tuple[str, ...]:
    """What is worth knowing about a host that works.

    Args:
        here: The client.
        there: The host.
    """
    found = []
    ours, theirs = (".".join(side.python.split(".")[:2]) for side in (here, there))
    if ours != theirs:
        found.append(
            f"Python {theirs} there and {ours} here: functions of modules run, but lambdas and "
            f"functions of a script or notebook do not; install Python {ours} there"
        )
    # Where no worker is installed all of them were sent, whatever stands beside.
    for name in _SENT if there.packages.get("pool-worker") is not None else ():
        mine, other = here.packages.get(name), there.packages.get(name)
        if mine is not None and other is not None and mine != other:
            found.append(
                f"{name} {other} there and {mine} here: python -m pip install {name}=={mine}"
            )
    if here.packages.get("dill") is not None and there.packages.get("dill") is None:
        found.append("dill is not installed there: func_pickle and data_pickle cannot be dill")
    if here.packages.get("uvloop") is not None and there.packages.get("uvloop") is None:
        found.append("uvloop is not installed there: asynchronous tasks run on asyncio's loop")
    return tuple(found)


def advice(host: str) -> str:
    """What else may be wrong about a host that failed: perhaps it was named wrongly."""
    if "://" in host or host.startswith("local/"):
        return ""
    other = "ssh://" + re.sub(r":\d+(?=/)", "", host)  # the port is pool-spawner's
    return f"(This asked the pool-spawner there. To go there by ssh, write {other})"


# -- as JSON


def as_json(client: Side, reports: Sequence[Report]) -> str:
    """For machines: the client, and the hosts in the order in which they were named."""
    hosts: list[dict[str, Any]] = [
        {"ok": report.ok, **dataclasses.asdict(report)} for report in reports
    ]
    return json.dumps({"client": dataclasses.asdict(client), "hosts": hosts}, indent=2)


# -- as a table

_HEADS = (
    *("HOST", "STATE", "PYTHON", "POOL-WORKER", "WORKERS", "CPUS", "MEMORY", "UP IN"),
    *("ROUND TRIP", "TASKS/S", "MB/S TO", "MB/S FROM"),
)
#: Columns from here on hold figures, which stand at the right.
_FIGURES = 4


def as_table(client: Side, reports: Sequence[Report]) -> str:
    """For people: a line for each host, and below what is wrong and what is worth knowing."""
    versions = ", ".join(
        f"{name} {version}" for name, version in client.packages.items() if version is not None
    )
    lines = [f"here: Python {client.python}, {versions}", ""]
    lines += _aligned([_HEADS, *map(_row, reports)])
    for report in reports:
        if report.error:
            lines += ["", *_indented(f"{report.host}: ", report.error)]
    for report in reports:
        for note in report.notes:
            lines += ["", *_indented(f"{report.host}: ", note)]
    return "\n".join(lines)


def _row(report: Report) -> Sequence[str]:
    if report.side is None:
        return (report.host, "ok" if report.ok else "FAILED", *[""] * (len(_HEADS) - 2))
    figures = report.figures
    return (
        report.host,
        "ok" if report.ok else "FAILED",
        report.side.python,
        report.side.packages.get("pool-worker") or "sent",
        str(report.workers),
        str(report.cpus),
        size(report.memory) if report.memory else "?",
        duration(report.started),
        *_measured(figures),
    )


def _measured(figures: Figures | None) -> Sequence[str]:
    if figures is None:
        return ("", "", "", "")
    return (
        duration(figures.round_trip),
        f"{figures.tasks_per_second:,.0f}",
        f"{figures.bytes_per_second_to / 1e6:,.0f}",
        f"{figures.bytes_per_second_from / 1e6:,.0f}",
    )


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if place >= _FIGURES else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _indented(head: str, text: str) -> list[str]:
    first, *rest = text.splitlines() or [""]
    return [head + first, *("    " + line for line in rest)]


def duration(seconds: float) -> str:
    """A time with a unit in which it can be read."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds:.1f} s"


def size(count: float) -> str:
    """A number of bytes with a unit in which it can be read."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count /= 1024
        unit += 1
    return f"{count:.0f} {_UNITS[unit]}"
