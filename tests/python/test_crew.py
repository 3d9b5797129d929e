"""Births and deaths of workers when something else goes wrong at that moment."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import procpool
import pytest
import tasks
from procpool import crew
from programs import run
from waiting import LONG, wait_until


def test_a_worker_that_dies_while_another_is_buried_is_buried_too(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = procpool.Pool(2)
    first, second = [process.pid for process in pool._pool]
    buried: list[int] = []
    exitcode_of = crew._exitcode_of

    def look_slowly(process: Any, server: Any) -> Any:
        buried.append(process.pid)
        if process.pid == first:
            os.kill(second, signal.SIGKILL)
            # The engine does not wait for ever to be told how somebody died.
            wait_until(lambda: second not in [worker.pid for worker in pool.stats().workers], "the engine knows")
        return exitcode_of(process, server)

    monkeypatch.setattr(crew, "_exitcode_of", look_slowly)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: second in buried, "both are buried")
    assert pool.map(tasks.square, range(4), 1) == [0, 1, 4, 9]
    pool.close()
    pool.join()


@pytest.mark.parametrize("kind", ["Pool", "ProcessPoolExecutor"])
def test_how_a_worker_died_is_not_made_up_when_its_fork_server_died_first(tmp_path: Path, kind: str) -> None:
    finished = run(
        tmp_path,
        f"""
        import multiprocessing, os, signal, procpool, tasks
        from multiprocessing import forkserver

        def apply(function, *arguments):
            if isinstance(pool, procpool.Pool):
                return pool.apply(function, arguments)
            return pool.submit(function, *arguments).result()

        if __name__ == "__main__":
            pool = procpool.{kind}(1, multiprocessing.get_context("forkserver"))
            pid = apply(os.getpid)
            os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
            try:
                apply(tasks.killed, 2)
            except procpool.WorkerDied as death:
                print(death.pid == pid, death.signal, death.exitcode, str(death).split(",")[0].split(" ", 2)[2])
            print(apply(tasks.square, 3))
            pool.terminate() if hasattr(pool, "terminate") else pool.shutdown()
        """.replace("Pool(1, multi", "Pool(1, context=multi"),
    )
    assert finished.check() == "True None None died\n9\n" and "Traceback" not in finished.errors, finished


def test_how_a_worker_died_is_not_made_up_when_its_fork_server_had_a_successor(tmp_path: Path) -> None:
    program = """
        import multiprocessing, os, procpool, signal, tasks
        from multiprocessing import forkserver

        class ServerIsReplaced(procpool.Pool):
            @staticmethod
            def Process(ctx, *args, **kwds):
                process = ctx.Process(*args, **kwds)

                def start():
                    del process.start
                    process.start()
                    server = forkserver._forkserver._forkserver_pid
                    os.kill(server, signal.SIGKILL)
                    os.waitid(os.P_PID, server, os.WEXITED | os.WNOWAIT)
                    forkserver.ensure_running()

                process.start = start
                return process

        if __name__ == "__main__":
            with ServerIsReplaced(1, context=multiprocessing.get_context("forkserver")) as pool:
                try:
                    pool.apply(tasks.killed, (2,))
                except procpool.WorkerDied as death:
                    print(death.signal, death.exitcode)
    """
    assert run(tmp_path, program).check() == "None None\n"


def test_how_a_worker_died_is_known_also_when_another_thread_has_reaped_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As each start of a process does with all of the dead."""
    waitpid = os.waitpid
    here = threading.current_thread()

    def reap_and_dawdle(pid: int, options: int) -> Any:
        reaped = waitpid(pid, options)
        if reaped[0] != 0 and threading.current_thread() is here:
            time.sleep(0.02)
        return reaped

    pool = procpool.Pool(1, context=multiprocessing.get_context("fork"))
    monkeypatch.setattr(os, "waitpid", reap_and_dawdle)
    for _ in range(20):
        call = pool.apply_async(os._exit, (7,))
        while not call.ready():
            multiprocessing.active_children()
        with pytest.raises(procpool.WorkerDied) as died:
            call.get()
        assert died.value.exitcode == 7
    pool.terminate()
    pool.join()


class ServerDies(type(multiprocessing.get_context("forkserver"))):  # type: ignore[misc]
    """A context whose fork server dies when it has started a process and has not said so: once."""

    strays: list[Any]

    def Process(self, *args: Any, **kwds: Any) -> Any:
        made = super().Process(*args, **kwds)
        if not self.strays:
            stray = super().Process(*args, **kwds)
            self.strays.append(stray)

            def start() -> None:
                stray.daemon = made.daemon
                stray.start()
                raise EOFError("unexpected EOF")

            made.start = start
        return made


@pytest.mark.parametrize("is_first", [True, False], ids=["at first", "as a successor"])
def test_a_process_that_a_dying_fork_server_left_behind_takes_no_seat(is_first: bool) -> None:
    context = ServerDies()
    context.strays = [] if is_first else [None]
    pool = procpool.Pool(1, context=context)
    if not is_first:
        context.strays.clear()
        os.kill(pool.apply(os.getpid), signal.SIGKILL)
    pids = set(pool.map(tasks.pid, range(50), 1))
    (stray,) = context.strays
    assert len(pids) == 1 and stray.pid not in pids
    stray.join(LONG)
    assert stray.exitcode == 0
    pool.terminate()
    pool.join()


def test_a_pool_that_is_found_by_the_garbage_collector_in_its_own_thread_ends(tmp_path: Path) -> None:
    program = """
        import gc, os, procpool, signal, threading

        class Collecting(procpool.Pool):
            @staticmethod
            def Process(ctx, *args, **kwds):
                if threading.current_thread().name == "procpool-crew":
                    gc.collect()
                return ctx.Process(*args, **kwds)

        if __name__ == "__main__":
            gc.disable()
            pool = Collecting(2)
            engine, crew, first = pool._engine, pool._crew, pool._pool[0].pid
            circle = [pool]
            circle.append(circle)
            del pool, circle
            os.kill(first, signal.SIGKILL)
            crew.thread.join(60)
            print(crew.thread.is_alive(), crew.processes, engine.join(0))
    """
    assert run(tmp_path, program).check() == "False [] True\n"


def test_a_pool_whose_thread_cannot_be_started_leaves_no_process(tmp_path: Path) -> None:
    program = """
        import multiprocessing, procpool, threading

        def fail(thread):
            raise RuntimeError("can't start new thread")

        if __name__ == "__main__":
            start, threading.Thread.start = threading.Thread.start, fail
            try:
                procpool.Pool(2)
            except RuntimeError as error:
                print(error, multiprocessing.active_children())
            threading.Thread.start = start
            with procpool.Pool(2) as pool:
                print(pool.map(abs, [-1, -2]))
    """
    finished = run(tmp_path, program)
    assert finished.check() == "can't start new thread []\n[1, 2]\n" and finished.errors == ""
