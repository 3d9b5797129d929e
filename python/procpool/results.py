"""The caller's end of calls: results of one task, of many, and iterators over them.

Nothing stands between a waiting caller and its task: `get` waits for the task itself. Only results with callbacks are
settled by a thread of the pool.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from multiprocessing import TimeoutError, pool as _standard
from types import GenericAlias

from . import _procpool
from .deadlines import deadline_after, left, time_is_over

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Generator, Optional

    from .chunks import Chunksize

    Outcome = tuple[bool, Any]

job_counter = itertools.count()


class FailedTask:
    """Stands in the place of a task that could not be sent."""

    function = None
    ticket = None

    def __init__(self, error: BaseException, engine: Optional[_procpool.Engine] = None) -> None:
        self.error = error
        self._outcome: Outcome = (False, error)
        self._engine = engine

    def wait(self, timeout: Optional[float] = None) -> bool:
        return True

    def outcome(self, timeout: Optional[float] = None) -> Outcome:
        return self._outcome

    def is_ended(self) -> bool:
        return True

    def is_running(self) -> bool:
        return False

    def cancel(self, running: bool = False) -> bool:
        return False

    def notify(self, notice: Callable[[], None]) -> None:
        if self._engine is None:
            notice()
        else:
            self._engine.notify(notice)


class FailedInput(FailedTask):
    """Stands in the place of items that could not be read: after all that were read before."""


class Cache(dict[int, "Any"]):
    """The results that are not settled, by job. What it says is true at the moment when it is asked."""

    #: With so many entries it is looked over for jobs that have ended meanwhile.
    limit = 1024

    def add(self, job: int, result: Any) -> None:
        self[job] = result
        if dict.__len__(self) > self.limit:
            self.settle_ended()
            self.limit = 2 * dict.__len__(self) + 1024

    def settle_ended(self) -> None:
        """Forgets what has ended."""
        for result in list(dict.values(self)):
            result._settle_if_ended()

    def take_ended(self) -> None:
        """Takes all outcomes that are there out of the pool's memory, to make room."""
        for result in list(dict.values(self)):
            result._take_ended()

    def __len__(self) -> int:
        self.settle_ended()
        return dict.__len__(self)

    def __bool__(self) -> bool:
        return len(self) > 0

    def __iter__(self) -> Any:
        self.settle_ended()
        return dict.__iter__(self)

    def keys(self) -> Any:
        self.settle_ended()
        return dict.keys(self)

    def values(self) -> Any:
        self.settle_ended()
        return dict.values(self)

    def items(self) -> Any:
        self.settle_ended()
        return dict.items(self)


class ApplyResult(_standard.ApplyResult):  # type: ignore[type-arg]
    """The result of one call.

    `get` gives the value, or raises what the task raised; always the same object. It can be awaited as well.
    """

    __class_getitem__: Any = classmethod(GenericAlias)

    _outcome: Optional[Outcome] = None
    #: Set once callbacks were called; None for results that have none.
    _settled: Optional[threading.Event] = None

    def __init__(
        self,
        pool: Any,
        callback: Optional[Callable[[Any], object]] = None,
        error_callback: Optional[Callable[[BaseException], object]] = None,
    ) -> None:
        self._pool = pool
        self._job = next(job_counter)
        self._callback = callback
        self._error_callback = error_callback
        self._task: Any = None
        pool._cache.add(self._job, self)

    # ---- the way of an outcome ----

    def _begin(self, task: Any) -> None:
        """The task was accepted, or could not be."""
        self._task = task
        if self._callback is not None or self._error_callback is not None:
            self._serve_callbacks(task)

    def _serve_callbacks(self, first: Any) -> None:
        self._settled = threading.Event()
        self._awaiting: list[Callable[[], None]] = []
        self._pool._serve_notices()
        # Also where it has ended already: callbacks are called by one thread alone.
        first.notify(self._await_tasks)

    def _await_tasks(self) -> None:
        """In the notices' thread, whenever a task that was waited for has ended."""
        waits_for = self._unended()
        if waits_for is not None:
            waits_for.notify(self._await_tasks)
        else:
            self._call_back()

    def _unended(self) -> Any:
        """A task that has not ended, if there is one."""
        return None if self._task.is_ended() else self._task

    def _collect(self, deadline: Optional[float]) -> Optional[Outcome]:
        """Waits for the outcome; None when the time was over first."""
        outcome: Optional[Outcome] = self._task.outcome(left(deadline))
        return outcome

    def _call_back(self) -> None:
        outcome = self._collect(None)
        assert outcome is not None
        success, value = outcome
        try:
            if success and self._callback is not None:
                self._callback(value)
            elif not success and self._error_callback is not None:
                self._error_callback(value)
        except BaseException as error:
            # What a callback raises is the caller's to see. The task's own error is its context.
            if not success:
                _add_context(error, value)
            outcome = False, error
        self._finish(outcome)

    def _finish(self, outcome: Outcome) -> None:
        self._outcome = outcome
        pool, self._pool = self._pool, None
        if pool is not None:
            pool._cache.pop(self._job, None)
        self._callback = self._error_callback = None
        if self._settled is not None:
            self._settled.set()
            for notice in self._awaiting:
                notice()

    def _settle_if_ended(self) -> None:
        if self._outcome is None and self._settled is None and self.ready():
            self._wait_outcome(0)

    def _take_ended(self) -> None:
        self._settle_if_ended()

    def _wait_outcome(self, timeout: Optional[float]) -> Optional[Outcome]:
        if self._settled is not None and not self._is_in_callback():
            self._settled.wait(timeout)
            return self._outcome
        outcome = self._collect(deadline_after(timeout))
        if outcome is not None and self._settled is None:
            self._finish(outcome)
        return outcome

    def _is_in_callback(self) -> bool:
        """In a callback of its own a result has a value, though the callback has not ended."""
        pool = self._pool
        return pool is not None and pool._is_in_callback() and self._unended() is None

    # ---- for callers ----

    def ready(self) -> bool:
        """Whether the call has ended, and its callback."""
        if self._outcome is not None:
            return True
        if self._settled is not None:
            return self._settled.is_set()
        return self._task is not None and self._unended() is None

    def successful(self) -> bool:
        """Whether it ended with a value. Raises ValueError while it has not ended."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        outcome = self._outcome or self._wait_outcome(None)
        assert outcome is not None
        return outcome[0]

    def wait(self, timeout: Optional[float] = None) -> None:
        """Waits for the end, for at most `timeout` seconds."""
        if self._outcome is None:
            self._wait_outcome(timeout)

    def get(self, timeout: Optional[float] = None) -> Any:
        """The value, or raises what the task raised; `multiprocessing.TimeoutError` after `timeout` seconds."""
        outcome = self._outcome
        if outcome is None:
            outcome = self._wait_outcome(timeout)
            if outcome is None:
                raise TimeoutError
        success, value = outcome
        if success:
            return value
        try:
            raise value
        finally:
            # No cycle through the frame of the traceback.
            del value, outcome

    def cancel(self, running: bool = False) -> bool:
        """Takes the call off the queue. With `running`, also ends the worker that runs it, and no other. True if it was
        cancelled by that: then `get` raises `CancelledError`."""
        if self._outcome is not None or self._task is None:
            return False
        cancelled: bool = self._task.cancel(running)
        return cancelled

    def __await__(self) -> Generator[Any, None, Any]:
        import asyncio

        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        def tell() -> None:
            if not ended.done():
                ended.set_result(None)

        def notice() -> None:
            try:
                loop.call_soon_threadsafe(tell)
            except RuntimeError:
                # The loop was closed: nobody waits any more.
                pass

        self._notify_all(notice)
        yield from ended
        return self.get()

    def _notify_all(self, notice: Callable[[], None]) -> None:
        pool = self._pool
        if self._settled is not None:
            # By the thread that calls its callbacks, after them.
            self._awaiting.append(notice)
        if self._outcome is not None or pool is None:
            notice()
            return
        if self._settled is not None:
            return
        pool._serve_notices()

        def proceed() -> None:
            waits_for = self._unended()
            if waits_for is None:
                notice()
            else:
                waits_for.notify(proceed)

        proceed()

    # ---- what programs read of the standard library's results ----

    def _seen(self) -> Optional[Outcome]:
        if self._outcome is None and self.ready():
            self._wait_outcome(None)
        return self._outcome

    @property
    def _success(self) -> bool:
        outcome = self._seen()
        return outcome is not None and outcome[0]

    @property
    def _value(self) -> Any:
        outcome = self._seen()
        return None if outcome is None else outcome[1]

    @property
    def _cache(self) -> Any:
        return {} if self._pool is None else self._pool._cache

    @property
    def _event(self) -> _Event:
        return _Event(self)


AsyncResult = ApplyResult


class _Event:
    """A result's end, as the `threading.Event` that the standard library has there."""

    def __init__(self, result: ApplyResult) -> None:
        self._result = result

    def is_set(self) -> bool:
        return self._result.ready()

    def wait(self, timeout: Optional[float] = None) -> bool:
        self._result.wait(timeout)
        return self._result.ready()


class MapResult(ApplyResult, _standard.MapResult):  # type: ignore[type-arg]
    """The result of `map_async`: a list, once all chunks have ended. Of several errors the first in order is raised."""

    #: So many chunks are waited for together: to wake the caller for each would cost more than most chunks do.
    _STRIDE = 64

    def __init__(
        self,
        pool: Any,
        chunksize: Chunksize,
        callback: Optional[Callable[[Any], object]] = None,
        error_callback: Optional[Callable[[BaseException], object]] = None,
    ) -> None:
        super().__init__(pool, callback, error_callback)
        self._chunksize = chunksize
        self._tasks: list[Any] = []
        self._ended = 0
        #: The values so far, from tasks that are not held any more.
        self._values: list[Any] = []
        self._error: Optional[BaseException] = None
        self._lock = threading.Lock()

    def _begin_all(self, tasks: list[Any]) -> None:
        self._tasks = tasks
        self._task = tasks
        if not tasks:
            # As in the standard library: no call, no callback.
            self._callback = self._error_callback = None
            self._finish((True, []))
        elif self._callback is not None or self._error_callback is not None:
            self._serve_callbacks(tasks[0])

    def _unended(self) -> Any:
        tasks = self._tasks
        while self._ended < len(tasks):
            task = tasks[self._ended]
            if task is not None and not task.is_ended():
                return task
            self._ended += 1
        return None

    def _collect(self, deadline: Optional[float]) -> Optional[Outcome]:
        remaining = left(deadline)
        if not self._lock.acquire(timeout=-1 if remaining is None else remaining):
            return None
        try:
            return self._outcome or self._collect_locked(deadline)
        finally:
            self._lock.release()

    def _collect_locked(self, deadline: Optional[float]) -> Optional[Outcome]:
        tasks = self._tasks
        for start in range(0, len(tasks), self._STRIDE):
            end = min(start + self._STRIDE, len(tasks))
            last = tasks[end - 1]
            if last is not None and not last.wait(left(deadline)):
                return None
            if not self._take(start, end, deadline):
                return None
        return (True, self._values) if self._error is None else (False, self._error)

    def _take(self, index: int, end: int, deadline: Optional[float]) -> bool:
        """Takes the outcomes of the tasks from `index` to `end`; False when the time was over first."""
        tasks = self._tasks
        keep = self._values.append if self._chunksize == 1 else self._values.extend
        while index < end:
            if self._chunksize == 1 and self._error is None:
                index = _procpool.take_values(tasks, index, end, self._values)
                if index == end:
                    break
            task = tasks[index]
            if task is not None:
                outcome = task.outcome(left(deadline))
                if outcome is None:
                    return False
                tasks[index] = None
                success, value = outcome
                if self._error is None:
                    if success:
                        keep(value)
                    else:
                        self._error = value
            index += 1
        return True

    def _take_ended(self) -> None:
        for task in list(self._tasks):
            if task is not None and task.is_ended():
                task.outcome()

    def cancel(self, running: bool = False) -> bool:
        """Cancels every chunk that has not ended, those that run only with `running`. True if there was one."""
        return any([task.cancel(running) for task in self._tasks if task is not None])

    @property
    def _number_left(self) -> int:
        """Chunks that have not ended."""
        return sum(task is not None and not task.is_ended() for task in self._tasks)


class IMapIterator(_standard.IMapIterator):  # type: ignore[type-arg]
    """The results of `imap`, in order, as they come."""

    __class_getitem__: Any = classmethod(GenericAlias)

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._job = next(job_counter)
        self._lock = threading.Lock()
        self._condition = threading.Condition(self._lock)
        #: Tasks whose results were not given yet, in order.
        self._tasks: deque[Any] = deque()
        #: How many tasks there were so far, how many of them were taken, and how many there will be.
        self._appended = 0
        self._index = 0
        self._length: Optional[int] = None
        #: Whether somebody waits for a task, who was not told yet that there is one.
        self._waits = False
        #: Gives one more task, where the input is only read as results are taken.
        self._pull: Optional[Callable[[], bool]] = None
        pool._cache.add(self._job, self)

    # ---- input ----

    def _append(self, task: Any) -> None:
        self._appended += 1
        self._tasks.append(task)
        if self._waits:
            self._arrive()

    def _arrive(self) -> None:
        """Somebody waits, and there may be what for."""
        with self._condition:
            self._waits = False
            self._condition.notify_all()

    def _end_input(self) -> None:
        self._set_length(self._appended)

    def _set_length(self, length: int) -> None:
        """There will be no more than these tasks."""
        with self._condition:
            self._length = length
            self._condition.notify_all()
        if self._index == length:
            self._done()

    def _set(self, index: int, outcome: Outcome) -> None:
        """For programs that feed an iterator themselves."""
        task = FailedTask(RuntimeError())
        task._outcome = outcome
        self._append(task)

    def _settle_if_ended(self) -> None:
        if self._length is not None and all(task.is_ended() for task in list(self._tasks)):
            self._done()

    def _take_ended(self) -> None:
        for task in list(self._tasks):
            if task.is_ended():
                task.outcome()

    def _done(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool._cache.pop(self._job, None)

    # ---- output ----

    def __iter__(self) -> IMapIterator:
        return self

    def next(self, timeout: Optional[float] = None) -> Any:
        """The next result. After `timeout` seconds `multiprocessing.TimeoutError`; the iterator can be used on."""
        # What is waited for without a timeout costs no look at the clock.
        deadline = None if timeout is None else deadline_after(timeout)
        task = self._take(deadline)
        try:
            outcome: Optional[Outcome] = task.outcome(None if timeout is None else left(deadline))
        except BaseException:
            self._tasks.appendleft(task)
            raise
        if outcome is None:
            self._tasks.appendleft(task)
            raise TimeoutError
        self._index += 1
        if self._pull is not None and not self._pull():
            self._pull = None
        success, value = outcome
        if success:
            return value
        raise value

    __next__ = next

    def _take(self, deadline: Optional[float]) -> Any:
        try:
            return self._tasks.popleft()
        except IndexError:
            pass
        with self._condition:
            while True:
                # Before the look: whoever adds a task looks at this after that.
                self._waits = True
                if self._tasks:
                    return self._tasks.popleft()
                if self._length is not None:
                    self._done()
                    raise StopIteration
                if time_is_over(deadline) or not self._condition.wait(left(deadline)):
                    raise TimeoutError


class IMapUnorderedIterator(IMapIterator, _standard.IMapUnorderedIterator):  # type: ignore[type-arg]
    """The results of `imap_unordered`, in the order in which they arrive."""

    def __init__(self, pool: Any) -> None:
        super().__init__(pool)
        self._arrivals = 0
        #: As many tasks as could run at once at any time: tasks begin in order, so the next to end is one of the first.
        self._width = 1
        self._noticed: set[int] = set()

    def _arrive(self) -> None:
        with self._condition:
            self._waits = False
            self._arrivals += 1
            self._condition.notify_all()

    def _take(self, deadline: Optional[float]) -> Any:
        tasks = self._tasks
        with self._lock:
            # As it mostly is: the results arrive in order.
            if tasks and not self._noticed and tasks[0].is_ended():
                return tasks.popleft()
        return self._wait_for_first(deadline)

    def _wait_for_first(self, deadline: Optional[float]) -> Any:
        while True:
            seen = self._arrivals
            self._waits = True
            task = self._first_ended()
            if task is not None:
                return task
            if self._length is not None and not self._tasks:
                self._done()
                raise StopIteration
            self._listen()
            with self._condition:
                while self._arrivals == seen and not (self._length is not None and not self._tasks):
                    if time_is_over(deadline) or not self._condition.wait(left(deadline)):
                        raise TimeoutError

    def _listen(self) -> None:
        pool = self._pool
        if pool is not None:
            pool._serve_notices()
        with self._lock:
            front = self._front()
        for task in front:
            if id(task) not in self._noticed:
                self._noticed.add(id(task))
                task.notify(self._arrive)

    def _front(self) -> list[Any]:
        """The tasks of which one is the next to end. Only with the lock, or others may take of them meanwhile."""
        pool = self._pool
        if pool is not None:
            self._width = max(self._width, pool._processes + 1)
        tasks = self._tasks
        # Not by an iterator: tasks are added at any moment.
        return [tasks[place] for place in range(min(len(tasks), self._width))]

    def _first_ended(self) -> Any:
        # Two threads may find the same one.
        with self._lock:
            for place, task in enumerate(self._front()):
                if task.is_ended() and (place == 0 or type(task) is not FailedInput):
                    del self._tasks[place]
                    self._noticed.discard(id(task))
                    return task
        return None


class _Chunked:
    """Gives the items of chunks one by one. An error is raised once, in the place of its chunk."""

    def __init__(self, chunks: IMapIterator) -> None:
        self._chunks = chunks
        self._items: deque[Any] = deque()

    def __iter__(self) -> _Chunked:
        return self

    def next(self, timeout: Optional[float] = None) -> Any:
        while not self._items:
            self._items.extend(self._chunks.next(timeout))
        return self._items.popleft()

    __next__ = next

    def close(self) -> None:
        """As a generator has it: no more items."""
        self._items.clear()
        self._chunks._pull = None
        self._chunks._tasks.clear()
        self._chunks._set_length(self._chunks._index)


def _add_context(error: BaseException, context: BaseException) -> None:
    """Puts `context` at the end of the chain of what `error` was raised in."""
    seen = {id(error)}
    while error.__context__ is not None and id(error.__context__) not in seen:
        error = error.__context__
        seen.add(id(error))
    if error is not context and id(context) not in seen:
        error.__context__ = context
