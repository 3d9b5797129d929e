"""What goes wrong: a function a row, which does it to a pool and says what it saw.

A new row is a function here, with `@row`. What the documentation says of it: its title, its text, and its target.
"""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

import tasks
from peer import Missing, Peer, in_thread
from processes import LIMIT, NotBegun, Program, is_alive, time_until
from verdicts import (
    PATIENCE,
    Failure,
    Pending,
    Seen,
    Target,
    Value,
    details,
    duration,
    ends,
    fails,
    fails_with,
    is_usable,
    judged,
    outcomes_of,
    returns,
)

#: How many times as long as it says a target may take: for machines that have other work.
SLACK = float(os.environ.get("FAULTS_SLACK", "1"))

ONLY_THAT = "Only that task fails."


Look = Callable[[type[Peer]], Seen]


@dataclass(frozen=True)
class Row:
    """What goes wrong."""

    name: str
    title: str
    #: What is done.
    text: str
    #: What should come of it.
    target: str
    look: Look


#: In the order of this file.
ALL: dict[str, Row] = {}


def row(title: str, target: str) -> Callable[[Look], Look]:
    def add(look: Look) -> Look:
        name = look.__name__.replace("_", "-")
        ALL[name] = Row(name, title, " ".join((look.__doc__ or "").split()), target, look)
        return look

    return add


def six(peer: type[Peer], function: Callable[[Any], Any], target: Target = fails, bad_item: Any = tasks.BAD) -> Seen:
    """Six tasks for two workers, and one of them misbehaves."""
    pool = peer()
    items: list[Any] = list(range(6))
    items[tasks.BAD] = bad_item
    return judged(pool, pool.begin(function, items), [tasks.BAD], target)


# ---- a worker dies ----


@row("killed in a task", ONLY_THAT)
def killed(peer: type[Peer]) -> Seen:
    """One of six tasks kills its own process by SIGKILL, as the kernel does when memory runs out."""
    return six(peer, tasks.killed)


@row("killed in a `map`", "The call raises, and the pool stays usable.")
def killed_in_map(peer: type[Peer]) -> Seen:
    """The same, but all six tasks belong to one `map`."""
    pool = peer()
    [outcome] = outcomes_of([in_thread(pool.map, tasks.killed, range(6))], PATIENCE)
    if isinstance(outcome, Failure) and isinstance(outcome.error, Missing):
        raise outcome.error
    usable = is_usable(pool)
    if usable is None or outcome == Pending():
        return Seen("lost" if usable else "HANG", False)
    return Seen("raises" if usable else "BREAK", usable and fails(outcome), details([outcome]))


@row("`os._exit` in a task", ONLY_THAT)
def exited(peer: type[Peer]) -> Seen:
    """One of six tasks calls `os._exit(7)`, as some libraries in C do."""
    return six(peer, tasks.exited)


@row("an idle worker is killed", "Nobody notices.")
def idle_killed(peer: type[Peer]) -> Seen:
    """The only worker is killed while it has nothing to do; then a task is submitted."""
    pool = peer(workers=1)
    outcomes = outcomes_of(pool.begin(tasks.pid, range(4)), PATIENCE)
    pids = {outcome.value for outcome in outcomes if isinstance(outcome, Value)} - {os.getpid()}
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    time_until(lambda: not any(map(is_alive, pids)), LIMIT)
    return judged(pool, pool.begin(tasks.same, [0]), [0], returns(0))


# ---- a task raises ----


@row("`sys.exit` in a task", "Only that task fails, with `SystemExit`.")
def system_exit(peer: type[Peer]) -> Seen:
    """One of six tasks calls `sys.exit(3)`."""
    return six(peer, tasks.system_exit, fails_with(SystemExit))


@row("`KeyboardInterrupt` in a task", "Only that task fails, with `KeyboardInterrupt`.")
def keyboard_interrupt(peer: type[Peer]) -> Seen:
    """One of six tasks raises `KeyboardInterrupt`."""
    return six(peer, tasks.keyboard_interrupt, fails_with(KeyboardInterrupt))


@row("another `BaseException` in a task", "Only that task fails, with that exception.")
def bare_exception(peer: type[Peer]) -> Seen:
    """One of six tasks raises an exception whose class is derived from `BaseException`."""
    return six(peer, tasks.bare_exception, fails_with(tasks.Bare))


@row("an exception that cannot be unpickled", "Only that task fails, with that exception.")
def unreadable_exception(peer: type[Peer]) -> Seen:
    """One of six tasks raises an exception whose `__init__` takes two arguments and gives one to `super().__init__`:
    pickle cannot call it again."""
    return six(peer, tasks.unreadable_exception, fails_with(tasks.NeedsTwo))


@row("an exception that cannot be pickled", ONLY_THAT)
def exception_with_lock(peer: type[Peer]) -> Seen:
    """One of six tasks raises an exception with a lock as an attribute."""
    return six(peer, tasks.exception_with_lock)


# ---- something cannot travel ----


@row("a result that cannot be pickled", "Only that task fails, if any does.")
def lock_as_result(peer: type[Peer]) -> Seen:
    """One of six tasks returns a lock."""
    return six(peer, tasks.lock_as_result, ends)


@row("a lambda as result", "It is returned, or only that task fails.")
def lambda_as_result(peer: type[Peer]) -> Seen:
    """One of six tasks returns a lambda."""
    return six(peer, tasks.lambda_as_result, ends)


@row("a result that cannot be unpickled", ONLY_THAT)
def unreadable_result(peer: type[Peer]) -> Seen:
    """One of six tasks returns something that raises when the program unpickles it."""
    return six(peer, tasks.unreadable_result)


@row("an argument that cannot be pickled", "Only that task fails, if any does.")
def lock_as_argument(peer: type[Peer]) -> Seen:
    """The argument of one of six tasks is a lock."""
    return six(peer, tasks.same, ends, threading.Lock())


@row("an argument that cannot be unpickled", ONLY_THAT)
def unreadable_argument(peer: type[Peer]) -> Seen:
    """The argument of one of six tasks raises when the worker unpickles it."""
    return six(peer, tasks.same, fails, tasks.Unreadable())


@row("a lambda as function", "It is called.")
def lambda_as_function(peer: type[Peer]) -> Seen:
    """A task's function is a lambda. (procpool uses cloudpickle for it, which is installed here.)"""
    pool = peer()
    return judged(pool, pool.begin(lambda number: number, [0]), [0], returns(0))


# ---- code beside the tasks ----


@row("the initializer raises", "The caller is told what it raised.")
def failing_initializer(peer: type[Peer]) -> Seen:
    """The initializer raises `ConnectionError("no such database")`, and six tasks are submitted."""
    try:
        pool = peer(initializer=tasks.failing_initializer)
        outcomes = outcomes_of(pool.begin(tasks.same, range(6)), PATIENCE)
    except Exception as error:
        outcomes = [Failure(error)]
    starts = Path("starts").stat().st_size if Path("starts").exists() else 0
    told = all(isinstance(outcome, Failure) and tells(outcome.error) for outcome in outcomes)
    if Pending() in outcomes:
        return Seen("HANG", False, f"{starts:,} workers were started")
    return Seen("ok" if told else "BREAK", told, details(outcomes))


def tells(error: Optional[BaseException]) -> bool:
    """Whether it, or a cause of it, is the initializer's error or has its text."""
    while error is not None and "no such database" not in str(error):
        error = error.__cause__ or error.__context__
    return error is not None


@row("a callback raises", "The pool stays usable, and the error is raised or logged.")
def callback(peer: type[Peer]) -> Seen:
    """The callback of one of six tasks raises an exception."""

    def fail(_: Any) -> None:
        raise ArithmeticError("the callback went wrong")

    pool = peer()
    handles: list[Any] = pool.begin(tasks.same, range(6))
    handles[tasks.BAD] = pool.submit_with_callback(tasks.same, tasks.BAD, fail)
    seen = judged(pool, handles, [tasks.BAD], ends)
    if not seen.on_target or seen.detail:
        return seen
    # What is written to the standard error lies in a file here.
    said = time_until(lambda: "the callback went wrong" in Path("log").read_text(errors="replace"), 1) is not None
    return Seen("ok" if said else "error", said, "logged" if said else "nobody is told")


@row("a pool within a task", "It works.")
def nested(peer: type[Peer]) -> Seen:
    """A task makes a pool of the same kind, with two workers, and waits for its results."""
    pool = peer()
    return judged(pool, pool.begin(tasks.nested, [peer.name]), [0], returns([0, 1, 4]))


@row("results are not taken", "Only some inputs are read ahead: here, at most a hundred in all.")
def lazy(peer: type[Peer]) -> Seen:
    """Of an iterator over 20,001 inputs (`imap`, `Executor.map`) one result is taken, and no more. How many inputs are read
    then? Pools that can be told to read few are told so: procpool by `buffersize=8`."""
    pool = peer()
    numbers = Numbers(20_001)
    results = pool.read(tasks.same, numbers)
    next(results)
    before = [-1]

    def stands_still() -> bool:
        before.append(numbers.read)
        return len(before) > 50 and len(set(before[-50:])) == 1

    time_until(stands_still, LIMIT / 3)
    return Seen(f"{numbers.read:,}", numbers.read <= 100)


class Numbers:
    """An iterator that knows how much of it was read."""

    def __init__(self, length: int) -> None:
        self.read = 0
        self._length = length

    def __iter__(self) -> Numbers:
        return self

    def __next__(self) -> int:
        if self.read == self._length:
            raise StopIteration
        self.read += 1
        return self.read


# ---- the pool is stopped ----


def begun(pool: Peer, function: Callable[[Any], Any], tasks_to_begin: int) -> list[Any]:
    """Begins that many tasks, and waits until some run."""
    handles = pool.begin(function, range(tasks_to_begin))
    if time_until(lambda: len(running()) >= pool.at_once, LIMIT) is None:
        raise NotBegun("too few tasks run")
    return handles


def running() -> list[int]:
    """The processes whose tasks run."""
    return [int(path.read_text()) for path in Path.cwd().glob("running.?")]


@row("results are pending at `terminate`", "It raises, at once.")
def pending_at_terminate(peer: type[Peer]) -> Seen:
    """Of six tasks two run and four wait when the pool is terminated: what becomes of those who wait for results?"""
    require_terminate(peer)
    pool = peer()
    handles = begun(pool, tasks.sleep_long, 6)
    in_thread(pool.terminate)
    outcomes = outcomes_of(handles, LIMIT)
    if Pending() in outcomes:
        return Seen("HANG", False)
    return Seen("raises", all(map(fails, outcomes)), details(outcomes))


@row("a task ignores SIGTERM at `terminate`", "It returns all the same, and the workers are gone.")
def sigterm_ignored(peer: type[Peer]) -> Seen:
    """Both workers run tasks that ignore SIGTERM when the pool is terminated."""
    require_terminate(peer)
    pool = peer()
    begun(pool, tasks.ignore_sigterm, 2)
    workers = running()
    end = in_thread(pool.terminate)
    seconds = time_until(end.done, LIMIT)
    if seconds is None:
        return Seen("HANG", False)
    stay = time_until(lambda: not any(map(is_alive, workers)), 1) is None
    return Seen(duration(seconds), not stay, "the workers live on" if stay else "")


def require_terminate(peer: type[Peer]) -> None:
    """A pool that cannot be stopped by another thread than the one that waits has no such row."""
    if not peer.can_terminate():
        raise Missing("terminate")


# ---- the program ends ----


@row("Ctrl-C", "All has ended in less than half a second, with one traceback.")
def interrupt(peer: type[Peer]) -> Seen:
    """A program waits for a `map` of six sleeping tasks, and its process group gets SIGINT, as from a terminal."""
    with Program(peer.name, "interrupt") as program:
        program.interrupt()
        seconds = program.time_until_gone()
        tracebacks = program.output().count("Traceback (most recent call last)")
        detail = f"{tracebacks} tracebacks" if tracebacks != 1 else "1 traceback"
        if seconds is None:
            return Seen("HANG" if not program.has_ended() else "orphans", False, detail)
        return Seen(duration(seconds), seconds < 0.5 * SLACK and tracebacks == 1, detail)


@row("the program ends", "It ends: running tasks are stopped, or finished, and no process is left.")
def end_of_program(peer: type[Peer]) -> Seen:
    """The main module ends while tasks of three seconds run and wait, and nobody has closed the pool."""
    if peer.waits:
        raise Missing("call that goes on at once")
    with Program(peer.name, "end") as program:
        seconds = program.time_until_gone(LIMIT + 2 * tasks.SHORT)
        done = len(list(Path.cwd().glob("done.?")))
        if seconds is None:
            return Seen("HANG" if not program.has_ended() else "orphans", False, f"{done} of 4 tasks were done")
        return Seen("finishes" if done == 4 else "stops", True, f"{done} of 4 tasks were done")


@row("the program is killed, workers idle", "All has ended in less than a second.")
def parent_killed_idle(peer: type[Peer]) -> Seen:
    """A program whose workers have nothing to do is killed by SIGKILL: when have its processes gone?"""
    return parent_killed(peer, "idle")


@row("the program is killed, workers busy", "All has ended in less than a second.")
def parent_killed_busy(peer: type[Peer]) -> Seen:
    """A program whose workers run tasks of three seconds is killed by SIGKILL: when have its processes gone?"""
    return parent_killed(peer, "busy")


def parent_killed(peer: type[Peer], scene: str) -> Seen:
    with Program(peer.name, scene) as program:
        program.kill()
        seconds = program.time_until_gone()
        if seconds is None:
            return Seen("orphans", False, f"{len(program.members())} processes stay")
        return Seen(duration(seconds), seconds < SLACK)
