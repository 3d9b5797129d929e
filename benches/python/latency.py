"""Latency under half load, in percentiles.

Tasks arrive by the clock, whether or not the pool keeps up, and each latency counts from when its task was due: a pool
that holds up its caller gains nothing by it. Results are taken in order, in another thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from time import perf_counter
from typing import Any, Optional

import tasks
from case import STANDARD_EXECUTOR, STANDARD_POOL, WORKERS, Case, Load, Round, opened
from contenders import POOLS, Contender

#: Seconds.
LENGTH = 1e-3
DISTANCE = 2 * LENGTH / WORKERS
#: Of arrivals, in spells.
DURATION = 5

Arrivals = SimpleQueue[Optional[tuple[float, Callable[[], Any]]]]


def percentile(percent: float, name: str, load: Load) -> Round:
    """Microseconds within which so many percent of the tasks ended."""
    contender = opened(POOLS, name)
    contender.apply(tasks.increment, 0)
    steps = steps_of_a_task()

    def measure() -> float:
        sorted_latencies = sorted(latencies(contender, steps, DURATION * load.spell))
        return sorted_latencies[int((len(sorted_latencies) - 1) * percent / 100)] * 1e6

    return measure


def steps_of_a_task() -> int:
    """How many steps take `LENGTH`: by the best of some tries, since others may have run meanwhile."""

    def seconds(steps: int) -> float:
        start = perf_counter()
        tasks.work(steps)
        return perf_counter() - start

    steps = 10_000
    return int(LENGTH / min(seconds(steps) for _ in range(50)) * steps)


def latencies(contender: Contender, steps: int, duration: float) -> list[float]:
    arrivals: Arrivals = SimpleQueue()
    taken: list[float] = []
    taker = Thread(target=take, args=(arrivals, taken))
    taker.start()
    begun = due = perf_counter()
    while due - begun < duration:
        time.sleep(max(0.0, due - perf_counter()))
        arrivals.put((due, contender.begin(tasks.work, steps)))
        due += DISTANCE
    arrivals.put(None)
    taker.join()
    return taken


def take(arrivals: Arrivals, taken: list[float]) -> None:
    while (arrival := arrivals.get()) is not None:
        due, wait = arrival
        wait()
        taken.append(perf_counter() - due)


def _case(name: str, percent: float) -> Case:
    return Case(
        f"python/latency_half_load_{name}",
        "us",
        False,
        partial(percentile, percent),
        STANDARD_POOL,
        contenders=("procpool", STANDARD_POOL, STANDARD_EXECUTOR),
        most_rounds=3,
        note=f"tasks of {LENGTH * 1e3:g} ms, one every {DISTANCE * 1e3:g} ms, pools of {WORKERS}",
    )


CASES = [_case("p50", 50), _case("p99", 99), _case("p99.9", 99.9)]
