"""`multiprocessing.pool` with procpool's processes: the names that programs import from there, and what they mean.

It follows the standard library of CPython 3.13, and 3.16 for what callbacks raise; docs/differences.md has the rest.
"""

from __future__ import annotations

import itertools
import multiprocessing.pool as _standard
import operator
import threading
import warnings
from functools import partial
from multiprocessing import get_context, util
from multiprocessing.pool import (  # type: ignore[attr-defined]
    CLOSE as CLOSE,
    INIT as INIT,
    RUN as RUN,
    TERMINATE as TERMINATE,
    ExceptionWithTraceback as ExceptionWithTraceback,
    MaybeEncodingError as MaybeEncodingError,
    RemoteTraceback as RemoteTraceback,
    ThreadPool as ThreadPool,
    mapstar as mapstar,
    starmapstar as starmapstar,
    worker as worker,
)

from . import _procpool, dumping, interrupts
from .cache import Cache, job_counter as job_counter
from .crew import GRACE, Crew, default_processes
from .deadlines import deadline_after, time_is_over
from .failures import Failures
from .feeding import Feeders
from .iterators import IMapIterator as IMapIterator, IMapUnorderedIterator as IMapUnorderedIterator
from .pool_calls import Calls, Options
from .results import ApplyResult as ApplyResult, AsyncResult as AsyncResult, MapResult as MapResult
from .submission import make_limits, submit
from .worker import Attachment, check_place, main as _work, maybe_encoding_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Iterator, Optional, TextIO

    from .stats import Stats
    from .views import TaskQueue

__all__ = ["Pool", "ThreadPool"]

_helper_reraises_exception = _standard._helper_reraises_exception  # type: ignore[attr-defined]


class Pool(Calls, _standard.Pool):  # type: ignore[misc]
    """A pool of worker processes.

    Args:
        processes: how many; as many as there are CPUs if None.
        initializer: called in every new worker with `initargs`. What it raises is raised by every call of the pool.
        maxtasksperchild: a worker is replaced after so many tasks; a chunk of `map` is one task.
        context: where processes come from (`multiprocessing.get_context`).
        max_memory_per_worker: a worker that has grown beyond so many bytes is replaced after its task.
        memory_limit_per_worker: a task whose worker uses more than so many bytes ends with `MemoryLimitExceeded`.
        spin: whether callers and idle workers look for some microseconds before they sleep. Without it calls take
            longer, and CPU time and energy are saved.
        sandbox: what workers may do. Where it cannot be enforced there is no pool, but a `SandboxError`.
    """

    _wrap_exception = True

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:
        """Makes a worker's process object; to be overridden."""
        return ctx.Process(*args, **kwds)

    def __init__(
        self,
        processes: Optional[int] = None,
        initializer: Optional[Callable[..., object]] = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: Optional[int] = None,
        context: Any = None,
        *,
        max_memory_per_worker: Optional[int] = None,
        memory_limit_per_worker: Optional[int] = None,
        spin: bool = True,
        sandbox: Optional[_procpool.Sandbox] = None,
    ) -> None:
        # First, for `__del__` and `repr` of a pool that could not be made.
        self._pool: list[Any] = []
        self._state = INIT
        self._ctx = context or get_context()
        if processes is None:
            processes = default_processes()
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        check_place(self._ctx)
        self._processes = operator.index(processes)
        self._maxtasksperchild = maxtasksperchild
        self._initializer = initializer
        self._initargs = tuple(initargs)
        self._cache = Cache()
        self._feeders = Feeders()
        make = partial(_make_process, self.Process, self._ctx, initializer, self._initargs)
        crew = self._crew = Crew(make, sandbox=sandbox)
        self._pool = crew.processes
        memory = (max_memory_per_worker, memory_limit_per_worker)
        failures = Failures(crew, RemoteTraceback)
        try:
            with interrupts.put_off():
                self._engine = crew.start_engine(failures, self._processes, maxtasksperchild, memory, spin)
                self._terminate = util.Finalize(
                    self, _terminate_pool, args=(self._engine, crew, self._feeders), exitpriority=15
                )
                self._state = RUN
                dumping.watch(self)
        except BaseException:
            # A signal's handler has raised it, and nobody gets this pool.
            if self._state == RUN:
                self.terminate()
            raise

    # ---- tasks ----

    @property
    def _target(self) -> Pool:
        return self

    def _submit(
        self, call: int, func: Callable[..., Any], argument: Any, limits: Optional[_procpool.Limits] = None
    ) -> Any:
        return submit(self._engine, self._cache, call, func, argument, limits)

    def _serve_notices(self) -> None:
        """Makes sure that there is a thread which calls callbacks."""
        self._crew.serve_notices(self._engine, "procpool-callbacks (_handle_results)")

    def _is_in_callback(self) -> bool:
        return threading.current_thread() is self._crew.notices_thread

    def options(
        self,
        *,
        timeout: Optional[float] = None,
        deadline: Optional[float] = None,
        retries: int = 0,
        buffersize: Optional[int] = None,
    ) -> Calls:
        """The same calls with limits. A task is one call, or one chunk of `map` and `imap`.

        Args:
            timeout: seconds that a task may run; then its worker is killed, and the task ends with `TaskTimeout`.
            deadline: seconds from its submission, time in the queue included, in which a task must have ended. If it
                has not begun by then, it never does; if it runs, its worker is killed. Both end it with `TaskTimeout`.
            retries: how often a task is tried again whose worker died or was killed for its `timeout`: at once, then
                after a pause that grows from 10 ms to 1.28 s. In the end `WorkerDied` has all the deaths.
            buffersize: how many items `imap` reads ahead of the results that were taken.
        """
        return Options(self, make_limits(timeout, deadline, retries), buffersize)

    # ---- a pool's life ----

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")

    def close(self) -> None:
        """Takes no more work; what was accepted is finished."""
        if self._state == RUN:
            self._state = CLOSE
            if self._feeders.are_at_work():
                # They have accepted input that they have not submitted: the engine is closed behind them.
                threading.Thread(target=_close_after, args=(self._feeders, self._engine), daemon=True).start()
            else:
                self._engine.close()

    def terminate(self, grace: float = GRACE) -> None:
        """Stops at once: queued and running calls end with `Terminated`, workers get SIGTERM and after `grace` seconds
        SIGKILL."""
        self._state = TERMINATE
        self._feeders.stop()
        if self._terminate.still_active():
            self._engine.terminate(grace)
        self._terminate()

    def join(self, timeout: Optional[float] = None) -> None:
        """Waits until all workers have gone; `TimeoutError` after `timeout` seconds. Only after `close` or `terminate`."""
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        deadline = deadline_after(timeout)
        if self._state == CLOSE and self._feeders.join(deadline):
            # Behind the last of them it is closed; here as well, lest this comes first.
            self._engine.close()
        if time_is_over(deadline) or not self._crew.join_all(self._engine, deadline):
            raise TimeoutError(f"the pool's workers have not gone in {timeout} s")

    def resize(self, processes: int) -> None:
        """Changes the number of workers; where it shrinks, workers leave after their present task."""
        self._check_running()
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        self._crew.resize(self._engine, processes)
        self._processes = processes

    def stats(self) -> Stats:
        """What the pool does now."""
        from .stats import Stats

        return Stats.of(self._engine)

    def dump(self, file: Optional[TextIO] = None) -> str:
        """Writes what everybody in the pool is doing to `file`, or to standard error, and returns it: each worker, its
        process and its stack, each task that has not ended, the queue, the engine's supervisor. For people, and also
        for a pool that is stuck: it waits for nobody for longer than some seconds."""
        text = self._describe()
        dumping.show(text, file)
        return text

    def _describe(self) -> str:
        return dumping.describe(self._engine, self._crew)

    def __enter__(self) -> Pool:
        self._check_running()
        return self

    def __exit__(self, *error: object) -> None:
        self.terminate()

    def __del__(self, _warn: Any = warnings.warn, RUN: str = RUN) -> None:
        if self._state == RUN:
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)

    def __repr__(self) -> str:
        cls = self.__class__
        return f"<{cls.__module__}.{cls.__qualname__} state={self._state} pool_size={len(self._pool)}>"

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    # ---- what programs use of the standard library's private parts ----

    def _repopulate_pool(self) -> None:
        """Sees to it that there are as many processes as there should be."""
        self._crew.resize(self._engine, self._processes)

    _maintain_pool = _repopulate_pool

    @staticmethod
    def _get_tasks(func: Callable[..., Any], it: Iterable[Any], size: int) -> Iterator[Any]:
        it = iter(it)
        while batch := tuple(itertools.islice(it, size)):
            yield (func, batch)

    def _guarded_task_generation(
        self, result_job: int, func: Callable[..., Any], iterable: Iterable[Any]
    ) -> Iterator[Any]:
        try:
            index = -1
            for index, item in enumerate(iterable):
                yield (result_job, index, func, (item,), {})
        except Exception as error:
            yield (result_job, index + 1, _helper_reraises_exception, (error,), {})

    @property
    def _taskqueue(self) -> TaskQueue:
        from .views import TaskQueue

        return TaskQueue(self)

    _inqueue = _outqueue = _taskqueue


def _make_process(
    make: Callable[..., Any],
    ctx: Any,
    initializer: Optional[Callable[..., object]],
    initargs: tuple[Any, ...],
    attachment: Attachment,
) -> Any:
    process = make(ctx, target=_work, args=(attachment, initializer, initargs, maybe_encoding_error))
    process.name = process.name.replace("Process", "PoolWorker")
    process.daemon = True
    return process


def _close_after(feeders: Feeders, engine: _procpool.Engine) -> None:
    feeders.join(None)
    engine.close()


def _terminate_pool(engine: _procpool.Engine, crew: Crew, feeders: Feeders) -> None:
    feeders.stop()
    engine.terminate()
    if not util.is_exiting():
        feeders.end_iterators(engine)
    if threading.current_thread() is crew.thread:
        # A pool that nobody has any more, found by the garbage collector: it is this thread that ends it.
        return
    engine.join()
    # The interpreter ends also where a callback does not.
    deadline = deadline_after(GRACE) if util.is_exiting() else None
    crew.join_all(engine, deadline)
    if deadline is not None:
        # An interpreter before 3.14 ends such threads wherever they are, and the process with them where that is not Python.
        feeders.join(deadline)
