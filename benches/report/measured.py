"""What benchmarks have written, as the page and the comparison read it."""

from __future__ import annotations

import csv
import json
import statistics
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figures:
    """What was measured of one contender in one case."""

    case: str
    contender: str
    unit: str
    higher_is_better: bool
    #: One for each round.
    rounds: list[float]
    note: str

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)


#: By contender, in the order in which they are shown.
Case = dict[str, Figures]


@dataclass(frozen=True)
class Point:
    at: float
    median: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class Curve:
    name: str
    #: What a point is, with its unit.
    axis: str
    #: By measure, and then by contender.
    measures: dict[str, dict[str, list[Point]]]


def cases(folder: Path) -> dict[str, Case]:
    found: dict[str, Case] = {}
    for entry in json.loads((folder / "results.json").read_text()):
        entry.pop("value")  # It is the median of the rounds.
        figures = Figures(**entry)
        found.setdefault(figures.case, {})[figures.contender] = figures
    return found


def curve(path: Path) -> Curve:
    with path.open() as lines:
        rows = csv.reader(lines)
        axis = next(rows)[2]
        measures: dict[str, dict[str, list[Point]]] = {}
        for measure, contender, *numbers in rows:
            measures.setdefault(measure, {}).setdefault(contender, []).append(Point(*map(float, numbers)))
    return Curve(path.stem, axis, measures)


def advantages(case: Case, contender: str) -> list[float]:
    """In each round, how many times better procpool was than this contender. The two were measured side by side."""
    ours, theirs = case["procpool"], case[contender]
    pairs = zip(ours.rounds, theirs.rounds)
    if ours.higher_is_better:
        return [mine / other for mine, other in pairs if other]
    return [other / mine for mine, other in pairs if mine]


def figure(value: float) -> str:
    """Three digits that count, or whole and in groups of three."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    if abs(value) >= 0.01 or value == 0:
        return f"{value:.2f}"
    return f"{value:.1e}"
