"""What a call of a pool raises when its task has no result.

These come beside what the task itself raised, and beside the errors of the standard library, which keep their classes.
"""

from __future__ import annotations

import signal as _signal
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from typing import Optional

__all__ = [
    "CancelledError",
    "MemoryLimitExceeded",
    "PoolBroken",
    "SandboxError",
    "TaskTimeout",
    "Terminated",
    "UnpicklableError",
    "WorkerDied",
]


class WorkerDied(BrokenProcessPool):
    """The worker that ran this task died. Only this task is lost; the pool goes on.

    Attributes:
        pid: the process that died.
        signal: the number of the signal that ended it, or None.
        exitcode: its exit status, or None if a signal ended it or nobody knows.
        task: what it was running: the function's name.
        last_words: what it wrote about its end (the stack of a crash, by faulthandler), or None.
    """

    def __init__(
        self,
        pid: int,
        signal: Optional[int] = None,
        exitcode: Optional[int] = None,
        task: Optional[str] = None,
        last_words: Optional[str] = None,
    ) -> None:
        super().__init__(pid, signal, exitcode, task, last_words)
        self.pid = pid
        self.signal = signal
        self.exitcode = exitcode
        self.task = task
        self.last_words = last_words

    def __str__(self) -> str:
        text = f"worker {self.pid} {self._ending()}"
        if self.task is not None:
            text += f" while it ran {self.task}"
        text += "; only this task is lost, and retries= would try it again"
        if self.signal == _signal.SIGKILL:
            text += " (SIGKILL without anybody who sent it is often the kernel, out of memory)"
        if self.last_words:
            text += f"\n{self.last_words}"
        return text

    def _ending(self) -> str:
        if self.signal is not None:
            return f"was killed by signal {self.signal} ({_name(self.signal)})"
        if self.exitcode is not None:
            return f"exited with status {self.exitcode}"
        return "died, and nobody could tell how"


def _name(signal: int) -> str:
    try:
        return _signal.Signals(signal).name
    except ValueError:
        return "unknown"


class TaskTimeout(TimeoutError):
    """The task ran longer than its `timeout`, and its worker was killed for that.

    Attributes:
        ran: how long it had run, in seconds.
    """

    def __init__(self, ran: float, task: Optional[str] = None) -> None:
        super().__init__(ran, task)
        self.ran = ran
        self.task = task

    def __str__(self) -> str:
        return f"{self.task or 'the task'} was ended after {self.ran:.3g} s: it had reached its timeout"


class MemoryLimitExceeded(MemoryError):
    """The task's worker used more memory than the pool allows, and was killed for that.

    Attributes:
        seen: the memory that was seen, in bytes.
        limit: what was allowed, in bytes.
    """

    def __init__(self, seen: int, limit: int, task: Optional[str] = None) -> None:
        super().__init__(seen, limit, task)
        self.seen = seen
        self.limit = limit
        self.task = task

    def __str__(self) -> str:
        return f"{self.task or 'the task'} was ended: its worker used {self.seen} bytes, and may use {self.limit}"


class Terminated(RuntimeError):
    """The pool was terminated before the task had ended."""


class PoolBroken(BrokenProcessPool):
    """The pool gave up: its workers died one after the other without finishing a task, or none could be started."""


class SandboxError(RuntimeError):
    """Workers cannot be shut in as they should, and there are none.

    Attributes:
        mechanism: what this system lacks: "landlock", "seccomp" or "no_new_privs".
    """

    def __init__(self, text: str, mechanism: Optional[str] = None) -> None:
        super().__init__(text, mechanism)
        self.mechanism = mechanism

    def __str__(self) -> str:
        return str(self.args[0])


class UnpicklableError(RuntimeError):
    """The task raised an exception that cannot be brought over; its class, text and traceback are here as text."""
