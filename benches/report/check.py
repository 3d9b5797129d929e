"""Compares what was measured now with the baseline: `check.py BASELINE NOW [--names]`.

Compared are ratios of procpool to its contenders, round by round, since a machine is slower on one day than on another,
but not for procpool alone. A ratio became worse if the middle half of its rounds now lies below the middle half of the
baseline's, and its median is lower by a tenth at least. A case became worse if all of its ratios did: if only some did,
it is those contenders who moved.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass
from pathlib import Path

from measured import Case, advantages, cases, figure

LEAST_FALL = 0.1


@dataclass(frozen=True)
class Change:
    """Of the ratio to one contender."""

    contender: str
    before: list[float]
    now: list[float]

    @property
    def worse(self) -> bool:
        fell = statistics.median(self.now) < (1 - LEAST_FALL) * statistics.median(self.before)
        return fell and middle_half(self.now)[1] < middle_half(self.before)[0]


def middle_half(values: list[float]) -> tuple[float, float]:
    if len(values) == 1:
        return values[0], values[0]
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return lower, upper


def changes(before: Case, now: Case) -> list[Change]:
    found = []
    for contender in now:
        # `procpool moved` and the like are procpool as well.
        if contender.startswith("procpool") or contender not in before or "procpool" not in before:
            continue
        change = Change(contender, advantages(before, contender), advantages(now, contender))
        if change.before and change.now:
            found.append(change)
    return found


def show(case: str, found: list[Change]) -> None:
    for change in found:
        (low, high), (low_now, high_now) = middle_half(change.before), middle_half(change.now)
        was = f"{figure(statistics.median(change.before))} ({figure(low)} .. {figure(high)})"
        is_now = f"{figure(statistics.median(change.now))} ({figure(low_now)} .. {figure(high_now)})"
        print(f"{case:<40}{change.contender:<20}{was:<30}{is_now:<30}{'worse' if change.worse else ''}")


def main() -> int:
    parser = argparse.ArgumentParser("check.py", description="Names the cases that became worse than the baseline.")
    parser.add_argument("baseline", type=Path, help="a folder with results.json")
    parser.add_argument("now", type=Path, help="the same of now")
    parser.add_argument("--names", action="store_true", help="print only the names of the cases that became worse")
    options = parser.parse_args()

    before = cases(options.baseline)
    compared = {
        name: changes(before[name], now)
        for name, now in cases(options.now).items()
        if name in before and "procpool" in now
    }
    worse = [name for name, found in compared.items() if found and all(change.worse for change in found)]
    if options.names:
        print("\n".join(worse))
        return 0
    print(f"{'case':<40}{'times as good as':<20}{'before (middle half)':<30}{'now (middle half)':<30}")
    for name, found in compared.items():
        show(name, found)
    print(f"\n{len(compared)} cases compared; became worse: {', '.join(worse) or 'none'}")
    return 1 if worse else 0


if __name__ == "__main__":
    raise SystemExit(main())
