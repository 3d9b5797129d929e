"""How a program ends that leaves pools as they are: as documented, with status 0, without a word of complaint, and ever.

A `Pool` is terminated, with what it runs. A `ProcessPoolExecutor` finishes what was submitted first.
"""

from __future__ import annotations

import os
import signal
import textwrap
from pathlib import Path

import pytest
from programs import Finished, run, start
from waiting import wait_until

HEAD = """
import atexit, multiprocessing, os, procpool, sys, tasks, threading, time

if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    pool = procpool.Pool(2, context=context)
    executor = procpool.ProcessPoolExecutor(2, context)
    print(pool.apply(tasks.square, (3,)), executor.submit(tasks.square, 4).result())
"""


def end(folder: Path, body: str, method: str) -> Finished:
    """Runs a program that does this with a pool and an executor, and then ends."""
    lines = body.strip("\n").splitlines()
    margin = len(lines[0]) - len(lines[0].lstrip())
    body = "\n".join("    " + line[margin:] for line in lines)
    return run(folder, HEAD.format(method=method) + body + "\n")


def check(finished: Finished, *lines: str) -> None:
    assert finished.check().splitlines() == ["9 16", *lines] and finished.errors == "", finished


def test_with_running_tasks(tmp_path: Path, start_method: str) -> None:
    body = """
        running = [pool.apply_async(tasks.appear_and_wait, ("task",)), pool.map_async(tasks.for_ever, range(10))]
        while not os.path.exists("task.running"):
            time.sleep(0.01)
    """
    check(end(tmp_path, body, start_method))


def test_with_pending_callbacks(tmp_path: Path, start_method: str) -> None:
    """Those of the pool are called no more, and those of the executor are."""
    body = """
        pool.apply_async(tasks.for_ever, (), callback=print, error_callback=lambda error: None)
        executor.submit(tasks.same_slowly, 5, 0.1).add_done_callback(lambda future: print(future.result()))
    """
    check(end(tmp_path, body, start_method), "5")


def test_with_a_callback_that_does_not_come_back(tmp_path: Path, start_method: str) -> None:
    body = """
        called = threading.Event()
        pool.apply_async(tasks.square, (1,), callback=lambda value: (called.set(), time.sleep(3600)))
        called.wait()
    """
    check(end(tmp_path, body, start_method))


def test_with_iterators_half_way(tmp_path: Path, start_method: str) -> None:
    body = """
        halves = [pool.imap(tasks.square, range(1000)), pool.imap_unordered(tasks.square, range(1000), buffersize=3)]
        endless = pool.imap(tasks.square, iter(int, 1))
        print(next(halves[0]), next(endless), next(executor.map(tasks.square, range(3))))
    """
    check(end(tmp_path, body, start_method), "0 0 0")


def test_in_a_daemon_thread(tmp_path: Path, start_method: str) -> None:
    """It is left where it is, in the middle of a call."""
    body = """
        def use():
            while True:
                pool.map(tasks.square, range(10))

        def wait():
            pool.apply(tasks.appear_and_wait, ("task",))

        for work in (use, use, wait):
            threading.Thread(target=work, daemon=True).start()
        while not os.path.exists("task.running"):
            time.sleep(0.01)
    """
    finished = end(tmp_path, body, start_method)
    # Its call may still come to know that the pool was ended.
    assert finished.check() == "9 16\n" and "Fatal" not in finished.errors, finished


def test_in_a_daemon_thread_that_has_just_heard_of_the_end(tmp_path: Path, start_method: str) -> None:
    """It is ended by the interpreter while it imports what tells of errors, in the middle of a call of the compiled part."""
    source = f"""
        import multiprocessing, os, procpool, tasks, threading, time

        def wait():
            pool.apply(tasks.appear_and_wait, ("task",))

        if __name__ == "__main__":
            pool = procpool.Pool(2, context=multiprocessing.get_context("{start_method}"))
            threading.Thread(target=wait, daemon=True).start()
            while not os.path.exists("task.running"):
                time.sleep(0.01)
    """
    finished = run(tmp_path, textwrap.dedent(source))
    assert finished.check() == "" and "FATAL" not in finished.errors, finished


def test_in_a_thread_that_outlives_the_main_one(tmp_path: Path, start_method: str) -> None:
    """The program waits for it, and its pool works until then."""
    body = """
        def work():
            threading.main_thread().join()
            print(pool.map(tasks.square, range(3)))

        threading.Thread(target=work).start()
    """
    check(end(tmp_path, body, start_method), "[0, 1, 4]")


def test_in_atexit(tmp_path: Path, start_method: str) -> None:
    """Handlers come before the end of pools, and after that of executors."""
    body = """
        @atexit.register
        def last():
            print(pool.map(tasks.square, range(3)))
            try:
                executor.submit(tasks.square, 1)
            except RuntimeError as error:
                print(error)
    """
    finished = end(tmp_path, body, start_method)
    first, second, third = finished.check().splitlines()
    assert second == "[0, 1, 4]" and third.startswith("cannot schedule new futures after"), finished
    assert finished.errors == "", finished


def test_a_pool_that_is_made_in_atexit(tmp_path: Path, start_method: str) -> None:
    """It works, or is an error where this version of Python starts no threads, or no processes, any more."""
    body = """
        @atexit.register
        def last():
            for kind in (procpool.Pool, procpool.ProcessPoolExecutor):
                try:
                    late = kind(1)
                    print(list(late.map(tasks.square, range(3))))
                except RuntimeError as error:
                    print("error", error)
    """
    finished = end(tmp_path, body, start_method)
    pool, executor = finished.check().splitlines()[1:]
    refused = ("error can't start new thread", "error can't fork at interpreter shutdown")
    assert pool == "[0, 1, 4]" or pool.startswith(refused), finished
    assert executor.startswith("error cannot schedule new futures after"), finished


def test_while_the_interpreter_takes_itself_apart(tmp_path: Path, start_method: str) -> None:
    body = """
        from functools import partial

        class Late:
            def __init__(self, *calls):
                self.calls = calls

            def __del__(self, print=print):
                for call in self.calls:
                    try:
                        print(call())
                    except (ValueError, RuntimeError) as error:
                        print(error)

        _late = Late(
            partial(pool.apply, tasks.square, (1,)),
            partial(executor.submit, tasks.square, 1),
            pool.terminate, pool.close, pool.join, executor.shutdown,
        )
    """
    finished = end(tmp_path, body, start_method)
    said = finished.check().splitlines()[1:]
    assert said[0] == "Pool not running" and said[1].startswith("cannot schedule new futures"), finished
    assert said[2:] == ["None"] * 4 and finished.errors == "", finished


def test_in_a_forked_child(tmp_path: Path, start_method: str) -> None:
    """It ends as a program does, with its handlers of the exit, and its parent's pools go on."""
    body = """
        child = os.fork()
        if child == 0:
            atexit.register(lambda: print("child", flush=True))
            sys.exit(5)
        print("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        print(pool.map(tasks.square, range(3)), executor.submit(tasks.square, 5).result())
    """
    finished = end(tmp_path, body, start_method)
    assert finished.check().splitlines() == ["9 16", "child", "status 5", "[0, 1, 4] 25"], finished


@pytest.mark.parametrize(
    "how, status",
    [
        ("sys.exit(3)", 3),
        ("os._exit(4)", 4),
        ("raise LookupError", 1),
        ("os.abort()", -signal.SIGABRT),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("os.kill(os.getpid(), signal.SIGHUP)", -signal.SIGHUP),
    ],
)
def test_however_it_ends_its_workers_go(tmp_path: Path, how: str, status: int, start_method: str) -> None:
    body = f"""
        import signal

        pool.apply_async(tasks.appear_and_wait, ("task",))
        while not os.path.exists("task.running"):
            time.sleep(0.01)
        {how}
    """
    finished = end(tmp_path, body, start_method)
    assert finished.status == status and "tasks.py" not in finished.errors, finished


def test_a_handler_of_sigterm_that_exits(tmp_path: Path, start_method: str) -> None:
    """As services have it. The handler runs in the middle of a call that waits."""
    body = """
        import signal

        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        pool.map(tasks.for_ever, range(4))
    """
    finished = end(tmp_path, body, start_method)
    assert finished.status == 7 and finished.errors == "", finished


def test_an_interrupt_while_the_exit_waits_for_an_executor(tmp_path: Path, start_method: str) -> None:
    program = start(
        tmp_path,
        HEAD.format(method=start_method) + '    executor.submit(tasks.appear_and_wait, "task")\n',
        has_terminal=True,
    )
    try:
        wait_until((tmp_path / "task.running").exists, "the exit waits")
        program.interrupt()
        finished = program.finish()
        program.check_all_have_gone()
    finally:
        program.kill()
    assert finished.errors.count("KeyboardInterrupt") <= 1 and "tasks.py" not in finished.errors, finished


@pytest.mark.parametrize(
    "end", ["pool.terminate(); pool.join()", "executor.kill_workers()", "executor.terminate_workers()"]
)
def test_a_stopped_worker_keeps_no_end_waiting(tmp_path: Path, end: str, start_method: str) -> None:
    program = start(
        tmp_path,
        HEAD.format(method=start_method)
        + f"""
    submit = pool.apply_async if {"pool" in end} else executor.submit
    submit(tasks.appear_and_wait, *((("task",),) if {"pool" in end} else ("task",)))
    sys.stdin.readline()
    {end}
    print("ended")
""",
        has_terminal=True,
    )
    try:
        wait_until((tmp_path / "task.running").exists, "the task runs")
        os.kill(int((tmp_path / "task.running").read_text()), signal.SIGSTOP)
        program.type("go on\n")
        assert program.finish().check() == "9 16\nended\n"
        program.check_all_have_gone()
    finally:
        program.kill()
