"""What the project wants to reach, as so many times as good as another."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    case: str
    factor: float
    contender: str = "multiprocessing"


GOALS = [
    Goal("apply", 20),
    Goal("apply_async", 10),
    Goal("map_chunksize1", 15),
    Goal("imap", 10),
    Goal("imap_unordered", 10),
    Goal("map_default", 1.3),
    Goal("submit", 20, "concurrent.futures"),
    Goal("executor_map", 20, "concurrent.futures"),
    Goal("argument_64MiB", 20),
    Goal("argument_64MiB", 0.6, "memcpy"),
    Goal("result_64MiB", 20),
    Goal("result_64MiB", 0.6, "memcpy"),
    Goal("start_to_first_result_fork", 1),
    Goal("start_to_first_result_forkserver", 1),
    Goal("start_to_first_result_spawn", 1),
    Goal("replace_dead_worker", 1),
    Goal("import", 1 / 1.2),
    Goal("latency_half_load_p50", 1),
    Goal("latency_half_load_p99", 1),
    Goal("latency_half_load_p99.9", 1),
    Goal("busy_apply_async", 1),
    Goal("busy_apply_async_cpu", 1),
    Goal("busy_apply", 1),
    Goal("busy_apply_cpu", 1),
]
