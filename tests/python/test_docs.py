"""Every Python block of docs/ runs as a program. A text block that follows directly is what it prints."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

DOCS = Path(__file__).parents[2] / "docs"

#: How long a block may take, in seconds. Most need less than one.
LIMIT = 60

BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A program in the docs, and what it prints according to them."""

    place: str
    source: str
    printed: str | None


def blocks() -> list[Block]:
    found = []
    for path in sorted(DOCS.glob("*.md")):
        text = path.read_text()
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start()) + 2
            found.append(Block(f"{path.name}:{line}", match[1], match[2]))
    return found


def without_pids(text: str) -> str:
    return re.sub(r"worker \d+", "worker PID", text)


@pytest.mark.parametrize("block", [pytest.param(block, id=block.place) for block in blocks()])
def test_the_block_runs_and_prints_what_the_docs_say(block: Block, tmp_path: Path) -> None:
    if "import numpy" in block.source and importlib.util.find_spec("numpy") is None:
        pytest.skip("numpy is not installed")
    script = tmp_path / "block.py"
    script.write_text(block.source)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
        pytest.fail(f"{block.place} was killed after {LIMIT} s; it printed {output!r} and {errors!r}")
    assert process.returncode == 0, errors
    if block.printed is not None:
        assert without_pids(output) == without_pids(block.printed)


def test_there_are_blocks() -> None:
    assert len(blocks()) > 10
