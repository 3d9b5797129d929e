"""What a call of a pool raises when its task has no result.

These come beside what the task itself raised, and beside the errors of the standard library, which keep their classes.
"""

from __future__ import annotations

import signal as _signal
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple, Optional, Sequence

__all__ = [
    "CancelledError",
    "Death",
    "MemoryLimitExceeded",
    "PoolBroken",
    "SandboxError",
    "TaskTimeout",
    "Terminated",
    "UnpicklableError",
    "WorkerDied",
]


class Death(NamedTuple):
    """How a worker ended."""

    pid: int
    #: The number of the signal that ended it, or None.
    signal: Optional[int]
    #: Its exit status, or None if a signal ended it or nobody knows.
    exitcode: Optional[int]
    #: What it wrote about its end, or None.
    last_words: Optional[str]

    def __str__(self) -> str:
        return f"worker {self.pid} {self._ending()}"

    def _ending(self) -> str:
        if self.signal is not None:
            return f"was killed by signal {self.signal} ({_name(self.signal)})"
        if self.exitcode is not None:
            return f"exited with status {self.exitcode}"
        return "died, and nobody could tell how"


class WorkerDied(BrokenProcessPool):
    """The worker that ran this task died. Only this task is lost; the pool goes on.

    Attributes:
        pid: the process that died.
        signal: the number of the signal that ended it, or None.
        exitcode: its exit status, or None if a signal ended it or nobody knows.
        task: what it was running: the function's name.
        last_words: what it wrote about its end (the stack of a crash, by faulthandler), or None.
        deaths: how all workers died that the task has cost, this one last; without `retries` there is no other. Each
            has `pid`, `signal`, `exitcode` and `last_words`. Attempts that timed out are not among them.
    """

    def __init__(
        self,
        pid: int,
        signal: Optional[int] = None,
        exitcode: Optional[int] = None,
        task: Optional[str] = None,
        last_words: Optional[str] = None,
        deaths: Sequence[Death] = (),
    ) -> None:
        self.deaths = list(deaths) or [Death(pid, signal, exitcode, last_words)]
        super().__init__(pid, signal, exitcode, task, last_words, self.deaths)
        self.pid = pid
        self.signal = signal
        self.exitcode = exitcode
        self.task = task
        self.last_words = last_words

    def __str__(self) -> str:
        *earlier, last = self.deaths
        text = str(last)
        if self.task is not None:
            text += f" while it ran {self.task}"
        if earlier:
            text += f"; it was not the first worker that this task has cost: {'; '.join(map(str, earlier))}"
        else:
            text += "; only this task is lost, and retries= would try it again"
        if self.signal == _signal.SIGKILL:
            text += " (SIGKILL without anybody who sent it is often the kernel, out of memory)"
        if self.last_words:
            text += f"\n{self.last_words}"
        return text


def _name(signal: int) -> str:
    try:
        return _signal.Signals(signal).name
    except ValueError:
        return "unknown"


class TaskTimeout(TimeoutError):
    """The time of the task was over: its `timeout` or its `deadline`. If it ran, its worker was killed for that.

    Attributes:
        ran: how long it had run at its last attempt, in seconds; None if it never began.
        task: the function's name.
        timeout: its timeout in seconds, if it was that which it reached, or else None.
        deadline: its deadline in seconds after its submission, if it was that, or else None.
    """

    def __init__(
        self,
        ran: Optional[float],
        task: Optional[str] = None,
        timeout: Optional[float] = None,
        deadline: Optional[float] = None,
    ) -> None:
        super().__init__(ran, task, timeout, deadline)
        self.ran = ran
        self.task = task
        self.timeout = timeout
        self.deadline = deadline

    def __str__(self) -> str:
        name = self.task or "the task"
        if self.deadline is None:
            return f"{name} was ended after {self.ran or 0:.3g} s: it had reached its timeout"
        begun = "it had not begun" if self.ran is None else f"it had run for {self.ran:.3g} s"
        return f"{name} was ended at its deadline, {self.deadline:.3g} s after its submission: {begun}"


class MemoryLimitExceeded(MemoryError):
    """The task's worker used more memory than the pool allows, and was killed for that.

    Attributes:
        seen: the memory of its own that it was seen with, in bytes.
        limit: what was allowed, in bytes.
        task: the function's name.
        peak: the most memory that the process ever had, in bytes, as the kernel counts it: shared memory and the
            interpreter's own files included.
    """

    def __init__(self, seen: int, limit: int, task: Optional[str] = None, peak: Optional[int] = None) -> None:
        super().__init__(seen, limit, task, peak)
        self.seen = seen
        self.limit = limit
        self.task = task
        self.peak = seen if peak is None else peak

    def __str__(self) -> str:
        name = self.task or "the task"
        own = f"its worker used {self.seen} bytes of its own, and may use {self.limit}"
        return f"{name} was ended: {own}; at its peak it had {self.peak}, shared memory included"


class Terminated(RuntimeError):
    """The pool was terminated before the task had ended."""


class PoolBroken(BrokenProcessPool):
    """The pool gave up: its workers died one after the other without finishing a task, or none could be started. Also the end of
    a single task whose result a worker wrote over; then the pool goes on, and the message says so."""


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
