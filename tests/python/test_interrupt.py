"""Ctrl-C while a call waits: one KeyboardInterrupt in the parent, none in the workers, and nothing is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from programs import Finished, start
from waiting import wait_until

CALLS = {
    "apply": "pool.apply(tasks.appear_and_wait, ('task',))",
    "get": "pool.apply_async(tasks.appear_and_wait, ('task',)).get()",
    "get with a timeout": "pool.apply_async(tasks.appear_and_wait, ('task',)).get(3600)",
    "wait": "pool.apply_async(tasks.appear_and_wait, ('task',)).wait()",
    "map": "pool.map(tasks.appear_and_wait, ['task', 'other', 'third', 'fourth'], 1)",
    "starmap": "pool.starmap(tasks.appear_and_wait, [('task',)])",
    "imap": "list(pool.imap(tasks.appear_and_wait, ['task', 'other', 'third']))",
    "imap_unordered": "list(pool.imap_unordered(tasks.appear_and_wait, ['task', 'other', 'third']))",
    "imap with a buffer": "list(pool.imap(tasks.appear_and_wait, ['task', 'other', 'third'], buffersize=1))",
    "a callback's result": "pool.apply_async(tasks.appear_and_wait, ('task',), callback=print).get()",
    "join": "pool.apply_async(tasks.appear_and_wait, ('task',)), pool.close(), pool.join()",
    "result": "executor.submit(tasks.appear_and_wait, 'task').result()",
    "exception": "executor.submit(tasks.appear_and_wait, 'task').exception()",
    "executor.map": "list(executor.map(tasks.appear_and_wait, ['task', 'other', 'third']))",
    "wait for futures": "concurrent.futures.wait([executor.submit(tasks.appear_and_wait, 'task')])",
    "as_completed": "list(concurrent.futures.as_completed([executor.submit(tasks.appear_and_wait, 'task')]))",
}

PROGRAM = """
    import concurrent.futures, multiprocessing, procpool, tasks

    if __name__ == "__main__":
        context = multiprocessing.get_context("{method}")
        pool = procpool.Pool(2, context=context)
        executor = procpool.ProcessPoolExecutor(2, context)
        try:
            {call}
        finally:
            {end}
"""


def interrupt(folder: Path, call: str, end: str, method: str = "fork") -> Finished:
    program = start(folder, PROGRAM.format(call=call, end=end, method=method))
    try:
        wait_until((folder / "task.running").exists, "the call waits")
        program.interrupt()
        finished = program.finish()
        program.check_all_have_gone()
    finally:
        program.kill()
    return finished


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
def test_an_interrupt_ends_a_call_that_waits(tmp_path: Path, call: str) -> None:
    finished = interrupt(tmp_path, call, "pool.terminate(); executor.kill_workers()")
    assert finished.errors.count("KeyboardInterrupt") == 1, finished.errors
    assert finished.errors.count("Traceback") == 1, finished.errors
    assert finished.status != 0


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_with_every_start_method(tmp_path: Path, method: str) -> None:
    finished = interrupt(tmp_path, CALLS["map"], "pool.terminate()", method)
    # The standard library's own helpers may say something of it.
    assert "tasks.py" not in finished.errors and finished.status != 0, finished.errors


def test_a_program_that_cleans_up_nothing_ends_too(tmp_path: Path) -> None:
    finished = interrupt(tmp_path, CALLS["map"], "pass")
    assert finished.errors.count("Traceback") == 1 and finished.status != 0, finished.errors


def test_an_executor_in_a_with_block_ends_at_an_interrupt(tmp_path: Path) -> None:
    """The standard library waits for all tasks, running and queued, and so for ever."""
    finished = interrupt(tmp_path, f"with executor:\n                {CALLS['executor.map']}", "pass")
    assert finished.errors.count("KeyboardInterrupt") == 1 and finished.status != 0, finished.errors


def test_a_pool_in_a_with_block_ends_at_an_interrupt(tmp_path: Path) -> None:
    call = "with pool:\n                " + CALLS["map"]
    finished = interrupt(tmp_path, call, "pass")
    assert finished.errors.count("KeyboardInterrupt") == 1 and finished.status != 0, finished.errors


def test_a_caught_interrupt_leaves_a_pool_that_works(tmp_path: Path) -> None:
    program = start(
        tmp_path,
        """
        import procpool, tasks

        if __name__ == "__main__":
            pool = procpool.Pool(2)
            pids = {process.pid for process in pool._pool}
            result = pool.apply_async(tasks.wait_for_file, ("gate", "through"))
            try:
                print("waits")
                result.get()
            except KeyboardInterrupt:
                print("interrupted")
            open("gate", "w").close()
            print(result.get(), pool.map(tasks.square, range(4)), pids == {process.pid for process in pool._pool})
            pool.terminate()
            pool.join()
        """,
    )
    try:
        assert program.line() == "waits"
        program.interrupt()
        finished = program.finish()
    finally:
        program.kill()
    assert finished.check() == "interrupted\nthrough [0, 1, 4, 9] True\n" and finished.errors == ""


def test_programs_that_tasks_start_can_be_interrupted(tmp_path: Path) -> None:
    program = start(
        tmp_path,
        """
        import procpool, signal, subprocess, sys

        def inner():
            code = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
            return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout

        if __name__ == "__main__":
            with procpool.Pool(1) as pool:
                print(pool.apply(inner), end="")
        """,
    )
    assert program.finish().check() == "True\n"


def test_an_initializer_may_have_a_handler_of_its_own(tmp_path: Any) -> None:
    program = start(
        tmp_path,
        """
        import os, procpool, signal, tasks

        def handle(number, frame):
            raise LookupError("handled")

        def begin():
            signal.signal(signal.SIGINT, handle)

        if __name__ == "__main__":
            with procpool.Pool(1, begin) as pool:
                result = pool.apply_async(tasks.appear_and_wait, ("task",))
                while not os.path.exists("task.running"):
                    result.wait(0.01)
                os.kill(pool._pool[0].pid, signal.SIGINT)
                try:
                    result.get(50)
                except LookupError as error:
                    print(error)
        """,
    )
    try:
        assert program.finish().check() == "handled\n"
    finally:
        program.kill()
