"""Draws each curve of a folder, beside its table: `plot.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from measured import Curve, Point, curve

#: Ranges wider than this are drawn on a logarithmic scale.
WIDE = 50
COLOURS = {"procpool": "C3", "rayon": "C0", "threads": "C2", "no pool": "C7", "memcpy": "C7"}


def main(folder: str) -> None:
    for path in sorted(Path(folder).glob("*.csv")):
        draw(curve(path), path.with_suffix(".png"))
        print(path.with_suffix(".png"))


def draw(curve: Curve, path: Path) -> None:
    columns = min(2, len(curve.measures))
    rows = -(-len(curve.measures) // columns)
    figure, panels = plt.subplots(rows, columns, figsize=(5.2 * columns, 3.4 * rows), squeeze=False)
    for panel, (measure, lines) in zip(panels.flat, curve.measures.items()):
        draw_measure(panel, measure, lines)
        panel.set_xlabel(curve.axis)
    for panel in list(panels.flat)[len(curve.measures) :]:
        panel.axis("off")
    figure.tight_layout()
    # Without the name of the program that drew it, equal figures make equal files.
    figure.savefig(path, dpi=90, metadata={"Software": None})
    plt.close(figure)


def draw_measure(panel: Any, measure: str, lines: dict[str, list[Point]]) -> None:
    for number, (contender, points) in enumerate(lines.items()):
        at = [point.at for point in points]
        colour = COLOURS.get(contender, f"C{number}")
        panel.plot(at, [point.median for point in points], marker=".", color=colour, label=contender)
        panel.fill_between(
            at, [point.lowest for point in points], [point.highest for point in points], color=colour, alpha=0.15, lw=0
        )
    every = [point for points in lines.values() for point in points]
    scale(panel.set_xscale, [point.at for point in every])
    scale(panel.set_yscale, [point.median for point in every])
    if panel.get_yscale() == "linear":
        panel.set_ylim(bottom=0)
    panel.set_title(measure, fontsize=10)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)


def scale(set_scale: Any, values: list[float]) -> None:
    """Logarithmic for wide ranges; what has a zero as well is linear below its smallest other value."""
    above_zero = [value for value in values if value > 0]
    if not above_zero or max(above_zero) < WIDE * min(above_zero):
        return
    if len(above_zero) == len(values):
        set_scale("log")
    else:
        set_scale("symlog", linthresh=min(above_zero))


if __name__ == "__main__":
    main(*sys.argv[1:])
