"""The compiled part: the engine's handles, buffers and waits."""

import os
import pickle
from typing import Any, Callable, Iterator, Optional, Sequence, TypedDict, Union, final

class _Numbers(TypedDict):
    accepted: int
    queued: int
    running: int
    done: int
    failed: int
    restarts: int
    retries: int
    #: pid, tasks, seconds of the present task, bytes of memory
    workers: list[tuple[int, int, Optional[float], Optional[int]]]

_Reducers = list[dict[Any, Any]]

@final
class Function:
    """A function that was encoded once, for any number of tasks."""

    def __new__(cls, data: bytes, name: str, cacheable: bool) -> Function: ...
    @property
    def name(self) -> str:
        """For messages."""

@final
class Limits:
    """What a call's tasks may cost."""

    def __new__(cls, timeout: Optional[float], deadline: Optional[float], retries: int) -> Limits: ...
    def begin(self) -> Limits:
        """The same, for a task that is submitted now and may have to wait for room."""

@final
class Task:
    """One accepted task. Dropping it does not cancel the task."""

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Waits for the end; false when the time was over first."""

    def outcome(self, timeout: Optional[float] = None) -> Optional[tuple[bool, Any]]:
        """Waits, and gives whether it ended with a value, and the value or the exception."""

    def is_ended(self) -> bool:
        """Whether it has ended."""

    def is_running(self) -> bool:
        """Whether a worker runs it now."""

    def cancel(self, running: bool = False) -> bool:
        """Takes the task off the queue, or with `running` ends the worker that runs it."""

    def notify(self, notice: Callable[[], object]) -> None:
        """Leaves `notice` for the thread that reads the pool's notices, once the task has ended."""

def take_values(tasks: list[Any], start: int, end: int, values: list[Any]) -> int:
    """Takes values out of `tasks`, from `start` to `end`, and leaves `None` in their places. Gives where it stopped: at
    `end`, at what is no task, has not ended, or ended with an error, and after what was so big that others should have
    the interpreter."""

@final
class Sandbox:
    """What a pool's workers may do: nothing but to read files and to compute, unless it says so.

    Whatever it says, they may use shared memory, start threads, fork, and write into what was open already; and they may
    not gain privileges. What is refused raises `PermissionError` in the task. docs/security.md has the rest.

    Args:
        write: files and folders that may be changed, with all that is below them. They have to exist.
        network: whether sockets may be made and connected; those of the Unix family count.
        programs: whether programs may be started. They are in the same sandbox.
        memory: how much memory of its own a worker may have, in bytes; beyond, there is `MemoryError`.
        open_files: how many descriptors a worker may have open.
        file_size: how long a file that a worker writes may become, in bytes.
    """

    def __new__(
        cls,
        *,
        write: Sequence[Union[str, os.PathLike[str]]] = (),
        network: bool = False,
        programs: bool = False,
        memory: Optional[int] = None,
        open_files: Optional[int] = None,
        file_size: Optional[int] = None,
    ) -> Sandbox: ...
    @property
    def write(self) -> tuple[str, ...]: ...
    @property
    def network(self) -> bool: ...
    @property
    def programs(self) -> bool: ...
    @property
    def memory(self) -> Optional[int]: ...
    @property
    def open_files(self) -> Optional[int]: ...
    @property
    def file_size(self) -> Optional[int]: ...
    def check(self) -> None:
        """Raises what making a pool with it would raise here: `SandboxError` where this system cannot enforce it, an
        `OSError` where something in `write` cannot be opened."""

@final
class Engine:
    """A pool of the engine: tasks in, processes wanted, notices out."""

    def __new__(
        cls,
        *,
        name: str,
        workers: int,
        tasks_per_worker: Optional[int],
        memory_soft: Optional[int],
        memory_hard: Optional[int],
        grace: float,
        spin: bool,
        sandbox: Optional[Sandbox],
        start: Callable[[int, tuple[int, ...]], Optional[int]],
        make_pickler: Callable[[Any, dict[Any, Any]], pickle.Pickler],
        reducers: _Reducers,
        loads: Callable[..., Any],
        raised: Callable[[Any], BaseException],
        failed: Callable[..., BaseException],
    ) -> Engine: ...
    def submit(
        self,
        call: int,
        function: Function,
        argument: Any,
        limits: Optional[Limits] = None,
    ) -> Optional[Task]:
        """Accepts a task. `None` when there is no room for it now."""

    def submit_each(
        self,
        call: int,
        function: Function,
        arguments: Iterator[Any],
        limits: Optional[Limits],
        keep: Callable[[Task], object],
        most: int,
    ) -> Optional[tuple[Any, ...]]:
        """As `submit`, for each of `arguments`: the tasks go to `keep`, each as soon as it is accepted. Gives why there
        are no more: `None` if the arguments are at their end, `()` after `most` or where others should have the
        interpreter, and else the argument in a tuple that found no room or could not be encoded."""

    @property
    def descriptors(self) -> Optional[tuple[int, ...]]:
        """The descriptors that a worker needs."""

    def fileno(self) -> int:
        """Becomes readable when processes are wanted, or no more."""

    def wanted(self) -> Optional[list[int]]:
        """The seats that processes are wanted for; `None` when none will be wanted."""

    def started(self, seat: int, pid: int) -> None:
        """A process was started in `seat`."""

    def not_started(self, seat: int, why: str) -> None:
        """No process could be started in `seat`."""

    def exited(self, seat: int, pid: int, exitcode: Optional[int]) -> None:
        """The process in `seat` is dead."""

    def close(self) -> None:
        """Takes no more tasks."""

    def terminate(self, grace: Optional[float] = None) -> None:
        """Ends all tasks and all workers, those by SIGKILL after `grace` seconds."""

    def unfinished(self) -> int:
        """How many tasks have not ended."""

    def breakdown(self) -> Optional[str]:
        """Why the pool gave up, if it has."""

    def join(self, timeout: Optional[float] = None) -> bool:
        """Waits until all workers are gone; false when the time was over first."""

    def resize(self, workers: int) -> None:
        """Changes the number of workers."""

    def notices(self) -> Optional[list[Callable[[], object]]]:
        """All notices, as soon as there is one; `None` when there will be no more."""

    def notify(self, notice: Callable[[], object]) -> None:
        """Leaves `notice` for the thread that reads the pool's notices."""

    def end_notices(self) -> None:
        """There will be no more notices than there are."""

    def dump(self, name: Callable[[bytes], Optional[str]]) -> str:
        """What everybody in the pool is doing. `name` is given the pickles of functions, perhaps cut off."""

    def stats(self) -> _Numbers:
        """What the pool does now."""

def work(
    seat: int,
    descriptors: tuple[int, ...],
    sandbox: Optional[Sandbox],
    *,
    prepare: Callable[[], object],
    prepare_failed: Callable[[BaseException], str],
    report: Callable[[BaseException], bytes],
    unpicklable: Callable[[BaseException, Any], bytes],
    make_pickler: Callable[[Any, dict[Any, Any]], pickle.Pickler],
    reducers: _Reducers,
    loads: Callable[..., Any],
) -> None:
    """Serves a pool until it needs this process no more."""
