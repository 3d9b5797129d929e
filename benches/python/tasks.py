"""What the workers do. As little as possible: the pools are measured, not this."""

from __future__ import annotations

import os
import signal
from functools import lru_cache
from typing import Any

BIG = 64 << 20


def increment(number: int) -> int:
    return number + 1


def work(steps: int) -> None:
    """Keeps a CPU busy."""
    for _ in range(steps):
        pass


@lru_cache(maxsize=1)
def big_array() -> Any:
    """64 MiB of float64, made once in a process."""
    import numpy as np

    return np.ones(BIG // 8)


@lru_cache(maxsize=1)
def big_bytes() -> bytes:
    """64 MiB, every page of them a page of memory."""
    return b"x" * BIG


def first(array: Any) -> float:
    """Looks at an argument."""
    return float(array[0])


def kept_array(_: int) -> Any:
    """Returns an array that was there before."""
    return big_array()


def same(value: Any) -> Any:
    return value


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
