"""What an executor gives for a call."""

from __future__ import annotations

import threading
from concurrent.futures import _base

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional, TypeVar

    from .futures import ProcessPoolExecutor

    T = TypeVar("T")


class Future(_base.Future["T"]):
    """A future that looks at its task: whoever waits for the result waits for the task itself.

    The standard library's functions read and change the private parts of futures. Here these are views of the task; the
    first look at what only matters to somebody who waits for several (`wait`, `as_completed`, callbacks) makes the
    executor's thread tell them.
    """

    # Where programs find it.
    __module__ = "procpool.futures"

    def __init__(self, executor: ProcessPoolExecutor, task: Any) -> None:
        # Not the base class's: its attributes are the properties below.
        self._task = task
        self._executor: Optional[ProcessPoolExecutor] = executor
        self._final: Optional[str] = None
        #: Whether the executor's thread will tell of the end.
        self._is_noticed = False

    # ---- what the base class and its functions use ----

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        made = self.__dict__.get("condition")
        if made is None:
            made = self.__dict__.setdefault("condition", threading.Condition())
        condition: threading.Condition = made
        return condition

    @property
    def _state(self) -> str:  # type: ignore[override]
        """`wait` and `as_completed` hold a future and look at it twice: what ended in between they would neither give nor
        wait for. So who holds it and has not seen its end sees none, before the executor's thread tells of it."""
        is_held = self._is_held()
        if self._final is None and not (is_held and self._is_noticed) and self._task.is_ended():
            self._finish()
        if self._final is None and is_held:
            self._notice()
        if self._final is not None:
            return self._final
        return _base.RUNNING if self._task.is_running() else _base.PENDING

    def _is_held(self) -> bool:
        """Whether this thread keeps others from ending the future."""
        made: Any = self.__dict__.get("condition")
        return made is not None and bool(made._is_owned())

    def _notice(self) -> None:
        """From now on the executor's thread tells of the end. Where there is none any more, the end is told here."""
        if self._is_noticed or self._final is not None:
            return
        executor = self._executor
        if executor is None:
            # Its executor has forgotten it, since it has ended by now.
            return self._finish()
        executor._serve_notices()
        self._task.notify(self._end)
        self._is_noticed = True

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override]
        return self._told("waiters")

    @property
    def _done_callbacks(self) -> list[Any]:
        return self._told("callbacks")

    def _told(self, which: str) -> list[Any]:
        """A list of those who want to be told of the end."""
        told: list[Any] = self.__dict__.setdefault(which, [])
        self._notice()
        return told

    @property
    def _result(self) -> Any:  # type: ignore[override]
        success, value = self._task.outcome()
        return value if success else None

    @property
    def _exception(self) -> Optional[BaseException]:  # type: ignore[override]
        success, value = self._task.outcome()
        return None if success else value

    def _finish(self) -> None:
        """The task has ended: tells those who wait for several futures, once."""
        with self._condition:
            if self._final is not None:
                return
            success, value = self._task.outcome()
            is_cancelled = not success and isinstance(value, _base.CancelledError) and value.__cause__ is None
            self._final = _base.CANCELLED_AND_NOTIFIED if is_cancelled else _base.FINISHED
            for waiter in self.__dict__.get("waiters", ()):
                if is_cancelled:
                    waiter.add_cancelled(self)
                elif success:
                    waiter.add_result(self)
                else:
                    waiter.add_exception(self)
            self._condition.notify_all()
        self._forget()

    def _forget(self) -> None:
        executor, self._executor = self._executor, None
        if executor is not None:
            executor._pending_work_items.pop(id(self), None)

    def _end(self) -> None:
        """In the executor's thread, or where the future is cancelled: tells everybody."""
        self._finish()
        with self._condition:
            callbacks, self.__dict__["callbacks"] = self.__dict__.get("callbacks", []), []
        for callback in callbacks:
            try:
                callback(self)
            except Exception:
                _base.LOGGER.exception("exception calling callback for %r", self)

    def unended(self) -> list[Any]:
        return [] if self.done() else [self]

    def _settle_if_ended(self) -> None:
        if self._task.is_ended():
            self._forget()

    def _take_ended(self) -> None:
        if self._task.is_ended():
            self._task.outcome()
            self._forget()

    # ---- for callers ----

    def __repr__(self) -> str:
        state = self._state
        if self._final is not None:
            return super().__repr__()
        # The base class holds it to look at it.
        return f"<{type(self).__name__} at {id(self):#x} state={_base._STATE_TO_DESCRIPTION_MAP[state]}>"

    def cancel(self) -> bool:
        """Cancels the call if no worker has begun it."""
        if self._task.cancel():
            self._end()
            return True
        return self.cancelled()

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self.done() and self._state in (_base.CANCELLED, _base.CANCELLED_AND_NOTIFIED)

    def running(self) -> bool:
        """Whether a worker runs it now."""
        is_running: bool = self._task.is_running()
        return is_running

    def done(self) -> bool:
        """Whether it has ended."""
        is_ended: bool = self._task.is_ended()
        return is_ended

    def result(self, timeout: Optional[float] = None) -> T:
        """What the call returned, or raises what it raised; `TimeoutError` after `timeout` seconds."""
        outcome = self._task.outcome(timeout)
        if outcome is None:
            raise _base.TimeoutError()
        self._forget()
        success, value = outcome
        if success:
            return value  # type: ignore[no-any-return]
        try:
            raise value
        finally:
            # No cycle through the frame of the traceback.
            del self, value, outcome

    def exception(self, timeout: Optional[float] = None) -> Optional[BaseException]:
        """What the call raised, or None; `TimeoutError` after `timeout` seconds."""
        outcome = self._task.outcome(timeout)
        if outcome is None:
            raise _base.TimeoutError()
        success, value = outcome
        if success:
            return None
        if isinstance(value, _base.CancelledError) and self.cancelled():
            raise value
        error: BaseException = value
        return error
