"""What `imap` gives: iterators over results, whose input may still be on its way."""

from __future__ import annotations

import threading
import time
from collections import deque
from multiprocessing import TimeoutError, pool as _standard
from types import GenericAlias

from .cache import job_counter, take_outcomes
from .deadlines import deadline_after, left, time_is_over
from .submission import LOOK_AGAIN, FailedInput, FailedTask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

    from .results import Outcome


class IMapIterator(_standard.IMapIterator):  # type: ignore[type-arg]
    """The results of `imap`, in order, as they come."""

    __class_getitem__: Any = classmethod(GenericAlias)

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._job = next(job_counter)
        # A signal's handler may end the pool, and with it the input.
        self._lock = threading.RLock()
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
        #: The thread that reads it at this moment.
        self._reader: Optional[int] = None
        pool._cache.add(self._job, self)

    # ---- input ----

    def _append(self, task: Any) -> None:
        if self._length is not None:
            # The pool was terminated meanwhile.
            return
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
        take_outcomes(self._tasks)

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
        self._read_on(task)
        success, value = outcome
        if success:
            return value
        raise value

    __next__ = next

    def _read_on(self, taken: Any) -> None:
        """Reads one more item, where they are read as results are taken."""
        try:
            if self._pull is not None and not self._pull():
                self._pull = None
        except BaseException:
            # Ctrl-C, say: what was taken is given the next time.
            self._pull = None
            self._index -= 1
            self._tasks.appendleft(taken)
            raise

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
                self._wait(deadline)

    def _wait(self, deadline: Optional[float]) -> None:
        """Until there is something new. With the condition."""
        if self._reader == threading.get_ident():
            raise RuntimeError("the input of this iterator waits for a result that comes after it")
        if time_is_over(deadline) or not self._condition.wait(left(deadline)):
            raise TimeoutError


class IMapUnorderedIterator(IMapIterator, _standard.IMapUnorderedIterator):  # type: ignore[type-arg]
    """The results of `imap_unordered`, in the order in which they arrive."""

    def __init__(self, pool: Any) -> None:
        super().__init__(pool)
        self._arrivals = 0
        #: As many tasks as could run at once at any time: tasks begin in order, so the next to end is one of the first.
        self._width = 1
        #: Tasks whose end will be told of.
        self._noticed: set[Any] = set()

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
            if self._is_in_callback():
                self._look_again(deadline)
                continue
            if not self._listen():
                continue
            with self._condition:
                while self._arrivals == seen and not (self._length is not None and not self._tasks):
                    self._wait(deadline)

    def _is_in_callback(self) -> bool:
        pool = self._pool
        return pool is not None and bool(pool._is_in_callback())

    def _look_again(self, deadline: Optional[float]) -> None:
        """In a callback: whoever would tell of ends is the thread that calls it."""
        if time_is_over(deadline):
            raise TimeoutError
        time.sleep(LOOK_AGAIN)

    def _listen(self) -> bool:
        """Has somebody tell of the next end; False where all tasks have ended."""
        pool = self._pool
        if pool is None:
            return False
        pool._serve_notices()
        with self._lock:
            front = self._front()
        for task in front:
            if task not in self._noticed:
                task.notify(self._arrive)
                self._noticed.add(task)
        return True

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
                    self._noticed.discard(task)
                    return task
        return None


class Chunked:
    """Gives the items of chunks one by one. An error is raised once, in the place of its chunk."""

    def __init__(self, chunks: IMapIterator) -> None:
        self._chunks = chunks
        self._items: deque[Any] = deque()

    def __iter__(self) -> Chunked:
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
