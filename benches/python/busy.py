"""A machine whose CPUs are all taken by other work: what a task costs then, in time and in CPU time.

Whoever spins while others could run pays for it here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter

import tasks
from case import STANDARD_POOL, Case, Load, Round, opened
from contenders import POOLS, Contender

#: Does a step of so many tasks.
Step = Callable[[Contender], int]


def burst(contender: Contender) -> int:
    contender.apply_async(tasks.increment, range(1_000))
    return 1_000


def one_by_one(contender: Contender) -> int:
    for number in range(10):
        contender.apply(tasks.increment, number)
    return 10


def tasks_per_second(step: Step, name: str, load: Load) -> Round:
    return partial(measured, step, opened(POOLS, name), load, lambda done, seconds, cpu: done / seconds)


def cpu_per_task(step: Step, name: str, load: Load) -> Round:
    """Microseconds of CPU time, of the caller and its workers."""
    return partial(measured, step, opened(POOLS, name), load, lambda done, seconds, cpu: cpu / done * 1e6)


def measured(step: Step, contender: Contender, load: Load, figure: Callable[[int, float, float], float]) -> float:
    """Takes steps for a spell beside the burners, and gives the figure for tasks done, seconds and seconds of CPU time."""
    step(contender)
    with burners() as others:
        done = 0
        cpu = cpu_time(others)
        start = perf_counter()
        while (seconds := perf_counter() - start) < 2 * load.spell:
            done += step(contender)
        return figure(done, seconds, cpu_time(others) - cpu)


@contextmanager
def burners() -> Iterator[set[int]]:
    """Keeps every CPU busy, each with a process; gives their ids."""
    program = "print(flush=True)\nwhile True: pass"
    started = [
        subprocess.Popen([sys.executable, "-S", "-c", program], stdout=subprocess.PIPE) for _ in os.sched_getaffinity(0)
    ]
    try:
        for burner in started:
            assert burner.stdout is not None
            burner.stdout.readline()
        yield {burner.pid for burner in started}
    finally:
        for burner in started:
            burner.kill()
            burner.communicate()


def cpu_time(others: set[int]) -> float:
    """Seconds of CPU time of this process and its descendants, without `others`."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = re.search(r"^PPid:\s*(\d+)", (folder / "status").read_text(), re.MULTILINE)
        except OSError:
            continue  # It has ended meanwhile.
        if parent:
            children.setdefault(int(parent[1]), []).append(int(folder.name))
    total = 0.0
    found = [os.getpid()]
    for process in found:
        found += set(children.get(process, ())) - others
        # The clock of a process's CPU time, as clock_getcpuclockid(3) makes it.
        total += time.clock_gettime((~process << 3) | 2)
    return total


def _case(name: str, unit: str, higher_is_better: bool, prepare: Callable[[str, Load], Round]) -> Case:
    note = "beside a process on each CPU that only burns time"
    contenders = ("procpool", STANDARD_POOL)
    return Case(f"python/{name}", unit, higher_is_better, prepare, STANDARD_POOL, contenders=contenders, note=note)


CASES = [
    _case("busy_apply_async", "tasks/s", True, partial(tasks_per_second, burst)),
    _case("busy_apply_async_cpu", "us CPU/task", False, partial(cpu_per_task, burst)),
    _case("busy_apply", "tasks/s", True, partial(tasks_per_second, one_by_one)),
    _case("busy_apply_cpu", "us CPU/task", False, partial(cpu_per_task, one_by_one)),
]
