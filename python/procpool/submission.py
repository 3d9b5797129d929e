"""The way of a call into the engine, for pools and executors."""

from __future__ import annotations

import operator
import time

from . import _procpool, pickling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Iterator, Optional

    from .cache import Cache
    from .results import Outcome

#: How a task's function takes what comes along; the numbers are the compiled part's.
APPLY, SPREAD, ONE, MAP, STARMAP = range(5)


def make_limits(timeout: Optional[float], deadline: Optional[float], retries: int) -> Optional[_procpool.Limits]:
    """What the options of a call say of its tasks; None where that is nothing."""
    for name, seconds in (("timeout", timeout), ("deadline", deadline)):
        if seconds is not None and not seconds > 0:
            raise ValueError(f"{name} must be more than 0 seconds, not {seconds}")
    if retries < 0:
        raise ValueError(f"retries must be 0 or more, not {retries}")
    if timeout is None and deadline is None and retries == 0:
        return None
    return _procpool.Limits(timeout, deadline, operator.index(retries))


def checked_buffersize(buffersize: Optional[int]) -> Optional[int]:
    """How many items may be read ahead, as the caller says it; None for all."""
    if buffersize is None:
        return None
    if not isinstance(buffersize, int):
        raise TypeError("buffersize must be an integer or None")
    if buffersize < 1:
        raise ValueError("buffersize must be None or > 0")
    return buffersize


#: So many tasks are submitted at a time: between two times other threads have their turn, and signals are handled.
STRIDE = 256

#: How long a caller that found no room looks for some at a time, in seconds.
LOOK_AGAIN = 0.02


class FailedTask:
    """Stands in the place of a task that could not be sent."""

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


def submit(
    engine: _procpool.Engine,
    cache: Cache,
    call: int,
    func: Callable[..., Any],
    argument: Any,
    limits: Optional[_procpool.Limits] = None,
) -> Any:
    """A task, or what stands in its place if it cannot be sent."""
    try:
        function = pickling.encode_function(func)
    except Exception as error:
        return FailedTask(error, engine)
    try:
        task = engine.submit(call, function, argument, limits)
        if task is None:
            task = _when_there_is_room(engine, cache, call, function, argument, limits)
        return task
    except pickling.REFUSALS as error:
        try:
            by_value = pickling.by_value(argument, error)
            return _when_there_is_room(engine, cache, call, function, by_value, limits)
        except Exception as refused:
            return FailedTask(refused, engine)
    except Exception as error:
        return FailedTask(error, engine)


def submit_each(
    engine: _procpool.Engine,
    cache: Cache,
    call: int,
    func: Callable[..., Any],
    arguments: Iterable[Any],
    limits: Optional[_procpool.Limits],
    keep: Callable[[Any], object],
    most: int = STRIDE,
) -> Iterator[None]:
    """As `submit`, for each of `arguments`: the tasks go to `keep`, each as soon as it is there, at most so many at each
    step."""
    items = iter(arguments)

    def submit_one(argument: Any) -> None:
        keep(submit(engine, cache, call, func, argument, limits))

    try:
        function = pickling.encode_function(func)
    except Exception:
        # Then it is said of each.
        yield from map(submit_one, items)
        return
    while (left_over := engine.submit_each(call, function, items, limits, keep, most)) is not None:
        for argument in left_over:
            submit_one(argument)
        yield


def _when_there_is_room(
    engine: _procpool.Engine,
    cache: Cache,
    call: int,
    function: _procpool.Function,
    argument: Any,
    limits: Optional[_procpool.Limits],
) -> _procpool.Task:
    # A deadline counts from here: to wait for room is a wait like that in the queue.
    limits = limits and limits.begin()
    while True:
        # Outcomes that nobody has asked for fill the pool's memory.
        cache.take_ended()
        task = engine.submit(call, function, argument, limits)
        if task is not None:
            return task
        time.sleep(LOOK_AGAIN)
