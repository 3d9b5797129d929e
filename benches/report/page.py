"""Writes the figures into the page: `page.py PAGE FOLDER`.

The page's text is written by people. Between `<!-- begin NAME -->` and `<!-- end NAME -->` stands what this makes of the
files in the folder, so that no figure can be another than the one that was measured.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path

from measured import Case, Curve, Figures, Point, advantages, cases, curve, figure
from remarks import remark

TOP = Path(__file__).resolve().parents[2]
#: Not rivals: what the machine itself can do.
LIMITS = {"memcpy", "ping-pong spinning", "ping-pong futex"}
RIVALS_IN_RUST = ["crossbeam-channel", "procspawn", "rayon"]
#: Columns of a curve's table.
COLUMNS = 7


def main(page: str, folder: str) -> None:
    path, measured = Path(page), Path(folder)
    parts = {
        "machine": machine(measured),
        "goals": goals(measured),
        "losses": losses(cases(measured)),
        "rust": tables(cases(measured), "rust/"),
        "python": tables(cases(measured), "python/"),
    }
    for file in sorted((measured / "curves").glob("*.csv")):
        parts[file.stem] = of_curve(curve(file))
    text = path.read_text()
    for name, part in parts.items():
        text = put(text, name, part)
    path.write_text(text)


def put(text: str, name: str, part: str) -> str:
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"the page has no place for {name}: {begin} {end}")
    return pattern.sub(lambda _: f"{begin}\n\n{part}\n\n{end}", text)


def table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    headings = list(headings)
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine(folder: Path) -> str:
    facts = json.loads((folder / "machine.json").read_text())
    locked = re.findall(r'name = "(.*)"\nversion = "(.*)"', (TOP / "Cargo.lock").read_text())
    rust = [f"{crate} {version}" for crate, version in locked if crate in RIVALS_IN_RUST]
    python = (TOP / "benches/python/requirements.txt").read_text().replace("==", " ").split("\n")
    rows = [
        *([name, fact] for name, fact in facts.items()),
        ["rivals in Rust", ", ".join(rust)],
        ["rivals in Python", ", ".join(line for line in python if line and "matplotlib" not in line)],
    ]
    return table(["", ""], rows)


def goals(folder: Path) -> str:
    entries = json.loads((folder / "goals.json").read_text())
    rows = [
        [f"`{goal['case']}`", goal["wanted"], goal["reached"], "met" if goal["met"] else "**not met**"]
        for goal in entries
    ]
    met = sum(goal["met"] for goal in entries)
    return f"{met} of {len(entries)} are met.\n\n" + table(["case", "goal", "measured", ""], rows)


def losses(all_cases: dict[str, Case]) -> str:
    """Every rival that was better in the median."""
    rows = []
    for name, case in all_cases.items():
        if "procpool" not in case:
            continue
        for contender in case:
            if contender.startswith("procpool") or contender in LIMITS:
                continue
            ratios = advantages(case, contender)
            if ratios and statistics.median(ratios) < 1:
                rows.append([f"`{name}`", contender, spread(ratios), remark(name, contender)])
    return table(["case", "against", "times as good (middle half)", "why"], rows)


def spread(ratios: list[float]) -> str:
    middle = figure(statistics.median(ratios))
    if len(ratios) < 2:
        return middle
    lower, _, upper = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{middle} ({figure(lower)} .. {figure(upper)})"


def tables(all_cases: dict[str, Case], prefix: str) -> str:
    return "\n\n".join(of_case(case) for name, case in all_cases.items() if name.startswith(prefix))


def of_case(case: Case) -> str:
    any_of_them = next(iter(case.values()))
    better = "more is better" if any_of_them.higher_is_better else "less is better"
    rows = [of_contender(case, figures) for figures in case.values()]
    heading = f"#### `{any_of_them.case}` ({any_of_them.unit}; {better})"
    body = table(["", "median", "lowest .. highest", "procpool is so many times as good"], rows)
    return "\n\n".join(part for part in (heading, body, any_of_them.note) if part)


def of_contender(case: Case, figures: Figures) -> list[str]:
    ahead = ""
    if figures.contender != "procpool" and "procpool" in case:
        ratios = advantages(case, figures.contender)
        ahead = spread(ratios) if ratios else "-"
    lowest_highest = f"{figure(min(figures.rounds))} .. {figure(max(figures.rounds))}"
    return [figures.contender, figure(figures.median), lowest_highest, ahead]


def of_curve(curve: Curve) -> str:
    parts = [f"![{curve.name}](performance/curves/{curve.name}.png)"]
    for measure, lines in curve.measures.items():
        points = sorted({point.at for line in lines.values() for point in line})
        shown = some(points)
        rows = [[contender, *(at(line, point) for point in shown)] for contender, line in lines.items()]
        parts.append(table([f"{measure} by {curve.axis}", *map(short, shown)], rows))
    parts.append(f"All points: [{curve.name}.csv](performance/curves/{curve.name}.csv)")
    return "\n\n".join(parts)


def some(points: list[float]) -> list[float]:
    """The first, the last, and some between them."""
    if len(points) <= COLUMNS:
        return points
    return [points[round(number * (len(points) - 1) / (COLUMNS - 1))] for number in range(COLUMNS)]


def at(line: list[Point], place: float) -> str:
    return next((figure(point.median) for point in line if point.at == place), "-")


def short(value: float) -> str:
    return f"{value:,.0f}"


if __name__ == "__main__":
    main(*sys.argv[1:])
