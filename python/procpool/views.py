"""What programs use of the standard library's private parts, where procpool has nothing of the kind: it is made when it is
looked at, of what there is."""

from __future__ import annotations

import itertools

from . import _procpool
from .submission import APPLY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator, Optional

    from .pool import Pool
    from .results import ApplyResult


class EndEvent:
    """A result's end, as the `threading.Event` that the standard library has there."""

    def __init__(self, result: ApplyResult[Any]) -> None:
        self._result = result

    def is_set(self) -> bool:
        return self._result.ready()

    def wait(self, timeout: Optional[float] = None) -> bool:
        self._result.wait(timeout)
        return self._result.ready()


class TaskQueue:
    """The standard library's queue of tasks, for programs that look at it or feed it."""

    def __init__(self, pool: Pool) -> None:
        self._cache = pool._cache
        self._pool = pool

    def qsize(self) -> int:
        """Calls that no worker has taken up."""
        return self._pool._engine.stats()["queued"]

    def empty(self) -> bool:
        return self.qsize() == 0

    def put(self, item: Any) -> None:
        """Takes what programs put there that have a map of their own: a generator of tasks, and who is told how many."""
        tasks, set_length = item
        pool = self._pool
        cache = self._cache

        job, first = None, next(iter(tasks), None)
        if first is not None:
            job = first[0]
            tasks = itertools.chain([first], tasks)
        iterator = dict.get(cache, job) if job is not None else None
        if iterator is None:
            set_length(0) if set_length else None
            return
        keep = iterator._append

        def submit_all() -> Iterator[None]:
            for _job, _index, func, args, kwds in tasks:
                yield keep(pool._submit(APPLY, func, (args, kwds)))

        pool._feeders.feed(pool._engine, submit_all(), iterator)


class Backlog:
    """What waits for a worker, as the queue that the standard library has there."""

    def __init__(self, engine: Optional[_procpool.Engine]) -> None:
        self._engine = engine

    def qsize(self) -> int:
        """Calls that no worker has taken up."""
        return 0 if self._engine is None else self._engine.stats()["queued"]

    def close(self) -> None:
        """Nothing is to be closed."""

    def join_thread(self) -> None:
        """No thread feeds it."""
