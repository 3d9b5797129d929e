"""What procpool costs in Python, beside its rivals: `python benches/python --help`.

Every case runs all of its contenders in interleaved rounds whose order rotates, so that a machine that is slow for a
while is slow for all of them. Each contender has a process of its own in each case: one that hangs or crashes is ended,
and shown with the reason. `cases` says what is measured, `contenders` how each of them is asked, `tasks` what the
workers do, `child` is the process of one contender, `rounds` asks them in turn, and `report` prints.
"""

from __future__ import annotations

import argparse
import os
import platform
from pathlib import Path

import cases
import contenders
import report
import rounds

ROUNDS = 7
ROUNDS_QUICK = 3
OUT = Path(__file__).resolve().parents[2] / "target" / "bench" / "results.json"


def main() -> int:
    options = parsed()
    print(f"CPUs    {len(os.sched_getaffinity(0))}")
    print(f"kernel  {platform.release()}")
    print(f"python  {platform.python_version()}")
    print(f"load    {' '.join(f'{load:.2f}' for load in os.getloadavg())}")
    measured: report.Measured = []
    for case in cases.ALL:
        if options.case and not any(text in case.name for text in options.case):
            continue
        entries = rounds.run(case, options.contender or contenders.NAMES, options.rounds, options.quick)
        # Buffers alone have a limit that is not a pool.
        entries = [entry for entry in entries if entry.contender != "memcpy" or entry.failure is None]
        report.print_case(case, entries)
        measured.append((case, entries))
    report.print_summary(measured)
    report.print_goals(measured)
    report.write(options.out, measured)
    print(f"\nresults: {options.out}")
    return 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser("benches/python", description="Compares procpool with its rivals.")
    parser.add_argument("--quick", action="store_true", help="little work and few rounds: done in three minutes")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"rounds per case ({ROUNDS}; quick: {ROUNDS_QUICK})")
    parser.add_argument("--case", action="append", metavar="TEXT", help="only cases with TEXT in their names")
    parser.add_argument(
        "--contender", action="append", metavar="NAME", choices=contenders.NAMES, help="only this contender"
    )
    parser.add_argument("--out", type=Path, default=OUT, metavar="PATH", help="where to write the results")
    options = parser.parse_args()
    if options.rounds is None:
        options.rounds = ROUNDS_QUICK if options.quick else ROUNDS
    return options


if __name__ == "__main__":
    raise SystemExit(main())
