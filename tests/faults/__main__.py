"""What becomes of procpool, and of its peers, when something goes wrong: `python tests/faults --help`.

`rows` says what goes wrong, `peer` and `peers` how each pool is asked, `verdicts` what the words mean, and `tasks` what
workers do. `run` gives each cell a process of its own, `cell`, and ends it with all its `processes`. `program` is what is
interrupted or killed. `report` writes the page.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

import peers
import report
import rows
import run

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "faults.md"


def main() -> int:
    options = parsed()
    chosen_rows = [rows.ALL[name] for name in chosen(options.only, list(rows.ALL))]
    chosen_peers = [peers.ALL[name] for name in chosen(options.peer, list(peers.ALL))]
    if options.list:
        print(*(f"{row.name:22} {row.title}" for row in chosen_rows), sep="\n")
        print("", *(peer.name for peer in chosen_peers), sep="\n")
        return 0
    # As Ctrl-C does it: by an exception, so that everything that was started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell's background job ignores Ctrl-C, and so would all that is started here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["FAULTS_SLACK"] = str(options.slack)
    lock = threading.Lock()

    def tell(cell: run.Cell) -> None:
        with lock:
            print(line(cell), flush=True)

    load = os.getloadavg()[0]
    cells = run.run(chosen_rows, chosen_peers, tell)
    if not options.only and not options.peer:
        DOCUMENT.write_text(report.document(cells, chosen_rows, chosen_peers, load))
        print(f"written: {DOCUMENT}")
    return conclude([cell for cell in cells if cell.peer in peers.OURS])


def conclude(ours: list[run.Cell]) -> int:
    """Says what of procpool is not on target."""
    if not ours:
        return 0
    missed = [cell for cell in ours if not cell.seen.on_target]
    for cell in missed:
        print(f"\nNOT ON TARGET: {line(cell)}\ntarget: {cell.row.target}\n{cell.log}")
    print(f"faults: {len(ours) - len(missed)} passed, {len(missed)} failed")
    return 1 if missed else 0


def line(cell: run.Cell) -> str:
    mark = report.ON_TARGET if cell.seen.on_target else " "
    return f"{cell.row.name:22} {cell.peer.name:29} {mark} {cell.seen.verdict:9} {cell.seen.detail:40} {cell.seconds:5.1f} s"


def chosen(texts: list[str], names: list[str]) -> list[str]:
    """The names that are meant: for a text that is one, that; for another, those that it is a part of; without any, all."""
    wanted = {name for text in texts for name in ([text] if text in names else names) if text in name}
    if texts and not wanted:
        sys.exit(f"no such name: {', '.join(texts)}; --list prints them")
    return [name for name in names if not texts or name in wanted]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser("tests/faults", description="Does to each pool what goes wrong with pools.")
    parser.add_argument(
        "--only", action="append", default=[], metavar="ROW", help="only this row, or those with this in their names"
    )
    parser.add_argument("--peer", action="append", default=[], metavar="PEER", help="the same for pools")
    parser.add_argument(
        "--slack", type=float, default=1, metavar="N", help="targets in seconds may take N times as long"
    )
    parser.add_argument("--list", action="store_true", help="print the names of rows and pools")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
