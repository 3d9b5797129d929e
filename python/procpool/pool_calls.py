"""What a pool is asked for: `multiprocessing.Pool`'s calls, with limits for each."""

from __future__ import annotations

import threading
from functools import partial
from multiprocessing.pool import RUN  # type: ignore[attr-defined]

from .chunks import AHEAD, Pace, batches, checked_chunksize, guided
from .iterators import Chunked, IMapIterator, IMapUnorderedIterator
from .results import ApplyResult, MapResult
from .submission import (
    APPLY,
    MAP,
    ONE,
    SPREAD,
    STARMAP,
    STRIDE,
    FailedInput,
    FailedTask,
    checked_buffersize,
    submit_each,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.pool import IMapIterator as Results
    from typing import Any, Callable, Iterable, Iterator, Optional, TypeVar

    from . import _procpool
    from .chunks import Chunksize
    from .pool import Pool

    S = TypeVar("S")
    T = TypeVar("T")


class Calls:
    """The calls of a pool, with limits for each."""

    _limits: Optional[_procpool.Limits] = None
    _buffersize: Optional[int] = None

    @property
    def _target(self) -> Pool:
        raise NotImplementedError

    # ---- one task ----

    def apply(self, func: Callable[..., T], args: Iterable[Any] = (), kwds: Any = {}) -> T:
        """Calls `func(*args, **kwds)` in a worker and gives what it returns."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Any = {},
        callback: Optional[Callable[[T], object]] = None,
        error_callback: Optional[Callable[[BaseException], object]] = None,
    ) -> ApplyResult[T]:
        """As `apply`, but goes on at once. A callback is called in a thread of the pool, with the value or the error."""
        pool = self._target
        pool._check_running()
        result: ApplyResult[T] = ApplyResult(pool, callback, error_callback)
        call, argument = (APPLY, (args, kwds)) if kwds else (SPREAD, args)
        result._begin(pool._submit(call, func, argument, self._limits))
        return result

    # ---- many ----

    def map(self, func: Callable[[S], T], iterable: Iterable[S], chunksize: Optional[Chunksize] = None) -> list[T]:
        """`[func(item) for item in iterable]`, in the workers. So many items are one task; by default a quarter of a worker's
        share, and with "auto" more and smaller ones, lest workers idle at the end where items cost unevenly."""
        return self.map_async(func, iterable, chunksize).get()

    def map_async(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S],
        chunksize: Optional[Chunksize] = None,
        callback: Optional[Callable[[list[T]], object]] = None,
        error_callback: Optional[Callable[[BaseException], object]] = None,
    ) -> MapResult[T]:
        """As `map`, but goes on at once."""
        return self._map_async(ONE, MAP, func, iterable, chunksize, callback, error_callback)

    def starmap(
        self, func: Callable[..., T], iterable: Iterable[Iterable[Any]], chunksize: Optional[Chunksize] = None
    ) -> list[T]:
        """`[func(*item) for item in iterable]`, in the workers."""
        return self.starmap_async(func, iterable, chunksize).get()

    def starmap_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: Optional[Chunksize] = None,
        callback: Optional[Callable[[list[T]], object]] = None,
        error_callback: Optional[Callable[[BaseException], object]] = None,
    ) -> MapResult[T]:
        """As `starmap`, but goes on at once."""
        return self._map_async(SPREAD, STARMAP, func, iterable, chunksize, callback, error_callback)

    def _map_async(
        self,
        call_one: int,
        call_many: int,
        func: Callable[..., T],
        iterable: Iterable[Any],
        chunksize: Optional[Chunksize],
        callback: Optional[Callable[[list[T]], object]],
        error_callback: Optional[Callable[[BaseException], object]],
    ) -> MapResult[T]:
        pool = self._target
        pool._check_running()
        if not hasattr(iterable, "__len__"):
            iterable = list(iterable)
        workers = max(1, len(pool._pool))
        if chunksize is None:
            chunksize, extra = divmod(len(iterable), workers * 4)  # type: ignore[arg-type]
            chunksize = max(1, chunksize + bool(extra))
        chunksize = checked_chunksize(chunksize)
        result: MapResult[T] = MapResult(pool, chunksize, callback, error_callback)
        if chunksize == 1:
            call, arguments = call_one, iterable
        elif chunksize == "auto":
            length = len(iterable)  # type: ignore[arg-type]
            call, arguments = call_many, guided(iterable, length, workers)
        else:
            call, arguments = call_many, batches(iterable, chunksize)
        try:
            with pool._feeders.calling():
                for _ in self._submit_each(call, func, arguments, result._tasks.append):
                    pass
        except BaseException:
            # Interrupted: nobody gets this result.
            pool._cache.pop(result._job, None)
            raise
        result._begin_all()
        return result

    def _tasks(self, call: int, func: Callable[..., Any], arguments: Iterable[Any]) -> Iterator[Any]:
        """Submits what there is to do, one task at a time, and gives each."""
        taken: list[Any] = []
        for _ in self._submit_each(call, func, arguments, taken.append, most=1):
            yield taken.pop()

    def _submit_each(
        self,
        call: int,
        func: Callable[..., Any],
        arguments: Iterable[Any],
        keep: Callable[[Any], object],
        most: int = STRIDE,
    ) -> Iterator[None]:
        """Submits what there is to do, step by step. Where the input itself goes wrong, that is the last task."""
        pool = self._target
        try:
            yield from submit_each(pool._engine, pool._cache, call, func, arguments, self._limits, keep, most)
        except Exception as error:
            keep(FailedInput(error, pool._engine))
            yield

    # ---- iterators ----

    def imap(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S],
        chunksize: Chunksize = 1,
        buffersize: Optional[int] = None,
    ) -> Results[T]:
        """An iterator over the results, in order. The input is read as fast as it comes; with `buffersize`, only that
        many items ahead of the results that were taken. With the chunk size "auto", chunks grow until one takes about a
        millisecond, and the input is read as fast as workers need it."""
        return self._imap(IMapIterator, func, iterable, chunksize, buffersize)

    def imap_unordered(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S],
        chunksize: Chunksize = 1,
        buffersize: Optional[int] = None,
    ) -> Results[T]:
        """As `imap`, but gives the results in the order in which they arrive."""
        return self._imap(IMapUnorderedIterator, func, iterable, chunksize, buffersize)

    def _imap(
        self,
        kind: type[IMapIterator],
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: Chunksize,
        buffersize: Optional[int],
    ) -> Results[Any]:
        pool = self._target
        pool._check_running()
        chunksize = checked_chunksize(chunksize)
        buffersize = checked_buffersize(self._buffersize if buffersize is None else buffersize)
        iterator = kind(pool)
        steps: Iterator[None]
        if chunksize == "auto":
            workers = max(1, len(pool._pool))
            ahead = min(AHEAD * workers, buffersize or AHEAD * workers)
            pace = Pace(workers, ahead, buffersize and buffersize // ahead)
            tasks = pace.tasks(partial(self._tasks, MAP, func), iterable)
            steps = map(iterator._append, tasks)
        else:
            ahead = -(-(buffersize or 0) // chunksize)
            call, arguments = (ONE, iterable) if chunksize == 1 else (MAP, batches(iterable, chunksize))
            tasks = self._tasks(call, func, arguments)
            steps = self._submit_each(call, func, arguments, iterator._append)
        if buffersize is None:
            pool._feeders.feed(pool._engine, steps, iterator)
        else:
            _feed_as_taken(pool, tasks, iterator, ahead)
        return iterator if chunksize == 1 else Chunked(iterator)  # type: ignore[return-value]


class Options(Calls):
    """A pool's calls with limits."""

    def __init__(self, pool: Pool, limits: Optional[_procpool.Limits], buffersize: Optional[int]) -> None:
        self._owner = pool
        self._limits = limits
        self._buffersize = checked_buffersize(buffersize)

    @property
    def _target(self) -> Pool:
        return self._owner


def _feed_as_taken(pool: Pool, tasks: Iterator[Any], iterator: IMapIterator, ahead: int) -> None:
    """Lets `iterator` read its own input, a task for each that it gives."""
    lock = threading.RLock()

    def pull() -> bool:
        with lock:
            iterator._reader = threading.get_ident()
            try:
                task = next(tasks, None)
            except BaseException as error:
                # An interrupt ends the reading for good; at the end it is told that this was not all.
                iterator._append(FailedInput(error, pool._engine))
                iterator._end_input()
                raise
            finally:
                iterator._reader = None
            if task is None:
                iterator._end_input()
                return False
        iterator._append(task)
        if pool._state != RUN and isinstance(task, FailedTask):
            # It takes nothing any more. That is said once, in the place of the first item that it did not take.
            iterator._end_input()
            return False
        return True

    iterator._pull = pull
    for _ in range(ahead):
        if not pull():
            iterator._pull = None
            break
