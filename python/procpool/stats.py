"""What a pool does at a moment."""

from __future__ import annotations

from typing import NamedTuple, Optional

from . import _procpool


class WorkerStats(NamedTuple):
    """One worker process."""

    pid: int
    #: Tasks that this process has ended.
    tasks: int
    #: Seconds that its present task has run; None where it has none.
    current_age: Optional[float]
    #: Its own memory in bytes, shared memory not counted; None where the system does not say.
    memory: Optional[int]


class Stats(NamedTuple):
    """A pool's numbers. A task is one call, or one chunk of many; it is counted just after its end was told."""

    accepted: int
    queued: int
    running: int
    #: Tasks that ended with a value.
    done: int
    #: Tasks that ended otherwise.
    failed: int
    #: Workers started in the place of others.
    restarts: int
    #: Attempts at tasks after the first.
    retries: int
    workers: list[WorkerStats]

    @classmethod
    def of(cls, engine: _procpool.Engine) -> Stats:
        """The numbers of this pool, now."""
        numbers = engine.stats()
        return cls(
            accepted=numbers["accepted"],
            queued=numbers["queued"],
            running=numbers["running"],
            done=numbers["done"],
            failed=numbers["failed"],
            restarts=numbers["restarts"],
            retries=numbers["retries"],
            workers=[WorkerStats(*worker) for worker in numbers["workers"]],
        )
