"""What an executor is asked for: `concurrent.futures`' calls, with limits for each."""

from __future__ import annotations

import itertools
import weakref
from concurrent.futures import _base
from functools import partial

from .cache import take_outcomes
from .deadlines import deadline_after, left
from .future import Future
from .submission import APPLY, ONE, SPREAD, STARMAP, checked_buffersize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Iterator, Optional, ParamSpec, TypeVar

    from . import _procpool
    from .cache import Cache
    from .deadlines import Deadline
    from .futures import ProcessPoolExecutor

    P = ParamSpec("P")
    T = TypeVar("T")


class Calls:
    """The calls of an executor, with limits for each."""

    _limits: Optional[_procpool.Limits] = None
    _buffersize: Optional[int] = None

    @property
    def _target(self) -> ProcessPoolExecutor:
        raise NotImplementedError

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Calls `fn(*args, **kwargs)` in a worker; the future is its result."""
        executor = self._target
        executor._check_open()
        call, argument = (APPLY, (args, kwargs)) if kwargs else (SPREAD, args)
        future: Future[T] = Future(executor, executor._submit(call, fn, argument, self._limits))
        executor._pending_work_items.add(id(future), future)
        return future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: Optional[float] = None,
        chunksize: int = 1,
        buffersize: Optional[int] = None,
    ) -> Iterator[T]:
        """An iterator over `map(fn, *iterables)`, computed in the workers.

        Args:
            timeout: seconds from this call after which the iterator raises `TimeoutError`.
            chunksize: so many items are one task.
            buffersize: read only so many items ahead of the results that were taken; all, at this call, if None.
        """
        if type(self).submit is not Calls.submit:
            return self._map_by_submit(fn, *iterables, timeout=timeout, chunksize=chunksize, buffersize=buffersize)
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        buffersize = checked_buffersize(self._buffersize if buffersize is None else buffersize)
        executor = self._target
        executor._check_open()
        deadline = deadline_after(timeout)
        tasks = self._tasks(fn, iterables, chunksize)
        pending = Mapped()
        Pending.add(executor._pending_work_items, pending)
        pending.extend(itertools.islice(tasks, buffersize and -(-buffersize // chunksize)))
        return _results(pending, tasks if buffersize else iter(()), deadline, chunksize)

    def _map_by_submit(self, *args: Any, buffersize: Optional[int], **kwargs: Any) -> Iterator[Any]:
        """The standard library's `map`, which calls `submit`: for a subclass that has changed that."""
        from concurrent.futures import process as standard

        standard_map: Callable[..., Iterator[Any]] = standard.ProcessPoolExecutor.map
        # It takes a buffersize from CPython 3.14 on.
        given = {} if buffersize is None else {"buffersize": buffersize}
        return standard_map(self, *args, **kwargs, **given)

    def _tasks(self, fn: Callable[..., Any], iterables: tuple[Iterable[Any], ...], chunksize: int) -> Iterator[Any]:
        executor = self._target
        submit = partial(executor._submit, limits=self._limits)
        if chunksize > 1:
            items = zip(*iterables)
            while chunk := list(itertools.islice(items, chunksize)):
                yield submit(STARMAP, fn, chunk)
        elif len(iterables) == 1:
            for item in iterables[0]:
                yield submit(ONE, fn, item)
        else:
            for arguments in zip(*iterables):
                yield submit(SPREAD, fn, arguments)


class Options(Calls):
    """An executor's calls with limits."""

    def __init__(
        self, executor: ProcessPoolExecutor, limits: Optional[_procpool.Limits], buffersize: Optional[int]
    ) -> None:
        self._owner = executor
        self._limits = limits
        self._buffersize = checked_buffersize(buffersize)

    @property
    def _target(self) -> ProcessPoolExecutor:
        return self._owner


class Mapped(list["Any"]):
    """The tasks of one `map` whose results were not given yet. They go with the iterator."""


class Pending:
    """Stands for them among the executor's pending futures."""

    def __init__(self, tasks: Mapped, forget: Callable[[Any], object]) -> None:
        self._tasks = weakref.ref(tasks, forget)

    @classmethod
    def add(cls, cache: Cache, tasks: Mapped) -> None:
        """Puts `tasks` there until nobody has them any more."""
        key = id(tasks)
        cache.add(key, cls(tasks, lambda _: cache.pop(key, None)))

    def unended(self) -> list[Any]:
        return [task for task in list(self._tasks() or ()) if not task.is_ended()]

    def _settle_if_ended(self) -> None:
        pass

    def _take_ended(self) -> None:
        take_outcomes(self._tasks() or ())


def _results(pending: list[Any], more: Iterator[Any], deadline: Deadline, chunksize: int) -> Iterator[Any]:
    pending.reverse()
    try:
        while pending:
            outcome = pending[-1].outcome(left(deadline))
            if outcome is None:
                raise _base.TimeoutError()
            pending.pop()
            pending[:0] = itertools.islice(more, 1)
            if chunksize > 1:
                yield from _value_of([outcome])
            else:
                # Nothing here may keep what the caller has taken.
                taken, outcome = [outcome], None
                yield _value_of(taken)
    finally:
        for task in pending:
            task.cancel()


def _value_of(taken: list[tuple[bool, Any]]) -> Any:
    success, value = taken.pop()
    if success:
        return value
    try:
        raise value
    finally:
        # No cycle through the frame of the traceback.
        del value
