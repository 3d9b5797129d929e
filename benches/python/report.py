"""The table and the goals that people read, and the file that programs read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional

from cases import Case
from rounds import Entry

Measured = list[tuple[Case, list[Entry]]]


def print_case(case: Case, entries: list[Entry]) -> None:
    """Per contender the median, the spread, and how many times better its median is than the baseline's."""
    baseline = median_of(entries, case.baseline)
    better = "higher" if case.higher_is_better else "lower"
    print(f"\n{case.name} [{case.unit}, {better} is better]")
    print(f"  {'contender':<20}{'median':>12}   {'min .. max':<24}  times as good as {case.baseline}")
    for entry in entries:
        if entry.median is None:
            print(f"  {entry.contender:<20}{'-':>12}   {entry.failure}")
            continue
        spread = f"{figure(min(entry.figures))} .. {figure(max(entry.figures))}"
        ratio = "" if baseline is None else figure(advantage(case, entry.median, baseline))
        print(f"  {entry.contender:<20}{figure(entry.median):>12}   {spread:<24}  {ratio}")
    if case.note:
        print(f"  ({case.note})", flush=True)


def print_summary(measured: Measured) -> None:
    """One line per case: how many times as good as each of the others procpool is."""
    others = list(dict.fromkeys(entry.contender for _, entries in measured for entry in entries))
    others = [name for name in others if name != "procpool"]
    print("\nprocpool is so many times as good as")
    print(" " * 34 + "".join(f"{name[:12]:>13}" for name in others))
    for case, entries in measured:
        ours = median_of(entries, "procpool")
        theirs = [median_of(entries, name) for name in others]
        ratios = ["-" if not ours or not their else figure(advantage(case, ours, their)) for their in theirs]
        print(f"  {case.name:<32}" + "".join(f"{ratio:>13}" for ratio in ratios))


def print_goals(measured: Measured) -> None:
    """Every goal whose case was measured, met or not."""
    print("\ngoals")
    for case, entries in measured:
        if case.goal is None:
            continue
        ours, baseline = median_of(entries, "procpool"), median_of(entries, case.baseline)
        wanted = f"{case.goal:g} times as good as {case.baseline}"
        if ours is None or baseline is None:
            verdict = "not measured"
        else:
            reached = advantage(case, ours, baseline)
            verdict = f"{'met' if reached >= case.goal else 'NOT MET'}: {figure(reached)} times"
        print(f"  {case.name:<34}{wanted:<40}{verdict}")


def write(path: Path, measured: Measured) -> None:
    """A list of `{"case", "contender", "value", "unit", "higher_is_better"}`; those that failed are left out. Other cases
    that the file has already, as those in Rust, stay in it."""
    results = [
        {
            "case": case.name,
            "contender": entry.contender,
            "value": entry.median,
            "unit": case.unit,
            "higher_is_better": case.higher_is_better,
        }
        for case, entries in measured
        for entry in entries
        if entry.median is not None
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    ours = {case.name for case, _ in measured}
    others = [entry for entry in json.loads(path.read_text()) if entry["case"] not in ours] if path.exists() else []
    path.write_text(json.dumps(others + results, indent=2) + "\n")


def median_of(entries: list[Entry], contender: str) -> Optional[float]:
    return next((entry.median for entry in entries if entry.contender == contender), None)


def advantage(case: Case, ours: float, theirs: float) -> float:
    """How many times better `ours` is than `theirs`; below 1 it is worse."""
    return ours / theirs if case.higher_is_better else theirs / ours


def figure(value: float) -> str:
    """Three digits that count, or whole and in groups of three."""
    if value >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
