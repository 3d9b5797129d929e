"""What can be asked of a pool, and how calls that wait are asked without waiting."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from importlib import metadata
from typing import Any, Callable, Iterable, Iterator, Optional, Sequence

Function = Callable[[Any], Any]


class Missing(Exception):
    """This pool has no such call; the text says which it has not."""


class Handle:
    """What is begun: as a future has them."""

    def __init__(self, done: Callable[[], bool], result: Callable[[], Any]) -> None:
        self.done = done
        self.result = result


class Peer:
    """What can be asked of a pool."""

    #: As it stands above its column.
    name = ""
    #: What it comes with, on PyPI; the standard library is None.
    distribution: Optional[str] = None
    #: How tasks are submitted, for the reader.
    call = ""
    #: How many tasks can be relied on to run at once.
    at_once = 2
    #: Whether its only calls wait.
    waits = False

    def __init__(self, workers: int = 2, initializer: Optional[Callable[[], None]] = None) -> None:
        raise NotImplementedError

    @classmethod
    def version(cls) -> str:
        return metadata.version(cls.distribution) if cls.distribution else "of the standard library"

    def begin(self, function: Function, items: Sequence[Any]) -> list[Any]:
        """Begins a task for each item. One that cannot be submitted has failed."""
        return [attempted(self.submit, function, item) for item in items]

    def submit(self, function: Function, item: Any) -> Any:
        """Begins one task."""
        raise Missing("call of one task")

    def submit_with_callback(self, function: Function, item: Any, callback: Callable[[Any], None]) -> Any:
        """Begins one task; the callback is called when it has ended well."""
        raise Missing("callbacks")

    def map(self, function: Function, items: Iterable[Any]) -> list[Any]:
        """Waits for all results. An item is a task, if that can be chosen."""
        raise Missing("map")

    def read(self, function: Function, items: Iterator[Any]) -> Iterator[Any]:
        """An iterator over the results, which reads as little ahead as the pool can be told to."""
        raise Missing("iterator")

    @classmethod
    def can_terminate(cls) -> bool:
        return cls.terminate is not Peer.terminate

    def terminate(self) -> None:
        """Stops at once, and waits until that is done."""
        raise Missing("terminate")

    def map_in_a_program(self, function: Function, items: Iterable[Any]) -> None:
        """As `map`, with what a program writes around it."""
        with self.pool:
            self.map(function, items)

    pool: Any


def attempted(submit: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return submit(*arguments)
    except Exception as error:
        failed: Future[Any] = Future()
        failed.set_exception(error)
        return failed


def in_thread(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """For calls that wait, and may do so for ever."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function(*arguments))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
