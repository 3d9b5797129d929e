"""What everybody in a pool is doing, as text: a pool that is stuck explains itself."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import threading
import traceback
import weakref

from . import _procpool, pickling, stacks
from .crew import Crew

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional, TextIO

#: The pools and executors of this process.
_owners: weakref.WeakSet[Any] = weakref.WeakSet()


def _forget() -> None:
    """In a forked child: the pools are its parent's."""
    global _owners
    _owners = weakref.WeakSet()


os.register_at_fork(after_in_child=_forget)


def watch(owner: Any) -> None:
    """`dump_on_signal` is to show this pool or executor as well."""
    _owners.add(owner)


def describe(engine: _procpool.Engine, crew: Crew) -> str:
    """The workers, tasks, queue and supervisor of a pool, and the stacks of its workers."""
    text = engine.dump(pickling.name_in)
    for seat, pid, stack in crew.stacks():
        text += f"  stack of worker {seat}, pid {pid}:\n{textwrap.indent(stack, '    ')}\n"
    return text


def show(text: str, file: Optional[TextIO]) -> None:
    """Writes `text` to `file`, or to standard error."""
    stream = sys.stderr if file is None else file
    # A program without a terminal may have none.
    if stream is not None:
        stream.write(text)
        stream.flush()


def dump_on_signal(signalnum: int = signal.SIGUSR2, file: Optional[TextIO] = None) -> None:
    """From now on this signal makes the process write what all its pools and executors are doing, the stacks of their
    workers and those of its own threads, to `file`, or to standard error.

    To be called in the main thread, as `signal.signal`, whose handler for this signal it replaces.
    """

    def handle(number: int, frame: object) -> None:
        show(_everything(), file)

    signal.signal(signalnum, handle)
    stacks.dumps_on.add(int(signalnum))


def _everything() -> str:
    owners = _all_owners()
    parts = [f"process {os.getpid()} has {len(owners)} pools\n"]
    for owner in owners:
        try:
            parts.append(owner._describe())
        except Exception:
            # The others are shown all the same.
            parts.append(f"{owner!r} cannot be shown:\n{traceback.format_exc()}")
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        stack = "".join(traceback.format_stack(frame))
        parts.append(f"stack of thread {names.get(ident, ident)} of process {os.getpid()}:\n{stack}")
    return "".join(parts)


def _all_owners() -> list[Any]:
    while True:
        try:
            return list(_owners)
        except RuntimeError:
            # Another thread made a pool at this moment, or the handler has interrupted that.
            continue
