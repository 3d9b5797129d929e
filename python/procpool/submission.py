"""The way of a call into the engine, for pools and executors."""

from __future__ import annotations

import operator
import time
from typing import Any, Callable, Iterable, Iterator, Optional

from . import _procpool, pickling
from .results import Cache, FailedTask

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


#: How long a caller that found no room looks for some at a time, in seconds.
LOOK_AGAIN = 0.02


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
    limits: Optional[_procpool.Limits] = None,
) -> Iterator[Any]:
    """As `submit`, a task for each of `arguments` when it is asked for; the function is encoded once."""
    send = engine.submit
    function: Optional[_procpool.Function] = None
    for argument in arguments:
        try:
            function = function or pickling.encode_function(func)
            task = send(call, function, argument, limits)
        except Exception:
            task = None
        yield submit(engine, cache, call, func, argument, limits) if task is None else task


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
