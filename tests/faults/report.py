"""The document: what was done, what the words mean, the table, and a section for each row."""

from __future__ import annotations

import multiprocessing
import os
import platform
import re
import textwrap
from importlib import metadata
from typing import Iterable, Iterator, Sequence

from peer import Peer
from peers import AHEAD
from rows import Row
from run import Cell
from verdicts import PATIENCE, WORDS

ON_TARGET = "✓"
WIDTH = 120

HEAD = f"""# Faults

<!-- Written by `make faults` from what it saw. Do not edit it: edit tests/faults. -->

What becomes of a process pool when something goes wrong: a worker is killed, a result cannot be unpickled, somebody
presses Ctrl-C. Here it is done, to procpool and to other pools for Python. `make faults` does it, and has written this
page from what it saw.

Each cell of the table is one experiment, in a process of its own. A new pool of two workers, as it is by default, gets
six tasks, one by one, so that each has a result of its own. One of them misbehaves; or something is done to the workers,
or to the program. A result that is not there after {PATIENCE} seconds counts as lost. Then the pool gets four empty tasks:
can it still be used?

{ON_TARGET} means that the target was met, which is set for each row [below](#the-rows).
"""


NOTES = f"""Times are until the call returned, or until all processes had gone; numbers are inputs that were read.

- joblib has one call, which waits for all of its tasks and fails as a whole: here it is given six. Where only one task may
  fail, it cannot be on target.
- warmpool has one worker and one call, which waits: its tasks are called one after the other. It was told to wait for
  a new worker for 5 seconds, and not for 30.
- A worker of aiomultiprocess takes up to sixteen tasks at once: those that it had are lost together.
- What depends on a race, as the number of tracebacks or which worker was idle, differs from run to run.
- procpool is told to read at most {AHEAD} inputs ahead, and so is concurrent.futures from Python 3.14 on.
"""


def document(cells: Sequence[Cell], rows: Sequence[Row], peers: Sequence[type[Peer]], load: float) -> str:
    """The whole of it. `load` is what else the machine had to do."""
    found = {(cell.row.name, cell.peer.name): cell for cell in cells}
    parts = [
        HEAD,
        "\n".join(table(found, rows, peers)) + "\n",
        words({cell.seen.verdict for cell in cells}),
        NOTES,
        "## The rows\n",
        *(section(row, [found[row.name, peer.name] for peer in peers]) for row in rows),
        tail(peers, load),
    ]
    return "\n".join(parts)


def words(used: set[str]) -> str:
    """What the words mean that the table has."""
    lines = [f"| {word} | {meaning} |" for word, meaning in WORDS.items() if word in used]
    return "\n".join(["| word | meaning |", "|---|---|", *lines]) + "\n"


def table(found: dict[tuple[str, str], Cell], rows: Sequence[Row], peers: Sequence[type[Peer]]) -> Iterator[str]:
    yield line("", map(heading, peers))
    yield line("---", ["---"] * len(peers))
    yield line("**on target**", (score([found[row.name, peer.name] for row in rows]) for peer in peers))
    for row in rows:
        yield line(f"[{row.title}](#{anchor(row.title)})", (short(found[row.name, peer.name]) for peer in peers))


def line(first: str, others: Iterable[str]) -> str:
    return f"| {' | '.join([first, *others])} |"


def heading(peer: type[Peer]) -> str:
    return peer.name.replace(".", ".<br>") if peer.name.startswith("procpool") else peer.name


def short(cell: Cell) -> str:
    return f"{ON_TARGET} {cell.seen.verdict}" if cell.seen.on_target else cell.seen.verdict


def score(cells: Sequence[Cell]) -> str:
    asked = [cell for cell in cells if cell.seen.verdict != "-"]
    return f"**{sum(cell.seen.on_target for cell in asked)} of {len(asked)}**"


def section(row: Row, cells: Sequence[Cell]) -> str:
    """What is done in a row, what should come of it, and what did, same things together."""
    groups: dict[str, list[str]] = {}
    for cell in cells:
        if cell.seen.verdict != "-":
            detail = f" ({cell.seen.detail})" if cell.seen.detail else ""
            groups.setdefault(short(cell) + detail, []).append(cell.peer.name)
    seen = "\n".join(f"- {what}: {', '.join(names)}" for what, names in groups.items())
    return f"### {row.title}\n\n{wrapped(row.text)}\n\n**Target:** {row.target} (`--only {row.name}`)\n\n{seen}\n"


def wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def anchor(title: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def tail(peers: Sequence[type[Peer]], load: float) -> str:
    versions = "\n".join(f"| {peer.name} | `{peer.call}` | {peer.version()} |" for peer in peers)
    method = multiprocessing.get_start_method()
    machine = wrapped(
        f"Python {platform.python_version()}, Linux {platform.release().partition('-')[0]}, "
        f"{len(os.sched_getaffinity(0))} CPUs, with a load of {load:.1f} when the run began. Workers are started as each pool "
        f"does it by default: multiprocessing by {method}. cloudpickle {metadata.version('cloudpickle')} is installed."
    )
    return f"""## Versions

{machine}

| pool | tasks are submitted by | version |
|---|---|---|
{versions}

## Run it again

```sh
make faults                                                             # all of it, in about twelve minutes; writes this page
make faults-check                                                       # procpool's columns, in less than one
scripts/faults.sh python3 --only killed                                 # one row of all pools
scripts/faults.sh python3 --only killed --peer procpool --peer pebble   # some of its cells
scripts/faults.sh python3 --list                                        # the names of rows and pools
```

The program ends with an error if a cell of procpool is not on target. A row is a function in
[tests/faults/rows.py](../tests/faults/rows.py), a pool is a class in [tests/faults/peers.py](../tests/faults/peers.py):
to add one is to write it there.
"""
