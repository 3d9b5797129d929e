"""The way of a call into the engine, for pools and executors."""

from __future__ import annotations

import time
from typing import Any, Callable, Iterable, Iterator, Optional

from . import _procpool, pickling
from .results import Cache, FailedTask

#: How a task's function takes what comes along; the numbers are the compiled part's.
APPLY, SPREAD, ONE, MAP, STARMAP = range(5)

#: How long a caller that found no room looks for some at a time, in seconds.
LOOK_AGAIN = 0.02


def submit(
    engine: _procpool.Engine,
    cache: Cache,
    call: int,
    func: Callable[..., Any],
    argument: Any,
    timeout: Optional[float] = None,
    retries: int = 0,
) -> Any:
    """A task, or what stands in its place if it cannot be sent."""
    try:
        function = pickling.encode_function(func)
    except Exception as error:
        return FailedTask(error, engine)
    try:
        task = engine.submit(call, function, argument, timeout, retries)
        if task is None:
            task = _when_there_is_room(engine, cache, call, function, argument, timeout, retries)
        return task
    except pickling.REFUSALS as error:
        try:
            by_value = pickling.by_value(argument, error)
            return _when_there_is_room(engine, cache, call, function, by_value, timeout, retries)
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
    timeout: Optional[float] = None,
    retries: int = 0,
) -> Iterator[Any]:
    """As `submit`, a task for each of `arguments` when it is asked for; the function is encoded once."""
    send = engine.submit
    function: Optional[_procpool.Function] = None
    for argument in arguments:
        try:
            function = function or pickling.encode_function(func)
            task = send(call, function, argument, timeout, retries)
        except Exception:
            task = None
        yield submit(engine, cache, call, func, argument, timeout, retries) if task is None else task


def _when_there_is_room(
    engine: _procpool.Engine, cache: Cache, call: int, function: _procpool.Function, *rest: Any
) -> _procpool.Task:
    while True:
        # Outcomes that nobody has asked for fill the pool's memory.
        cache.take_ended()
        task = engine.submit(call, function, *rest)
        if task is not None:
            return task
        time.sleep(LOOK_AGAIN)
