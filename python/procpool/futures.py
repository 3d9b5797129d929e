"""`concurrent.futures.ProcessPoolExecutor` with procpool's processes: the signature of CPython 3.14 on every version."""

from __future__ import annotations

import os
import threading
import weakref
from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback
from functools import partial
from multiprocessing import get_context

from . import _procpool, dumping, ending, interrupts, worker
from .cache import Cache
from .crew import Crew, default_processes
from .executor_calls import Calls, Options
from .failures import Failures
from .future import Future
from .submission import FailedTask, make_limits, submit

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Its private parts are of other types, which nobody is to rely on.
    from concurrent.futures import Executor as _Standard
    from typing import Any, Callable, Optional, TextIO, Union

    from .stats import Stats
    from .views import Backlog

if not TYPE_CHECKING:
    from concurrent.futures.process import ProcessPoolExecutor as _Standard

__all__ = ["BrokenProcessPool", "Future", "ProcessPoolExecutor"]

_ENDED = "A process in the process pool was terminated abruptly while the future was running or pending."
_BROKEN = "A child process terminated abruptly, the process pool is not usable anymore"


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


def _check_tasks_per_child(tasks: Optional[int]) -> None:
    if tasks is not None:
        if not isinstance(tasks, int):
            raise TypeError("max_tasks_per_child must be an integer")
        if tasks <= 0:
            raise ValueError("max_tasks_per_child must be >= 1")


class ProcessPoolExecutor(Calls, _Standard):
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
        _check_tasks_per_child(max_tasks_per_child)
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
        #: Whether workers are started one by one, as they are needed. Not with fork: a later one would copy locks that other
        #: threads hold at that moment.
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
        if ending.has_begun:
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
            # Perhaps because it was shut down meanwhile.
            self._check_open()
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
    ) -> Calls:
        """The same calls with limits. A task is one call, or one chunk of `map`.

        Args:
            timeout: seconds that a task may run; then its worker is killed, and the task ends with `TaskTimeout`.
            deadline: seconds from its submission, time in the queue included, in which a task must have ended. If it
                has not begun by then, it never does; if it runs, its worker is killed. Both end it with `TaskTimeout`.
            retries: how often a task is tried again whose worker died or was killed for its `timeout`: at once, then
                after a pause that grows from 10 ms to 1.28 s. In the end `WorkerDied` has all the deaths.
            buffersize: how many items `map` reads ahead of the results that were taken.
        """
        return Options(self, make_limits(timeout, deadline, retries), buffersize)

    # ---- processes ----

    def _start(self) -> None:
        worker.check_place(self._mp_context)
        make = partial(_make_process, self._mp_context, self._initializer, self._initargs)
        reference = weakref.ref(self)
        crew = Crew(make, partial(_on_death, reference) if self._breaks else None, self._sandbox)
        failures = _Failures(crew, _RemoteTraceback)
        self._started = 1 if self._grows else self._max_workers
        with interrupts.put_off():
            engine = crew.start_engine(failures, self._started, self._max_tasks_per_child, self._memory, self._spin)
            self._crew = crew
            self._engine = engine
            self._finalizer = weakref.finalize(self, engine.close)
            self._finalizer.atexit = False  # type: ignore[misc]
            ending.wait_for(self)
            dumping.watch(self)

    def _grow(self, engine: _procpool.Engine) -> None:
        """Starts one more worker if all there are have something to do."""
        with self._shutdown_lock:
            if self._started < self._max_workers and engine.unfinished() + self._unsent > self._started:
                if self._crew is not None:
                    self._crew.resize(engine, self._started + 1)
                self._started += 1

    def _serve_notices(self) -> None:
        crew, engine = self._crew, self._engine
        if crew is not None and engine is not None:
            crew.serve_notices(engine)

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
        pending = list(dict.values(self._pending_work_items))
        unended = [call for item in pending for call in item.unended()]
        for call in unended[besides:]:
            call.cancel()

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
    def _work_ids(self) -> Backlog:
        from .views import Backlog

        return Backlog(self._engine)

    _call_queue = _work_ids


def _on_death(reference: Callable[[], Optional[ProcessPoolExecutor]], process: Any) -> None:
    executor = reference()
    if executor is not None:
        executor._break()
