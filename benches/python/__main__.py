"""What procpool costs in Python, beside its rivals: `python benches/python --help`.

Every case runs all of its contenders in interleaved rounds whose order rotates, so that a machine that is slow for a
while is slow for all of them. Each contender has a process of its own in each case: one that hangs or crashes is ended,
and shown with the reason. `cases` says what is measured, `contenders` how each of them is asked, `tasks` what the
workers do, `child` is the process of one contender, `rounds` asks them in turn, `report` prints and writes, and `goals`
says what is to be reached.
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

ROUNDS = 9
ROUNDS_QUICK = 3
OUT = Path(__file__).resolve().parents[2] / "target" / "bench"


def main() -> int:
    options = parsed()
    machine = {
        "CPUs in Python": str(len(os.sched_getaffinity(0))),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load in Python": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }
    for name, fact in machine.items():
        print(f"{name:<16}{fact}")
    measured: report.Measured = []
    for case in cases.ALL:
        if options.case and not any(text in case.name for text in options.case):
            continue
        chosen = [
            name for name in case.contenders or contenders.NAMES if name in (options.contender or contenders.NAMES)
        ]
        entries = rounds.run(case, chosen, min(options.rounds, case.most_rounds), options.quick)
        # Buffers alone have a limit that is not a pool.
        entries = [entry for entry in entries if entry.contender != "memcpy" or entry.failure is None]
        report.print_case(case, entries)
        measured.append((case, entries))
    report.print_summary(measured)
    verdicts = report.verdicts(measured)
    report.print_goals(verdicts)
    options.out.mkdir(parents=True, exist_ok=True)
    report.write(options.out / "results.json", report.results(measured))
    report.write(options.out / "goals.json", verdicts)
    report.write_machine(options.out / "machine.json", machine)
    print(f"\nwritten to {options.out}")
    return 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser("benches/python", description="Compares procpool with its rivals.")
    parser.add_argument("--quick", action="store_true", help="little work and few rounds: done in three minutes")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"rounds per case ({ROUNDS}; quick: {ROUNDS_QUICK})")
    parser.add_argument("--case", action="append", metavar="TEXT", help="only cases with TEXT in their names")
    parser.add_argument(
        "--contender", action="append", metavar="NAME", choices=contenders.NAMES, help="only this contender"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=OUT,
        metavar="FOLDER",
        help="where to write results.json, goals.json and machine.json",
    )
    options = parser.parse_args()
    if options.rounds is None:
        options.rounds = ROUNDS_QUICK if options.quick else ROUNDS
    return options


if __name__ == "__main__":
    raise SystemExit(main())
