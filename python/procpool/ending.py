"""The end of the interpreter: executors finish what they were given."""

from __future__ import annotations

import os
import sys
import threading
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .futures import ProcessPoolExecutor

#: Whether it has begun: no executor takes work any more.
has_begun = False

#: Executors that are in use.
_executors: weakref.WeakSet[ProcessPoolExecutor] = weakref.WeakSet()


def wait_for(executor: ProcessPoolExecutor) -> None:
    """The interpreter is not to end before this executor has."""
    _executors.add(executor)


def _end_all() -> None:
    global has_begun
    has_begun = True
    # The program was interrupted, and with it what it waited for: workers leave Ctrl-C to their parent.
    is_interrupted = getattr(sys, "last_type", None) is KeyboardInterrupt
    try:
        _shut_down_all(is_interrupted)
    except BaseException:
        # So was this wait, by Ctrl-C or another signal's handler. The next to wait would be the interpreter, for ever.
        _shut_down_all(True)
        raise


def _shut_down_all(at_once: bool) -> None:
    for executor in list(_executors):
        if at_once:
            executor.terminate_workers()
        executor.shutdown(wait=True)


def _leave_all() -> None:
    """In a forked child: the executors are its parent's, and so is whoever holds their locks."""
    global _executors
    _executors = weakref.WeakSet()


os.register_at_fork(after_in_child=_leave_all)
threading._register_atexit(_end_all)  # type: ignore[attr-defined]
