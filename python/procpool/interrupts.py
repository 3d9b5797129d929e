"""Ctrl-C goes to the whole process group of a terminal, and is the parent's affair: it decides, and shows one traceback.

A worker ignores it from its first instruction to its last. Until it has a handler it is held back, by the mask of signals: else
a worker that has just been started would show a traceback of whatever it was about to import.
"""

from __future__ import annotations

import contextlib
import operator
import os
import signal
from multiprocessing import get_start_method

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator

_CTRL_C = {signal.SIGINT}


@contextlib.contextmanager
def held_back_in(process: Any) -> Iterator[None]:
    """Parent: a process that is started meanwhile does not feel them until it calls `leave_to_the_parent`."""
    method = getattr(process, "_start_method", None) or get_start_method()
    if method == "forkserver":
        # It inherits nothing from here; a server that was started meanwhile would, and so would all its processes.
        process.name = _HoldingName(process.name)
        yield
        return
    if method == "spawn":
        from multiprocessing import resource_tracker

        # It would be started together with the first process, and would clear the mask.
        resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _CTRL_C)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def put_off() -> Iterator[None]:
    """Parent: an interrupt that comes meanwhile is felt afterwards, so that none comes between the start of a process and its
    registration. Only the second is felt at once: what is being done may hang."""
    handler = signal.getsignal(signal.SIGINT)
    here, is_over = os.getpid(), False
    came: list[tuple[int, Any]] = []

    def note(number: int, frame: Any) -> None:
        came.append((number, frame))
        # Wherever else this is still set by chance, as in a child that another thread forks just now, it is the handler.
        if is_over or len(came) > 1 or os.getpid() != here:
            handle()

    def handle() -> None:
        while came:
            handler(*came.pop(0))  # type: ignore[operator, misc]

    try:
        is_set = callable(handler) and signal.signal(signal.SIGINT, note) is handler
    except ValueError:
        # Only the main thread handles them, of the main interpreter.
        is_set = False
    try:
        yield
    finally:
        is_over = True
        if is_set and signal.getsignal(signal.SIGINT) is note:
            signal.signal(signal.SIGINT, handler)
        handle()


class _HoldingName(str):
    """A process's name that holds back interrupts where it arrives. It is among the first things that a process of a fork
    server reads, before it imports the program's main module."""

    def __reduce__(self) -> Any:
        return operator.itemgetter(1), ((_HoldBack(), str(self)),)


class _HoldBack:
    def __reduce__(self) -> Any:
        return signal.pthread_sigmask, (signal.SIG_BLOCK, _CTRL_C)


def leave_to_the_parent() -> None:
    """Worker: from now on they are ignored, until the initializer says otherwise. Not by SIG_IGN, which programs that a task
    starts would inherit. What a forked worker has of its parent's own handling is the parent's as well."""
    signal.set_wakeup_fd(-1)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda number, frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _CTRL_C)
