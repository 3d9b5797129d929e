"""What is measured: each case prepares a contender and returns what measures it once."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from time import perf_counter
from typing import Any, Optional

import busy
import latency
import tasks
from case import NO_TASKS, STANDARD_EXECUTOR, STANDARD_POOL, WORKERS, Case, Load, Round, opened
from contenders import EXECUTORS, IMPORTS, POOLS, Contender, Missing, Open

GIBIBYTES = tasks.BIG / (1 << 30)


# ---- tiny tasks ----


def one_by_one(call: str, table: dict[str, Open], name: str, load: Load) -> Round:
    """Microseconds per call that waits for its value, over calls made for a spell."""
    call_one = getattr(opened(table, name), call)

    def measure() -> float:
        calls = 0
        start = perf_counter()
        while True:
            for number in range(10):
                call_one(tasks.increment, number)
            calls += 10
            elapsed = perf_counter() - start
            if elapsed >= load.spell:
                return elapsed / calls * 1e6

    return measure


def throughput(call: str, table: dict[str, Open], name: str, load: Load) -> Round:
    """Tasks per second, over whole calls with all tasks, made for a spell."""
    call_many = getattr(opened(table, name), call)

    def measure() -> float:
        done = 0
        start = perf_counter()
        while True:
            values: Optional[Iterable[Any]] = call_many(tasks.increment, range(load.tiny_tasks))
            if values is not None:
                deque(values, maxlen=0)
            done += load.tiny_tasks
            elapsed = perf_counter() - start
            if elapsed >= load.spell:
                return done / elapsed

    return measure


# ---- big buffers ----


def transfers(transfer: Callable[[Contender], Any], gibibytes: float, name: str, load: Load) -> Round:
    """GiB per second: the median over single transfers made for a spell.

    What arrived is dropped outside of the time that counts: to give memory back takes about as long as to copy it.
    """
    if name == "memcpy":
        transfer, gibibytes, contender = copy_in_memory, GIBIBYTES, Contender()
    else:
        contender = opened(POOLS, name)

    def measure() -> float:
        figures: list[float] = []
        start = perf_counter()
        while perf_counter() - start < 2 * load.spell:
            before = perf_counter()
            received = transfer(contender)
            figures.append(gibibytes / (perf_counter() - before))
            del received
        return statistics.median(figures)

    return measure


def send_array(contender: Contender) -> Any:
    return contender.apply(tasks.first, tasks.big_array())


def receive_array(contender: Contender) -> Any:
    return contender.apply(tasks.kept_array, 0)


def send_and_receive_bytes(contender: Contender) -> Any:
    return contender.apply(tasks.same, tasks.big_bytes())


def copy_in_memory(_: Contender) -> None:
    """One copy within the process, to memory that was touched before: no transfer that copies is faster."""
    memoryview(copied())[:] = tasks.big_bytes()


@lru_cache(maxsize=1)
def copied() -> bytearray:
    return bytearray(tasks.big_bytes())


# ---- beginnings and ends ----


def start_to_first_result(start_method: str, name: str, load: Load) -> Round:
    """Milliseconds from making a pool, the first of its process, to its first result. Imports are not counted."""
    if name not in POOLS:
        raise Missing(NO_TASKS)
    exec(IMPORTS.get(name, ""))

    def measure() -> float:
        start = perf_counter()
        contender = POOLS[name](WORKERS, start_method)
        contender.apply(tasks.increment, 1)
        elapsed = perf_counter() - start
        contender.close()
        return elapsed * 1e3

    return measure


#: In one round of `importing`, which is their median: one start takes little time, and varies.
STARTS = 5


def importing(name: str, load: Load) -> Round:
    """Milliseconds of the import in a new interpreter."""
    if name not in IMPORTS:
        raise Missing("has no import of its own")
    program = f"import time; start = time.perf_counter()\n{IMPORTS[name]}\nprint(time.perf_counter() - start)"

    def measure() -> float:
        starts = [float(subprocess.check_output([sys.executable, "-c", program])) for _ in range(STARTS)]
        return statistics.median(starts) * 1e3

    return measure


#: How many results `replace_dead_worker` waits for.
AFTERWARDS = 10


def replace_dead_worker(name: str, load: Load) -> Round:
    """Milliseconds from a call that kills the only worker to the last value of the calls after it."""
    contender = opened(POOLS, name, workers=1)

    def measure() -> float:
        contender.apply(tasks.increment, 0)
        start = perf_counter()
        contender.begin(tasks.die, 0)
        for number in range(AFTERWARDS):
            contender.apply(tasks.increment, number)
        return (perf_counter() - start) * 1e3

    return measure


# ---- all of them ----


def _tasks_per_second(name: str, table: dict[str, Open], baseline: str) -> Case:
    return Case(f"python/{name}", "tasks/s", True, partial(throughput, name, table), baseline)


def _buffers(name: str, transfer: Callable[[Contender], Any], gibibytes: float, note: str) -> Case:
    prepare = partial(transfers, transfer, gibibytes)
    return Case(f"python/{name}", "GiB/s", True, prepare, STANDARD_POOL, note=note)


def _start(start_method: str) -> Case:
    return Case(
        f"python/start_to_first_result_{start_method}",
        "ms",
        False,
        partial(start_to_first_result, start_method),
        STANDARD_POOL,
        fresh=True,
    )


_JOBLIB_KEEPS = "joblib writes an array to a file once, and sends it by name when it is sent again"

ALL = [
    Case("python/apply", "us", False, partial(one_by_one, "apply", POOLS), STANDARD_POOL),
    _tasks_per_second("apply_async", POOLS, STANDARD_POOL),
    _tasks_per_second("map_default", POOLS, STANDARD_POOL),
    _tasks_per_second("map_chunksize1", POOLS, STANDARD_POOL),
    _tasks_per_second("imap", POOLS, STANDARD_POOL),
    _tasks_per_second("imap_unordered", POOLS, STANDARD_POOL),
    _tasks_per_second("submit", EXECUTORS, STANDARD_EXECUTOR),
    Case(
        "python/submit_roundtrip",
        "us",
        False,
        partial(one_by_one, "submit_roundtrip", EXECUTORS),
        STANDARD_EXECUTOR,
    ),
    _tasks_per_second("executor_map", EXECUTORS, STANDARD_EXECUTOR),
    _start("fork"),
    _start("forkserver"),
    _start("spawn"),
    _buffers("argument_64MiB", send_array, GIBIBYTES, _JOBLIB_KEEPS),
    _buffers("result_64MiB", receive_array, GIBIBYTES, "an array that the worker had before"),
    _buffers("bytes_64MiB", send_and_receive_bytes, 2 * GIBIBYTES, "there and back, both counted"),
    Case(
        "python/import",
        "ms",
        False,
        importing,
        STANDARD_POOL,
        note=f"in new interpreters: the median of {STARTS} starts",
    ),
    Case(
        "python/replace_dead_worker",
        "ms",
        False,
        replace_dead_worker,
        STANDARD_POOL,
        note=f"from a task that kills the only worker to the {AFTERWARDS}th result after it; in multiprocessing, billiard "
        "and mpire the task that died never ends",
    ),
    *latency.CASES,
    *busy.CASES,
]
