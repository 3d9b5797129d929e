"""How `make bench-check` tells what became worse. It runs no benchmark."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

CHECK = Path(__file__).parents[2] / "benches" / "report" / "check.py"

STEADY = [100.0, 101.0, 99.0, 102.0, 98.0]


def write(folder: Path, **rounds: list[float]) -> Path:
    """The results of one case, in which more is better."""
    folder.mkdir()
    facts = {"case": "rust/case", "unit": "tasks/s", "higher_is_better": True, "value": 0.0, "note": ""}
    entries = [{**facts, "contender": contender, "rounds": figures} for contender, figures in rounds.items()]
    (folder / "results.json").write_text(json.dumps(entries))
    return folder


def named(before: Path, now: Path) -> list[str]:
    command = [sys.executable, str(CHECK), str(before), str(now), "--names"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def scaled(figures: list[float], factor: float) -> list[float]:
    return [figure * factor for figure in figures]


def test_a_case_that_fell_behind_all_its_contenders_is_named(tmp_path: Path) -> None:
    before = write(tmp_path / "before", procpool=STEADY, rayon=STEADY, threads=STEADY)
    now = write(tmp_path / "now", procpool=scaled(STEADY, 0.7), rayon=STEADY, threads=STEADY)
    assert named(before, now) == ["rust/case"]


def test_a_machine_that_is_slower_for_all_is_not_a_change(tmp_path: Path) -> None:
    before = write(tmp_path / "before", procpool=STEADY, rayon=STEADY)
    now = write(tmp_path / "now", procpool=scaled(STEADY, 0.5), rayon=scaled(STEADY, 0.5))
    assert named(before, now) == []


def test_a_contender_that_moved_alone_is_not_a_change(tmp_path: Path) -> None:
    before = write(tmp_path / "before", procpool=STEADY, rayon=STEADY, threads=STEADY)
    now = write(tmp_path / "now", procpool=STEADY, rayon=scaled(STEADY, 2), threads=STEADY)
    assert named(before, now) == []


def test_a_fall_within_the_spread_is_not_a_change(tmp_path: Path) -> None:
    before = write(tmp_path / "before", procpool=[60.0, 80.0, 100.0, 120.0, 140.0], rayon=STEADY)
    now = write(tmp_path / "now", procpool=[50.0, 70.0, 85.0, 105.0, 130.0], rayon=STEADY)
    assert named(before, now) == []
