"""`concurrent.futures.ProcessPoolExecutor` with procpool's processes: the signature of CPython 3.14 on every version."""

from __future__ import annotations

import itertools
import os
import sys
import threading
import weakref
from concurrent.futures import Executor, _base
from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback
from functools import partial
from multiprocessing import get_context

from . import _procpool, dumping, pickling, worker
from .crew import Crew
from .deadlines import deadline_after, left
from .failures import Failures
from .pool import GRACE, _checked_buffersize, _handle_results, default_processes
from .results import Cache, FailedTask
from .submission import APPLY, ONE, SPREAD, STARMAP, make_limits, submit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Iterator, Optional, TextIO, Union

    from .deadlines import Deadline
    from .stats import Stats

__all__ = ["BrokenProcessPool", "Future", "ProcessPoolExecutor"]

_ENDED = "A process in the process pool was terminated abruptly while the future was running or pending."
_BROKEN = "A child process terminated abruptly, the process pool is not usable anymore"


class Future(_base.Future["Any"]):
    """A future that looks at its task: whoever waits for the result waits for the task itself.

    The standard library's functions read and change the private parts of futures. Here these are views of the task; the
    first look at what only matters to somebody who waits for several (`wait`, `as_completed`, callbacks) makes the
    executor's thread tell them.
    """

    def __init__(self, executor: ProcessPoolExecutor, task: Any) -> None:
        # Not the base class's: its attributes are the properties below.
        self._task = task
        self._executor: Optional[ProcessPoolExecutor] = executor
        self._final: Optional[str] = None

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
        if self._final is None and self._task.is_ended() and not self._is_held():
            self._finish()
        if self._final is not None:
            return self._final
        return _base.RUNNING if self._task.is_running() else _base.PENDING

    def _is_held(self) -> bool:
        """Whether this thread keeps the future as it is: `wait` and `as_completed` look at it twice, and what ended in
        between they would neither give nor wait for."""
        made: Any = self.__dict__.get("condition")
        return made is not None and bool(made._is_owned())

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override]
        return self._told("waiters")

    @property
    def _done_callbacks(self) -> list[Any]:
        return self._told("callbacks")

    def _told(self, which: str) -> list[Any]:
        """A list of those who want to be told of the end: from now on the executor's thread will."""
        wanted = self.__dict__.get(which)
        if wanted is None:
            wanted = self.__dict__.setdefault(which, [])
            if self._final is None and self.__dict__.setdefault("noticed", which) is which:
                executor = self._executor
                if executor is not None:
                    executor._serve_notices()
                self._task.notify(self._end)
        told: list[Any] = wanted
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

    def _settle_if_ended(self) -> None:
        if self._task.is_ended():
            self._forget()

    def _take_ended(self) -> None:
        if self._task.is_ended():
            self._task.outcome()
            self._forget()

    # ---- for callers ----

    def __repr__(self) -> str:
        # The base class's looks at it while it is held.
        _ = self._state
        return super().__repr__()

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

    def result(self, timeout: Optional[float] = None) -> Any:
        """What the call returned, or raises what it raised; `TimeoutError` after `timeout` seconds."""
        outcome = self._task.outcome(timeout)
        if outcome is None:
            raise _base.TimeoutError()
        self._forget()
        success, value = outcome
        if success:
            return value
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


class _Failures(Failures):
    """The exceptions of an executor: what ends it breaks it."""

    def terminated(self, name: Optional[str]) -> BaseException:
        return BrokenProcessPool(_ENDED)

    def broken(self, is_initializer: bool, text: str) -> BaseException:
        cause = super().broken(is_initializer, text)
        if isinstance(cause, BrokenProcessPool):
            return cause
        error = BrokenProcessPool(f"the initializer of a worker failed: {cause!r}")
        error.__cause__ = cause
        return error


def _make_process(
    ctx: Any, initializer: Optional[Callable[..., object]], initargs: tuple[Any, ...], attachment: worker.Attachment
) -> Any:
    if initializer is not None:
        initializer, initargs = worker.initialize, (initializer, *initargs)
    return ctx.Process(target=worker.main, args=(attachment, initializer, initargs, worker.the_error_itself))


class _Calls:
    """The calls of an executor, with limits for each."""

    _limits: Optional[_procpool.Limits] = None
    _buffersize: Optional[int] = None

    @property
    def _target(self) -> ProcessPoolExecutor:
        raise NotImplementedError

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Calls `fn(*args, **kwargs)` in a worker; the future is its result."""
        executor = self._target
        executor._check_open()
        call, argument = (APPLY, (args, kwargs)) if kwargs else (SPREAD, args)
        future = Future(executor, executor._submit(call, fn, argument, self._limits))
        executor._pending_work_items.add(id(future), future)
        return future

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: Optional[float] = None,
        chunksize: int = 1,
        buffersize: Optional[int] = None,
    ) -> Iterator[Any]:
        """An iterator over `map(fn, *iterables)`, computed in the workers.

        Args:
            timeout: seconds from this call after which the iterator raises `TimeoutError`.
            chunksize: so many items are one task.
            buffersize: read only so many items ahead of the results that were taken; all, at this call, if None.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        buffersize = _checked_buffersize(self._buffersize if buffersize is None else buffersize)
        executor = self._target
        executor._check_open()
        deadline = deadline_after(timeout)
        tasks = self._tasks(fn, iterables, chunksize)
        pending = list(itertools.islice(tasks, buffersize and -(-buffersize // chunksize)))
        return _results(pending, tasks if buffersize else iter(()), deadline, chunksize)

    def _tasks(self, fn: Callable[..., Any], iterables: tuple[Iterable[Any], ...], chunksize: int) -> Iterator[Any]:
        executor = self._target
        submit = partial(executor._submit, limits=self._limits)
        if chunksize > 1:
            items = zip(*iterables)
            while chunk := list(itertools.islice(items, chunksize)):
                yield submit(STARMAP, fn, chunk)
        elif len(iterables) == 1:
            for item in iterables[0]:
                yield submit(ONE, fn, item)
        else:
            for arguments in zip(*iterables):
                yield submit(SPREAD, fn, arguments)


def _results(pending: list[Any], more: Iterator[Any], deadline: Deadline, chunksize: int) -> Iterator[Any]:
    pending.reverse()
    try:
        while pending:
            outcome = pending[-1].outcome(left(deadline))
            if outcome is None:
                raise _base.TimeoutError()
            pending.pop()
            pending[:0] = itertools.islice(more, 1)
            if chunksize > 1:
                yield from _value_of([outcome])
            else:
                # Nothing here may keep what the caller has taken.
                taken, outcome = [outcome], None
                yield _value_of(taken)
    finally:
        for task in pending:
            task.cancel()


def _value_of(taken: list[tuple[bool, Any]]) -> Any:
    success, value = taken.pop()
    if success:
        return value
    try:
        raise value
    finally:
        # No cycle through the frame of the traceback.
        del value


#: Executors that are in use, for the end of the interpreter.
_executors: weakref.WeakSet[ProcessPoolExecutor] = weakref.WeakSet()
_global_shutdown = False


def _end_all() -> None:
    global _global_shutdown
    _global_shutdown = True
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


class ProcessPoolExecutor(_Calls, Executor):
    """An executor whose calls run in worker processes.

    Args:
        max_workers: how many; as many as there are CPUs if None.
        mp_context: where processes come from (`multiprocessing.get_context`).
        initializer: called in every new worker with `initargs`. If it raises, the executor is broken, and says so.
        max_tasks_per_child: a worker is replaced after so many tasks.
        on_worker_death: "continue" fails the one future whose worker died, with `WorkerDied`; "break" fails all, as the
            standard library does it.
        max_memory_per_worker: a worker that has grown beyond so many bytes is replaced after its task.
        memory_limit_per_worker: a task whose worker uses more than so many bytes ends with `MemoryLimitExceeded`.
        spin: whether callers and idle workers look for some microseconds before they sleep. Without it calls take
            longer, and CPU time and energy are saved.
        sandbox: what workers may do. Where it cannot be enforced there is no executor, but a `SandboxError`.
    """

    def __init__(
        self,
        max_workers: Optional[int] = None,
        mp_context: Any = None,
        initializer: Optional[Callable[..., object]] = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: Optional[int] = None,
        on_worker_death: str = "continue",
        max_memory_per_worker: Optional[int] = None,
        memory_limit_per_worker: Optional[int] = None,
        spin: bool = True,
        sandbox: Optional[_procpool.Sandbox] = None,
    ) -> None:
        if max_workers is None:
            max_workers = default_processes()
        elif max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
        if mp_context is None:
            mp_context = get_context("spawn" if max_tasks_per_child is not None else None)
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if on_worker_death not in ("continue", "break"):
            raise ValueError(f'on_worker_death must be "continue" or "break", not {on_worker_death!r}')
        if sandbox is not None:
            # Processes are started when they are needed, and then it is late to hear this.
            sandbox.check()
        self._max_workers = max_workers
        self._mp_context = mp_context
        self._initializer = initializer
        self._initargs = tuple(initargs)
        self._max_tasks_per_child = max_tasks_per_child
        self._breaks = on_worker_death == "break"
        self._spin = spin
        self._sandbox = sandbox
        self._memory = (max_memory_per_worker, memory_limit_per_worker)
        self._shutdown_thread = False
        self._shutdown_lock = threading.RLock()
        self._is_broken = False
        self._pending_work_items = Cache()
        self._started = 0
        #: Calls that could not be sent: the standard library starts a process for these as well.
        self._unsent = 0
        self._engine: Optional[_procpool.Engine] = None
        self._crew: Optional[Crew] = None
        self._cancels_pending = False
        #: Processes that leave their children to their own: only with a method that copies nothing of this process
        #: may there be more of them when other threads run.
        self._grows = self._mp_context.get_start_method(allow_none=False) != "fork"

    # ---- tasks ----

    @property
    def _target(self) -> ProcessPoolExecutor:
        return self

    def _check_open(self) -> None:
        if self._is_broken:
            raise BrokenProcessPool(_BROKEN)
        if self._shutdown_thread:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if _global_shutdown:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        if self._engine is None:
            with self._shutdown_lock:
                if self._engine is None:
                    self._start()

    def _submit(
        self, call: int, fn: Callable[..., Any], argument: Any, limits: Optional[_procpool.Limits] = None
    ) -> Any:
        engine = self._engine
        if engine is None:
            raise RuntimeError("cannot schedule new futures after shutdown")
        task = submit(engine, self._pending_work_items, call, fn, argument, limits)
        if type(task) is FailedTask:
            self._unsent += 1
            if isinstance(task.error, BrokenProcessPool):
                raise task.error
        if self._started < self._max_workers:
            self._grow(engine)
        return task

    def options(
        self,
        *,
        timeout: Optional[float] = None,
        deadline: Optional[float] = None,
        retries: int = 0,
        buffersize: Optional[int] = None,
    ) -> _Calls:
        """The same calls with limits. A task is one call, or one chunk of `map`.

        Args:
            timeout: seconds that a task may run; then its worker is killed, and the task ends with `TaskTimeout`.
            deadline: seconds from its submission, time in the queue included, in which a task must have ended. If it
                has not begun by then, it never does; if it runs, its worker is killed. Both end it with `TaskTimeout`.
            retries: how often a task is tried again whose worker died or was killed for its `timeout`: at once, then
                after a pause that grows from 10 ms to 1.28 s. In the end `WorkerDied` has all the deaths.
            buffersize: how many items `map` reads ahead of the results that were taken.
        """
        return _Options(self, make_limits(timeout, deadline, retries), buffersize)

    # ---- processes ----

    def _start(self) -> None:
        worker.check_place(self._mp_context)
        make = partial(_make_process, self._mp_context, self._initializer, self._initargs)
        reference = weakref.ref(self)
        crew = Crew(make, partial(_on_death, reference) if self._breaks else None, self._sandbox)
        failures = _Failures(crew, _RemoteTraceback)
        self._started = 1 if self._grows else self._max_workers
        try:
            engine = _procpool.Engine(
                name="procpool",
                workers=self._started,
                tasks_per_worker=self._max_tasks_per_child,
                memory_soft=self._memory[0],
                memory_hard=self._memory[1],
                grace=GRACE,
                spin=self._spin,
                sandbox=self._sandbox,
                start=crew.start_first,
                make_pickler=pickling.make_pickler,
                reducers=pickling.reducers(),
                loads=pickling.loads,
                raised=failures.raised,
                failed=failures.failed,
            )
        except BaseException:
            crew.abandon()
            raise
        crew.serve(engine)
        self._crew = crew
        self._engine = engine
        self._finalizer = weakref.finalize(self, engine.close)
        self._finalizer.atexit = False  # type: ignore[misc]
        _executors.add(self)
        dumping.watch(self)

    def _grow(self, engine: _procpool.Engine) -> None:
        """Starts one more worker if all there are have something to do."""
        with self._shutdown_lock:
            if self._started < self._max_workers and engine.unfinished() + self._unsent > self._started:
                self._started += 1
                if self._crew is not None:
                    self._crew.grow(engine, self._started)

    def _serve_notices(self) -> None:
        crew, engine = self._crew, self._engine
        if crew is not None and engine is not None and crew.notices_thread is None:
            with self._shutdown_lock:
                if crew.notices_thread is None:
                    thread = threading.Thread(target=_handle_results, args=(engine,), daemon=True)
                    crew.notices_thread = thread
                    thread.start()

    def _break(self) -> None:
        self._is_broken = True
        engine = self._engine
        if engine is not None:
            engine.terminate()

    # ---- an executor's life ----

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more work; what was submitted is finished, or with `cancel_futures` cancelled if it has not begun.
        Waits for that with `wait`."""
        with self._shutdown_lock:
            self._shutdown_thread = True
            engine, crew = self._engine, self._crew
        if engine is None or crew is None:
            return
        if cancel_futures:
            # As many as there are workers count as begun: each may take one up at this moment.
            self._cancel_pending(besides=self._started)
        engine.close()
        if wait:
            crew.join_all(engine, None)
            self._engine = self._crew = None

    def _cancel_pending(self, besides: int = 0) -> None:
        unended = [future for future in list(dict.values(self._pending_work_items)) if not future.done()]
        for future in unended[besides:]:
            future.cancel()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> Optional[bool]:
        if kind is KeyboardInterrupt:
            # Workers leave Ctrl-C to their parent.
            self.terminate_workers()
        return super().__exit__(kind, error, trace)

    def terminate_workers(self) -> None:
        """Ends all workers, and with them what they run; what has not begun is cancelled."""
        self._end_workers("terminate")

    def kill_workers(self) -> None:
        """As `terminate_workers`, by SIGKILL."""
        self._end_workers("kill")

    def _end_workers(self, how: str) -> None:
        with self._shutdown_lock:
            self._shutdown_thread = True
            engine, crew = self._engine, self._crew
        if engine is None or crew is None:
            return
        self._cancel_pending()
        engine.terminate()
        for process in list(crew.processes):
            try:
                getattr(process, how)()
            except (OSError, ValueError):
                # It has ended meanwhile.
                pass

    def stats(self) -> Stats:
        """What the executor does now."""
        from .stats import Stats

        if self._engine is None:
            return Stats(0, 0, 0, 0, 0, 0, 0, [])
        return Stats.of(self._engine)

    def dump(self, file: Optional[TextIO] = None) -> str:
        """Writes what everybody in the executor is doing to `file`, or to standard error, and returns it: each worker, its
        process and its stack, each task that has not ended, the queue, the engine's supervisor. For people, and also
        for an executor that is stuck: it waits for nobody for longer than some seconds."""
        text = self._describe()
        dumping.show(text, file)
        return text

    def _describe(self) -> str:
        engine, crew = self._engine, self._crew
        if engine is None or crew is None:
            return f"executor of process {os.getpid()}: it has no workers\n"
        return dumping.describe(engine, crew)

    def resize(self, max_workers: int) -> None:
        """Changes the number of workers; where it shrinks, workers leave after their present task."""
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        with self._shutdown_lock:
            self._max_workers = max_workers
            if self._engine is not None and (self._started > max_workers or not self._grows):
                self._started = max_workers
                self._engine.resize(max_workers)

    # ---- what programs use of the standard library's private parts ----

    @property
    def _broken(self) -> Union[bool, str]:
        engine = self._engine
        if self._is_broken:
            return _BROKEN
        return (engine is not None and engine.breakdown()) or False

    @property
    def _processes(self) -> Optional[dict[int, Any]]:
        crew = self._crew
        if crew is None:
            return None if self._shutdown_thread else {}
        return {process.pid: process for process in list(crew.processes)}

    @property
    def _executor_manager_thread(self) -> Optional[threading.Thread]:
        return None if self._crew is None else self._crew.thread

    @property
    def _work_ids(self) -> _Backlog:
        return _Backlog(self._engine)

    _call_queue = _work_ids


class _Options(_Calls):
    """An executor's calls with limits."""

    def __init__(
        self, executor: ProcessPoolExecutor, limits: Optional[_procpool.Limits], buffersize: Optional[int]
    ) -> None:
        self._owner = executor
        self._limits = limits
        self._buffersize = _checked_buffersize(buffersize)

    @property
    def _target(self) -> ProcessPoolExecutor:
        return self._owner


class _Backlog:
    """What waits for a worker, as the queue that the standard library has there."""

    def __init__(self, engine: Optional[_procpool.Engine]) -> None:
        self._engine = engine

    def qsize(self) -> int:
        """Calls that no worker has taken up."""
        return 0 if self._engine is None else self._engine.stats()["queued"]

    def close(self) -> None:
        """Nothing is to be closed."""

    def join_thread(self) -> None:
        """No thread feeds it."""


def _on_death(reference: Callable[[], Optional[ProcessPoolExecutor]], process: Any) -> None:
    executor = reference()
    if executor is not None:
        executor._break()
