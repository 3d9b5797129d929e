"""What the engine says of a task without a result, as exceptions."""

from __future__ import annotations

from . import _procpool, pickling
from .crew import Crew

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional


class Failures:
    """Makes the exceptions of one pool. `remote_traceback` makes the cause of what was raised in a worker."""

    def __init__(self, crew: Crew, remote_traceback: Any) -> None:
        self._crew = crew
        self._remote_traceback = remote_traceback

    def raised(self, account: Any) -> BaseException:
        """What was raised in a worker, as `report` wrote it there."""
        if not _is_account(account):
            from . import errors

            return errors.PoolBroken("a worker wrote over the shared memory, and what a task raised with it")
        error: BaseException = account[0]
        error.__cause__ = self._cause(account[1])
        return error

    def _cause(self, text: str) -> BaseException:
        """The worker's traceback, in the standard library's quotes."""
        cause: BaseException = self._remote_traceback(f'\n"""\n{text}"""')
        return cause

    def failed(self, kind: str, function: Optional[_procpool.Function], *details: Any) -> BaseException:
        """Why a task, or the pool, has failed."""
        from . import errors

        name = None if function is None else function.name
        if kind == "died":
            told = self._crew.last_words
            deaths = [errors.Death(pid, signal, code, told(pid)) for pid, signal, code in details[0]]
            last = deaths[-1]
            return errors.WorkerDied(last.pid, last.signal, last.exitcode, name, last.last_words, deaths)
        if kind == "timed out":
            ran, timeout, deadline = details
            return errors.TaskTimeout(ran, name, timeout, deadline)
        if kind == "cancelled":
            return errors.CancelledError()
        if kind == "terminated":
            return self.terminated(name)
        if kind == "forked":
            return RuntimeError(f"the call of {name} belongs to the parent process: a forked child cannot wait for it")
        if kind == "memory":
            seen, limit, peak = details
            return errors.MemoryLimitExceeded(seen, limit, name, peak)
        if kind == "no room":
            return MemoryError(
                f"the result of {name}, {details[0]} bytes, found no room in the pool's shared memory: "
                "take results that are ready, or return less at a time"
            )
        if kind == "broken":
            return self.broken(*details)
        return errors.PoolBroken(f"a worker wrote over the shared memory, and the result of {name} with it")

    def terminated(self, name: Optional[str]) -> BaseException:
        """The pool was terminated."""
        from . import errors

        return errors.Terminated(f"the pool was terminated before {name} had ended")

    def broken(self, is_initializer: bool, text: str) -> BaseException:
        """The pool gave up."""
        from . import errors

        account = self._crew.initializer_error
        if account is None:
            return errors.PoolBroken(f"the pool gave up: {text}")
        try:
            # A new one each time, which does not remember where it was raised before.
            return self.raised(pickling.loads(account))
        except Exception:
            # The worker died while it wrote, or the class of the exception is not to be had here.
            return errors.PoolBroken(f"the pool gave up: {text}")


def _is_account(account: Any) -> bool:
    """Whether this is an exception and the text of its traceback. From shared memory may come anything."""
    if type(account) is not tuple or len(account) != 2:
        return False
    error, text = account
    return isinstance(error, BaseException) and isinstance(text, str)
