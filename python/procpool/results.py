"""The caller's end of calls: results of one task, and of many.

Nothing stands between a waiting caller and its task: `get` waits for the task itself. Only results with callbacks are
settled by a thread of the pool.
"""

from __future__ import annotations

import threading
from multiprocessing import TimeoutError, pool as _standard
from types import GenericAlias

from . import _procpool
from .cache import job_counter, take_outcomes
from .deadlines import deadline_after, left

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Generator, Optional, TypeVar

    from .chunks import Chunksize
    from .views import EndEvent

    Outcome = tuple[bool, Any]
    T = TypeVar("T")


class ApplyResult(_standard.ApplyResult["T"]):
    """The result of one call.

    `get` gives the value, or raises what the task raised; always the same object. It can be awaited as well.
    """

    __class_getitem__: Any = classmethod(GenericAlias)

    _outcome: Optional[Outcome] = None
    #: Set once callbacks were called; None for results that have none.
    _settled: Optional[threading.Event] = None
    _awaiting: list[Callable[[], None]]

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
        if callback is not None or error_callback is not None:
            # Before anybody can see that the task has ended, and settle this without them.
            self._settled = threading.Event()
            self._awaiting = []
        pool._cache.add(self._job, self)

    # ---- the way of an outcome ----

    def _begin(self, task: Any) -> None:
        """The task was accepted, or could not be."""
        self._task = task
        if self._settled is not None:
            self._serve_callbacks(task)

    def _serve_callbacks(self, first: Any) -> None:
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
        # In a callback a result has a value before its own callback was called, which waits for this one.
        outcome = self._collect(deadline_after(timeout))
        if outcome is not None and self._settled is None:
            self._finish(outcome)
        return outcome

    def _is_in_callback(self) -> bool:
        pool = self._pool
        return pool is not None and pool._is_in_callback() and self._task is not None

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

    def get(self, timeout: Optional[float] = None) -> T:
        """The value, or raises what the task raised; `multiprocessing.TimeoutError` after `timeout` seconds."""
        outcome = self._outcome
        if outcome is None:
            outcome = self._wait_outcome(timeout)
            if outcome is None:
                raise TimeoutError
        success, value = outcome
        if success:
            return value  # type: ignore[no-any-return]
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

    def __await__(self) -> Generator[Any, None, T]:
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
    def _event(self) -> EndEvent:
        from .views import EndEvent

        return EndEvent(self)


AsyncResult = ApplyResult


class MapResult(ApplyResult["list[T]"], _standard.MapResult["T"]):
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
        self._lock = threading.RLock()
        #: The thread that takes outcomes.
        self._collector: Optional[int] = None

    def _begin_all(self) -> None:
        """All tasks were submitted."""
        self._task = self._tasks
        if not self._tasks:
            # As in the standard library: no call, no callback.
            self._callback = self._error_callback = None
            self._finish((True, []))
        elif self._settled is not None:
            self._serve_callbacks(self._tasks[0])

    def _unended(self) -> Any:
        tasks = self._tasks
        # Other threads look too: what any of them writes down is true.
        ended = self._ended
        while ended < len(tasks):
            task = tasks[ended]
            if task is not None and not task.is_ended():
                break
            ended += 1
        self._ended = ended
        return tasks[ended] if ended < len(tasks) else None

    def _collect(self, deadline: Optional[float]) -> Optional[Outcome]:
        if self._collector == threading.get_ident():
            if left(deadline) == 0:
                return None
            raise RuntimeError("this thread is reading the results of the map that it asks for, in a signal's handler")
        tasks = self._tasks
        start = 0
        while start < len(tasks) and self._outcome is None:
            end = min(start + self._STRIDE, len(tasks))
            # When the last one has ended, most have.
            for task in (tasks[end - 1], tasks[start]):
                if task is not None and not task.wait(left(deadline)):
                    return None
            # Not while it waits: others have times of their own. And a handler's error must not leave it locked.
            with self._lock:
                try:
                    self._collector = threading.get_ident()
                    start = self._take(start, end)
                finally:
                    self._collector = None
        return self._outcome or ((True, self._values) if self._error is None else (False, self._error))

    def _take(self, index: int, end: int) -> int:
        """Takes the outcomes of the tasks from `index` to `end`, until there is one that has not ended: gives its place."""
        tasks = self._tasks
        keep = self._values.append if self._chunksize == 1 else self._values.extend
        while index < end:
            if self._chunksize == 1 and self._error is None:
                index = _procpool.take_values(tasks, index, end, self._values)
                if index == end:
                    break
            task = tasks[index]
            if task is not None:
                if not task.is_ended():
                    break
                success, value = task.outcome()
                tasks[index] = None
                if self._error is None:
                    if success:
                        keep(value)
                    else:
                        self._error = value
            index += 1
        return index

    def _take_ended(self) -> None:
        take_outcomes(self._tasks)

    def cancel(self, running: bool = False) -> bool:
        """Cancels every chunk that has not ended, those that run only with `running`. True if there was one."""
        return any([task.cancel(running) for task in self._tasks if task is not None])

    @property
    def _number_left(self) -> int:
        """Chunks that have not ended."""
        return sum(task is not None and not task.is_ended() for task in self._tasks)


def _add_context(error: BaseException, context: BaseException) -> None:
    """Puts `context` at the end of the chain of what `error` was raised in."""
    seen = {id(error)}
    while error.__context__ is not None and id(error.__context__) not in seen:
        error = error.__context__
        seen.add(id(error))
    if error is not context and id(context) not in seen:
        error.__context__ = context
