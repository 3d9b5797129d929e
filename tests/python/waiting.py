"""Bounded waits for what other processes and threads do."""

from __future__ import annotations

import time
from typing import Callable

#: Longer than anything takes on a loaded machine, in seconds. A wait that lasts so long has failed.
LONG = 60.0


def wait_until(condition: Callable[[], object], what: str, seconds: float = LONG) -> None:
    """Waits until `condition` is true; fails the test with `what` if it never is."""
    deadline = time.monotonic() + seconds
    pause = 0.001
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain: {what}")
        time.sleep(pause)
        pause = min(0.05, pause * 1.5)
