"""Runs the cells, each in a process of its own, which is ended with all that it has started."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Sequence

from peer import Peer
from processes import kill_all, start
from rows import Row
from verdicts import Seen

#: How long a cell may take, in seconds. What it waits for has limits that are shorter.
LIMIT = 50

#: How many run at a time: they wait more than they compute.
AT_ONCE = 2


@dataclass(frozen=True)
class Cell:
    """A row of one peer, and what was seen."""

    row: Row
    peer: type[Peer]
    seen: Seen
    seconds: float
    #: The end of what it wrote.
    log: str


def run(rows: Sequence[Row], peers: Sequence[type[Peer]], tell: Callable[[Cell], None]) -> list[Cell]:
    """All cells, row by row. Each is told when it is there."""
    mark = f"{os.getpid()}-{time.time_ns()}."
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, ThreadPoolExecutor(AT_ONCE) as threads:

        def look(place: tuple[Row, type[Peer]]) -> Cell:
            row, peer = place
            name = f"{row.name}.{peer.name}."
            Path(folder, name).mkdir()
            cell = look_at(row, peer, f"{mark}{name}", Path(folder, name))
            tell(cell)
            return cell

        futures = [threads.submit(look, (row, peer)) for row in rows for peer in peers]
        try:
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            kill_all(mark)
            raise


def look_at(row: Row, peer: type[Peer], mark: str, folder: Path) -> Cell:
    """One cell."""
    begin = time.monotonic()
    process = start("cell.py", row.name, peer.name, mark=mark, folder=folder, log=folder / "log")
    try:
        process.wait(LIMIT)
        seen = Seen("CRASH", False, f"status {process.returncode}")
    except subprocess.TimeoutExpired:
        seen = Seen("HANG", False)
    finally:
        kill_all(mark)
        process.wait()
    if (folder / "seen").exists():
        seen = Seen(**json.loads((folder / "seen").read_text()))
    log = (folder / "log").read_text(errors="replace")[-3000:]
    return Cell(row, peer, seen, time.monotonic() - begin, log)
