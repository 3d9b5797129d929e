"""Kills the program itself, at random instants, while its workers are busy, idle, starting and stopped: all of them have to go."""

from __future__ import annotations

import os
import random
import tempfile
import time
from pathlib import Path
from typing import Optional

from programs import Program
from waiting import LONG, wait_until

#: How long a program lives, in seconds.
LIFE = (0.3, 4.0)

#: The same, if whoever was to kill it is killed.
ALONE = 60


def run(seconds: float, seed: int) -> int:
    """Does so for so long; prints a line, and gives the status."""
    with tempfile.TemporaryDirectory() as folder:
        # Who is killed removes nothing.
        os.environ["TMPDIR"] = folder
        return _run(seconds, seed)


def _run(seconds: float, seed: int) -> int:
    rng = random.Random(f"parents {seed}")
    until = time.monotonic() + seconds
    parents, workers, longest = 0, 0, 0.0
    violation: Optional[str] = None
    while violation is None and time.monotonic() < until:
        program = Program(str(Path(__file__).parent), str(ALONE), "0", str(rng.randrange(1 << 30)))
        time.sleep(rng.uniform(*LIFE))
        workers += len(program.members()) - 1
        parents += 1
        program.process.kill()
        killed = time.monotonic()
        try:
            wait_until(lambda program=program: not program.members(), "all processes have gone", LONG)
        except AssertionError as error:
            violation = f"{error}; left are {program.members()} of the program with pid {program.pid}"
            program.kill()
        longest = max(longest, time.monotonic() - killed)
        program.process.communicate()
    print(
        f"chaos: seed {seed}, {seconds:g} s, {parents} programs killed with {workers} processes, "
        f"all gone within {longest:.2f} s; {int(violation is not None)} violations"
    )
    if violation is not None:
        print(violation)
    return int(violation is not None)
