"""What a measure hands back, and how it is printed: figures, targets, one table at the end."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .stats import median, median_ratio, spread


@dataclass(frozen=True)
class Figure:
    """One contestant's figures in one measure: one value for each round."""

    measure: str
    contestant: str
    unit: str
    rounds: tuple[float, ...]

    @property
    def value(self) -> float:
        """The median of the rounds."""
        return median(self.rounds)


@dataclass(frozen=True)
class Target:
    """A figure that the project holds itself to: `value` is at least, or at most, `limit`."""

    text: str
    value: float
    limit: float
    at_most: bool = False
    unit: str = "x"

    @property
    def met(self) -> bool:
        """Whether the target is met, to three digits: what is printed is what is judged."""
        value = float(f"{self.value:.3g}")
        return value <= self.limit if self.at_most else value >= self.limit

    def line(self) -> str:
        """Return the target with its figure and its verdict, for a terminal."""
        sign = "≤" if self.at_most else "≥"
        verdict = "OK" if self.met else "MISSED"
        figure = f"{number(self.value)} {self.unit}"
        return f"{verdict:<7} {self.text:<66} {figure:>12}   (target {sign} {self.limit:g})"


@dataclass
class Report:
    """The outcome of one measure, or of several added together."""

    figures: list[Figure] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)

    def record(self, measure: str, unit: str, rounds: dict[str, list[float]]) -> None:
        """Add a figure for each contestant of one measure."""
        self.figures += [Figure(measure, name, unit, tuple(v)) for name, v in rounds.items() if v]

    def at_least(
        self, text: str, above: Sequence[float], below: Sequence[float], limit: float
    ) -> None:
        """Add the target that the median ratio of two contestants is `limit` or more."""
        self.targets.append(Target(text, median_ratio(above, below), limit))

    def at_most(
        self, text: str, above: Sequence[float], below: Sequence[float], limit: float
    ) -> None:
        """Add the target that the median ratio of two contestants is `limit` or less."""
        self.targets.append(Target(text, median_ratio(above, below), limit, at_most=True))

    def limit(self, text: str, values: Sequence[float], limit: float, unit: str) -> None:
        """Add the target that the median of one contestant's figures is `limit` or less."""
        self.targets.append(Target(text, median(values), limit, at_most=True, unit=unit))

    def extend(self, other: "Report") -> None:
        """Add everything in another report."""
        self.figures += other.figures
        self.targets += other.targets

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dump`."""
        figures = [asdict(figure) | {"value": figure.value} for figure in self.figures]
        targets = [asdict(target) | {"met": target.met} for target in self.targets]
        return {"figures": figures, "targets": targets}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Report":
        """Rebuild a report from what `to_json` returned."""
        figures = [
            Figure(item["measure"], item["contestant"], item["unit"], tuple(item["rounds"]))
            for item in data["figures"]
        ]
        targets = [
            Target(item["text"], item["value"], item["limit"], item["at_most"], item["unit"])
            for item in data["targets"]
        ]
        return cls(figures, targets)

    def lines(self) -> list[str]:
        """Return each figure and then each target on a line of its own."""
        rows = [
            f"        {figure.measure:<44} {figure.contestant:<26} {number(figure.value):>9} "
            f"{figure.unit:<8} ±{spread(figure.rounds) / 2:.0%} of {len(figure.rounds)}"
            for figure in self.figures
        ]
        return rows + [target.line() for target in self.targets]

    def table(self, columns: Sequence[str]) -> list[str]:
        """Return the lines of a Markdown table: a row for each measure, a column a contestant.

        Contestants that are not among `columns` are left out.
        """
        cells = {(f.measure, f.unit, f.contestant): number(f.value) for f in self.figures}
        rows = unique((f.measure, f.unit) for f in self.figures if f.contestant in columns)
        body = [
            [f"{measure}, {unit}", *(cells.get((measure, unit, name), "") for name in columns)]
            for measure, unit in rows
        ]
        return aligned([["", *columns], *body])


def unique(items: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the items without repetitions, in their order."""
    return list(dict.fromkeys(items))


def number(value: float) -> str:
    """Format a figure with three digits, and with k or M where it is large."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if abs(value) >= size * 0.9995:
            return f"{plain(value / size)} {unit}"
    return plain(value)


def plain(value: float) -> str:
    """Format a number below 1,000 with three digits, never with an exponent."""
    if value == 0:
        return "0"
    rounded = abs(float(f"{value:.3g}"))
    digits = next((d for size, d in ((100, 0), (10, 1), (1, 2)) if rounded >= size), 3)
    return f"{value:.{digits}f}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows of a Markdown table, padded to even columns; the first row is its head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        first, *rest = (
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "| " + " | ".join([first, *rest]) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return [line(rows[0]), "| " + " | ".join(rule) + " |", *map(line, rows[1:])]
