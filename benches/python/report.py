"""The table and the goals that people read, and the files that programs read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional

from case import Case
from goals import GOALS
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


def verdicts(measured: Measured) -> list[dict[str, Any]]:
    """Every goal whose case was measured, except where a figure that it needs is missing."""
    found = []
    by_name = {case.name: (case, entries) for case, entries in measured}
    for goal in GOALS:
        case, entries = by_name.get(f"python/{goal.case}", (None, []))
        ours, theirs = median_of(entries, "procpool"), median_of(entries, goal.contender)
        if case is None or ours is None or theirs is None:
            continue
        reached = advantage(case, ours, theirs)
        found.append(
            {
                "case": case.name,
                "wanted": f"{figure(goal.factor)} times as good as {goal.contender}",
                "reached": f"{figure(reached)} times",
                "met": reached >= goal.factor,
            }
        )
    return found


def print_goals(found: list[dict[str, Any]]) -> None:
    print("\ngoals")
    for verdict in found:
        met = "met" if verdict["met"] else "NOT MET"
        print(f"  {verdict['case']:<40}{verdict['wanted']:<42}{met}: {verdict['reached']}")


def results(measured: Measured) -> list[dict[str, Any]]:
    """A figure for each contender, the median of its rounds; those that failed are left out."""
    return [
        {
            "case": case.name,
            "contender": entry.contender,
            "value": entry.median,
            "unit": case.unit,
            "higher_is_better": case.higher_is_better,
            "rounds": entry.figures,
            "note": case.note,
        }
        for case, entries in measured
        for entry in entries
        if entry.median is not None
    ]


def write(path: Path, entries: list[dict[str, Any]]) -> None:
    """Puts the entries in the place of what the file has about their cases. Others, as those in Rust, stay in it."""
    ours = {entry["case"] for entry in entries}
    known = json.loads(path.read_text()) if path.exists() else []
    kept = [entry for entry in known if entry["case"] not in ours]
    path.write_text(json.dumps(kept + entries, indent=2) + "\n")


def write_machine(path: Path, facts: dict[str, str]) -> None:
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | facts, indent=2) + "\n")


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
