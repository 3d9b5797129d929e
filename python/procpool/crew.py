"""The processes of one pool: started, watched, reaped.

The engine says when it wants a process, and in which seat. The first ones are started in the thread that makes the pool, all
later ones in the crew's own thread, as the standard library does it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import deque
from multiprocessing import process as mp_process
from multiprocessing.connection import wait

from . import _procpool, interrupts, pickling, stacks, worker
from .deadlines import left

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

    from .failures import Failures

    #: Makes the process object for a seat.
    MakeProcess = Callable[[worker.Attachment], Any]

#: What the standard library says of a process whose fork server died before it.
_MADE_UP = 255

#: How long to wait until the death of a fork server, or what another thread learned of a death, is seen, in seconds.
_PAUSES = (0.001, 0.01, 0.1)

#: How long a worker has between SIGTERM and SIGKILL, in seconds.
GRACE = 0.5

#: How many dead workers' last words are kept for errors that are still to be raised.
_OBITUARIES = 64


def default_processes() -> int:
    """As many as this version of the standard library takes."""
    count = getattr(os, "process_cpu_count", os.cpu_count)()
    return count or 1


class _Seated:
    def __init__(self, seat: int, process: Any, pid: int, stacks: Optional[int]) -> None:
        self.seat = seat
        self.process = process
        self.pid = pid
        self.pidfd = _open_pidfd(pid)
        #: What becomes readable when it is dead.
        self.watched: Any = process.sentinel if self.pidfd is None else self.pidfd
        #: Where its stack can be asked for.
        self.stacks = stacks
        #: The fork server that started it, where one did.
        self.server = _fork_server_of(process)

    def close(self) -> None:
        """Closes what only the parent of a living worker needs."""
        for descriptor in (self.pidfd, self.stacks):
            if descriptor is not None:
                os.close(descriptor)


class Crew:
    """The worker processes of one pool."""

    def __init__(
        self,
        make_process: MakeProcess,
        on_death: Optional[Callable[[Any], None]] = None,
        sandbox: Optional[_procpool.Sandbox] = None,
    ) -> None:
        #: The live processes.
        self.processes: list[Any] = []
        #: What the initializer of a worker raised: the account that `worker.report` gave.
        self.initializer_error: Optional[bytes] = None
        self.thread: Optional[threading.Thread] = None
        #: Calls callbacks, in pools that have any.
        self.notices_thread: Optional[threading.Thread] = None
        self._make_process = make_process
        self._on_death = on_death
        self._sandbox = sandbox
        self._seated: dict[int, _Seated] = {}
        self._words = _make_words()
        self._last_words: deque[tuple[int, str]] = deque(maxlen=_OBITUARIES)
        self._lock = threading.RLock()
        #: Told when processes were started and buried.
        self._changed = threading.Condition(self._lock)
        self._notices_lock = threading.RLock()
        self._owner = os.getpid()

    # ---- births ----

    def start_engine(
        self,
        failures: Failures,
        workers: int,
        tasks_per_worker: Optional[int],
        memory: tuple[Optional[int], Optional[int]],
        spin: bool,
    ) -> _procpool.Engine:
        """The engine, with its first processes. From now on there is a thread that starts and reaps as it wants it."""
        soft, hard = memory
        try:
            engine = _procpool.Engine(
                name="procpool",
                workers=workers,
                tasks_per_worker=tasks_per_worker,
                memory_soft=soft,
                memory_hard=hard,
                grace=GRACE,
                spin=spin,
                sandbox=self._sandbox,
                start=self._start_first,
                make_pickler=pickling.make_pickler,
                reducers=pickling.reducers(),
                loads=pickling.loads,
                raised=failures.raised,
                failed=failures.failed,
            )
        except BaseException:
            self._abandon()
            raise
        thread = threading.Thread(target=self._serve, args=(engine,), name="procpool-crew", daemon=True)
        try:
            thread.start()
        except BaseException:
            engine.terminate()
            if thread.ident is None:
                self._abandon()
            raise
        self.thread = thread
        return engine

    def _start_first(self, seat: int, descriptors: tuple[int, ...]) -> Optional[int]:
        """For the engine, while it is being made: the new process's pid."""
        process = self._start(seat, descriptors)
        pid: Optional[int] = getattr(process, "pid", None)
        return pid

    def _start(self, seat: int, descriptors: tuple[int, ...], engine: Optional[_procpool.Engine] = None) -> Any:
        if engine is not None and seat in self._seated:
            # The engine knows already that whoever sat there is dead.
            self._bury(engine, self._seated[seat])
        place = stacks.make_place()
        try:
            process = self._make_and_start(seat, descriptors, place)
            pid = getattr(process, "pid", None)
            if pid is not None:
                self._seated[seat] = _Seated(seat, process, pid, place)
                place = None
        finally:
            if place is not None:
                os.close(place)
        return process

    def _make_and_start(self, seat: int, descriptors: tuple[int, ...], place: Optional[int]) -> Any:
        for pause in _PAUSES:
            try:
                return self._try_to_start(seat, descriptors, place)
            except (ConnectionError, EOFError):
                # The fork server was killed at this moment. Once that is seen, there is another for the next process.
                time.sleep(pause)
        return self._try_to_start(seat, descriptors, place)

    def _try_to_start(self, seat: int, descriptors: tuple[int, ...], place: Optional[int]) -> Any:
        attachment = worker.Attachment(seat, descriptors, self._sandbox, self._words, place)
        process = self._make_process(attachment)
        try:
            start_process(process)
            attachment.announce()
            self.processes.append(process)
        except BaseException:
            attachment.disown()
            # Perhaps a signal's handler raised it, when the process was there and nobody knew of it.
            _undo(process)
            raise
        return process

    def _abandon(self) -> None:
        """The pool could not be made: ends what was started."""
        for process in self.processes:
            if process.exitcode is None:
                process.terminate()
        for process in self.processes:
            process.join()
        for seated in self._seated.values():
            seated.close()
        self._close()

    # ---- the thread ----

    def _serve(self, engine: _procpool.Engine) -> None:
        """Starts and reaps processes as the engine wants it."""
        while True:
            with self._lock:
                watched = [seated.watched for seated in self._seated.values()]
            wait([engine.fileno(), *watched])
            if not self._tend(engine):
                break
        engine.join()
        with self._lock:
            # Whose death the engine knew first.
            for seated in list(self._seated.values()):
                self._bury(engine, seated)
        engine.end_notices()
        self._close()

    def serve_notices(self, engine: _procpool.Engine, name: Optional[str] = None) -> None:
        """Makes sure that there is a thread which calls callbacks."""
        if self.notices_thread is None:
            with self._notices_lock:
                if self.notices_thread is None:
                    thread = threading.Thread(target=_handle_results, args=(engine,), name=name, daemon=True)
                    self.notices_thread = thread
                    try:
                        thread.start()
                    except BaseException:
                        if thread.ident is None:
                            self.notices_thread = None
                        raise

    def _tend(self, engine: _procpool.Engine) -> bool:
        """Reaps the dead and starts what is wanted; False when there will be no more."""
        with self._changed:
            self._reap(engine)
            wanted = engine.wanted()
            for seat in wanted or ():
                self._replace(engine, seat)
            self._changed.notify_all()
        return wanted is not None

    def resize(self, engine: _procpool.Engine, workers: int) -> None:
        """Says how many there should be, and waits a moment until there are. Their thread starts them: one that was
        interrupted here, by a signal, might leave a process that nobody knows of."""
        with self._changed:
            engine.resize(workers)
            self._changed.wait_for(lambda: len(self.processes) >= workers, timeout=1.0)

    def _replace(self, engine: _procpool.Engine, seat: int) -> None:
        descriptors = engine.descriptors
        try:
            if descriptors is None or sys.is_finalizing():
                raise RuntimeError("the interpreter is ending")
            process = self._start(seat, descriptors, engine)
            engine.started(seat, process.pid)
        except BaseException as error:
            # Else the engine would wait for it for ever.
            engine.not_started(seat, f"{type(error).__name__}: {error}")

    # ---- deaths ----

    def _reap(self, engine: _procpool.Engine) -> None:
        watched = {seated.watched: seated for seated in self._seated.values()}
        for ready in wait(list(watched), timeout=0):
            self._bury(engine, watched[ready])

    def _bury(self, engine: _procpool.Engine, seated: _Seated) -> None:
        process = seated.process
        exitcode = _exitcode_of(process, seated.server)
        if self._words is not None:
            text, error = worker.read_words(self._words, seated.seat)
            self.initializer_error = self.initializer_error or error
            if text is not None:
                self._last_words.append((seated.pid, text))
        del self._seated[seated.seat]
        if process in self.processes:
            self.processes.remove(process)
        seated.close()
        if exitcode != 0 and self._on_death is not None:
            self._on_death(process)
        engine.exited(seated.seat, seated.pid, exitcode)

    def last_words(self, pid: int) -> Optional[str]:
        """What the worker wrote about its end."""
        return next((text for known, text in list(self._last_words) if known == pid), None)

    def stacks(self) -> list[tuple[int, int, str]]:
        """Of each worker its seat, its pid, and its stack or why there is none. Bounded in time."""
        if os.getpid() != self._owner:
            return []
        # Whoever starts processes may be what hangs.
        if not self._lock.acquire(timeout=stacks.PATIENCE):
            return [(seated.seat, seated.pid, "(processes are being started)") for seated in self._everybody()]
        try:
            seated = self._everybody()
            answers = stacks.ask([stacks.Asked(one.seat, one.pid, one.pidfd, one.stacks) for one in seated])
            return [(one.seat, one.pid, answers[one.seat]) for one in seated]
        finally:
            self._lock.release()

    def _everybody(self) -> list[_Seated]:
        return sorted(list(self._seated.values()), key=lambda seated: seated.seat)

    def join_all(self, engine: _procpool.Engine, deadline: Optional[float]) -> bool:
        """Waits for the end of the engine, then of the threads; False when the time was over first. A thread of the
        pool's own does not wait for itself."""
        threads = [thread for thread in (self.thread, self.notices_thread) if thread is not None]
        here = threading.current_thread()
        if here is self.thread:
            return True
        if not engine.join(left(deadline)):
            return False
        for thread in threads:
            if thread is not here:
                # The start of one may have been interrupted: then it is not known to run.
                with contextlib.suppress(RuntimeError):
                    thread.join(left(deadline))
        return not any(thread.is_alive() for thread in threads if thread is not here)

    def _close(self) -> None:
        words, self._words = self._words, None
        if words is not None:
            os.close(words)


def _handle_results(engine: _procpool.Engine) -> None:
    """Calls callbacks, in order of arrival."""
    while (notices := engine.notices()) is not None:
        for notice in notices:
            _call(notice)
        del notices, notice
    # Tracebacks that somebody keeps may lead here.
    del engine


def _call(notice: Callable[[], object]) -> None:
    try:
        notice()
    except BaseException:
        # Told of as what ends a thread is; this one has others to call.
        threading.excepthook(threading.ExceptHookArgs([*sys.exc_info(), threading.current_thread()]))


def start_process(process: Any) -> None:
    """Starts it, also in a worker that is daemonic itself: daemonic processes may have no children since these would be
    orphans, but workers end with their parent."""
    config = mp_process.current_process()._config  # type: ignore[attr-defined]
    is_daemon = config.pop("daemon", None)
    try:
        with interrupts.held_back_in(process):
            process.start()
    finally:
        if is_daemon is not None:
            config["daemon"] = is_daemon


def _undo(process: Any) -> None:
    """Its start has failed, or was interrupted when it had begun."""
    if getattr(process, "pid", None) is not None:
        process.kill()
        process.join()


def _fork_server_of(process: Any) -> Optional[int]:
    """Its parent. Not the server that the standard library knows of: that may be the next one already."""
    if getattr(getattr(process, "_popen", None), "method", None) != "forkserver":
        return None
    parent = stacks.status_of(process.pid).get("PPid")
    return None if parent is None else int(parent)


def _exitcode_of(process: Any, server: Optional[int]) -> Optional[int]:
    """How it ended, which is dead; None where nobody can tell."""
    # Whoever is its parent may still have to say so.
    process.join(timeout=1.0)
    # And so may another thread, which starts a process of its own, and for that has reaped all that are dead.
    for pause in _PAUSES:
        if process.exitcode is not None:
            break
        time.sleep(pause)
    exitcode: Optional[int] = process.exitcode
    is_made_up = exitcode == _MADE_UP and server is not None and _is_dead(server)
    return None if is_made_up else exitcode


def _is_dead(server: int) -> bool:
    """Whether this fork server is dead, or about to be: it closes its descriptors before it is seen to be dead."""
    for pause in _PAUSES:
        try:
            if os.waitid(os.P_PID, server, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return True
        except ChildProcessError:
            # It has been reaped, or its worker was an orphan before we looked, and this is who takes in orphans.
            return True
        time.sleep(pause)
    return False


def _open_pidfd(pid: int) -> Optional[int]:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        # An old kernel, or one that forbids it: then the process object's sentinel has to do.
        return None


def _make_words() -> Optional[int]:
    try:
        descriptor = os.memfd_create("procpool-words", os.MFD_CLOEXEC)
    except (AttributeError, OSError):
        return None
    return descriptor
