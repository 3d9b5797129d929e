"""The process of one cell: `python cell.py ROW PEER`. What it has seen is in the file `seen` then."""

from __future__ import annotations

import json
import os
import sys
import traceback
from dataclasses import asdict
from pathlib import Path

import peers
import rows
from peer import Missing
from processes import NotBegun
from verdicts import Seen


def main(row: str, peer: str) -> None:
    try:
        seen = rows.ALL[row].look(peers.ALL[peer])
    except Missing as missing:
        seen = Seen("-", False, f"has no {missing}")
    except NotBegun as reason:
        seen = Seen("?", False, str(reason))
    except Exception as error:
        traceback.print_exc()
        seen = Seen("error", False, type(error).__name__)
    Path("seen.new").write_text(json.dumps(asdict(seen)))
    Path("seen.new").rename("seen")
    # Pools that hang do so at the end of the interpreter as well.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
