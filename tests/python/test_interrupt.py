"""Ctrl-C while a call waits: one KeyboardInterrupt in the parent, none in the workers, and nothing is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from programs import Finished, run, start
from waiting import wait_until

#: Every call that waits. Those of asyncio have the loop in the main thread, which waits for them.
CALLS = {
    "apply": "pool.apply(tasks.appear_and_wait, ('task',))",
    "get": "pool.apply_async(tasks.appear_and_wait, ('task',)).get()",
    "get with a timeout": "pool.apply_async(tasks.appear_and_wait, ('task',)).get(3600)",
    "wait": "pool.apply_async(tasks.appear_and_wait, ('task',)).wait()",
    "map": "pool.map(tasks.appear_and_wait, ['task', 'other', 'third', 'fourth'], 1)",
    "map with chunks": "pool.map(tasks.appear_and_wait, ['task', 'other', 'third', 'fourth'], 2)",
    "starmap": "pool.starmap(tasks.appear_and_wait, [('task',)])",
    "imap": "list(pool.imap(tasks.appear_and_wait, ['task', 'other', 'third']))",
    "imap_unordered": "list(pool.imap_unordered(tasks.appear_and_wait, ['task', 'other', 'third']))",
    "imap with a timeout": "pool.imap(tasks.appear_and_wait, ['task', 'other', 'third']).next(3600)",
    "imap with a buffer": "list(pool.imap(tasks.appear_and_wait, ['task', 'other', 'third'], buffersize=1))",
    "imap of input that comes late": "list(pool.imap(tasks.appear_and_wait, slow_input()))",
    "a callback's result": "pool.apply_async(tasks.appear_and_wait, ('task',), callback=print).get()",
    "options": "pool.options(timeout=3600, retries=3).apply(tasks.appear_and_wait, ('task',))",
    "join": "pool.apply_async(tasks.appear_and_wait, ('task',)), pool.close(), pool.join()",
    "join with a timeout": "pool.apply_async(tasks.appear_and_wait, ('task',)), pool.close(), pool.join(3600)",
    "result": "executor.submit(tasks.appear_and_wait, 'task').result()",
    "exception": "executor.submit(tasks.appear_and_wait, 'task').exception()",
    "executor.map": "list(executor.map(tasks.appear_and_wait, ['task', 'other', 'third']))",
    "shutdown": "executor.submit(tasks.appear_and_wait, 'task'), executor.shutdown()",
    "wait for futures": "concurrent.futures.wait([executor.submit(tasks.appear_and_wait, 'task')])",
    "as_completed": "list(concurrent.futures.as_completed([executor.submit(tasks.appear_and_wait, 'task')]))",
    "run_in_executor": "asyncio.run(in_executor())",
    "await": "asyncio.run(awaited())",
}

PROGRAM = """
    import asyncio, concurrent.futures, multiprocessing, procpool, tasks, time

    def slow_input():
        yield "task"
        while True:
            time.sleep(0.05)

    def appear_and_wait(path):
        tasks.wait_for_file("loop")
        tasks.appear_and_wait(path)

    def waiting(future):
        # Before the coroutine waits, asyncio would show what interrupts it once more, as its task's.
        asyncio.get_running_loop().call_soon(tasks.note, "loop", "turns")
        return future

    async def in_executor():
        await waiting(asyncio.get_running_loop().run_in_executor(executor, appear_and_wait, "task"))

    async def awaited():
        await waiting(pool.apply_async(appear_and_wait, ("task",)))

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
    """Ctrl-C in the terminal of a program, while a call waits."""
    program = start(folder, PROGRAM.format(call=call, end=end, method=method), has_terminal=True)
    try:
        wait_until((folder / "task.running").exists, "the call waits")
        program.interrupt()
        finished = program.finish()
        program.check_all_have_gone()
    finally:
        program.kill()
    return finished


def check_one_interrupt(finished: Finished) -> None:
    """One KeyboardInterrupt in the parent, whose traceback may say in what it was raised; no word from a worker."""
    assert finished.status != 0
    assert finished.errors.rstrip().splitlines()[-1] == "KeyboardInterrupt", finished.errors
    assert "appear_and_wait\n" not in finished.errors and "Process " not in finished.errors, finished.errors
    causes = finished.errors.count("During handling of the above") + finished.errors.count("The above exception was")
    assert finished.errors.count("Traceback") == 1 + causes, finished.errors


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
def test_an_interrupt_ends_a_call_that_waits(tmp_path: Path, call: str, start_method: str) -> None:
    check_one_interrupt(interrupt(tmp_path, call, "pool.terminate(); executor.kill_workers()", start_method))


@pytest.mark.parametrize("call", ["map", "result", "run_in_executor"])
def test_a_program_that_cleans_up_nothing_ends_too(tmp_path: Path, call: str, start_method: str) -> None:
    check_one_interrupt(interrupt(tmp_path, CALLS[call], "pass", start_method))


@pytest.mark.parametrize("call", ["executor.map", "result", "wait for futures"])
def test_an_executor_in_a_with_block_ends_at_an_interrupt(tmp_path: Path, call: str, start_method: str) -> None:
    """The standard library waits for all tasks, running and queued, and so for ever."""
    check_one_interrupt(interrupt(tmp_path, f"with executor:\n                {CALLS[call]}", "pass", start_method))


def test_an_interrupt_ends_the_exit_of_a_with_block(tmp_path: Path, start_method: str) -> None:
    """The block itself has ended well, and its exit waits for what was submitted."""
    call = "with executor:\n                executor.submit(tasks.appear_and_wait, 'task')"
    check_one_interrupt(interrupt(tmp_path, call, "pool.terminate()", start_method))


@pytest.mark.parametrize("call", ["map", "imap", "get"])
def test_a_pool_in_a_with_block_ends_at_an_interrupt(tmp_path: Path, call: str, start_method: str) -> None:
    check_one_interrupt(interrupt(tmp_path, f"with pool:\n                {CALLS[call]}", "pass", start_method))


def test_an_interrupt_while_workers_start_is_not_theirs(tmp_path: Path, start_method: str) -> None:
    """Each of them would show a traceback, of whatever it was about to import."""
    program = start(
        tmp_path,
        f"""
        import multiprocessing, os, procpool, tasks

        def dawdle():
            tasks.appear_and_wait("task")

        # A worker that is being started, and has not come to procpool's own code.
        if __name__ == "__mp_main__":
            dawdle()

        if __name__ == "__main__":
            if "{start_method}" == "fork":
                os.register_at_fork(after_in_child=dawdle)
            pool = procpool.Pool(1, context=multiprocessing.get_context("{start_method}"))
            try:
                print("made", flush=True)
                pool.apply(abs, (-1,))
            except KeyboardInterrupt:
                # Time to die in, if it were to.
                pool._pool[0].join(0.5)
                print("interrupted", pool._pool[0].exitcode)
            finally:
                pool.terminate()
        """,
        has_terminal=True,
    )
    try:
        assert program.line() == "made"
        wait_until((tmp_path / "task.running").exists, "a worker starts")
        program.interrupt()
        finished = program.finish()
        program.check_all_have_gone()
    finally:
        program.kill()
    assert finished.check() == "interrupted None\n" and finished.errors == "", finished.errors


INTERRUPTED_START = """
    import itertools, multiprocessing, os, procpool, signal, sys, tasks

    context = multiprocessing.get_context("{method}")
    starts = itertools.count()

    class Interrupted(context.Process):
        def start(self):
            super().start()
            # The second process is there, and nobody has written that down.
            if next(starts) == 1:
                signal.raise_signal(signal.{signal})

    if __name__ == "__main__":
        context.Process = Interrupted
        # A forked worker has it too, and may be told to end before it has anything else.
        parent = os.getpid()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(3) if os.getpid() == parent else os._exit(3))
        {body}
"""

#: What comes while a process starts, and what that raises.
SIGNALS = pytest.mark.parametrize(("name", "error"), [("SIGINT", "KeyboardInterrupt"), ("SIGTERM", "SystemExit")])


def interrupted_start(method: str, body: str, name: str = "SIGINT") -> str:
    return INTERRUPTED_START.format(method=method, signal=name, body=body.strip())


@SIGNALS
def test_a_signal_while_a_pool_is_made_leaves_no_process(
    tmp_path: Path, start_method: str, name: str, error: str
) -> None:
    body = f"""
        try:
            procpool.Pool(3, context=context)
        except {error}:
            for process in multiprocessing.active_children():
                process.join(10)
            print("interrupted", next(starts) > 1, multiprocessing.active_children())
    """
    finished = run(tmp_path, interrupted_start(start_method, body, name))
    assert finished.check() == "interrupted True []\n" and finished.errors == ""


@SIGNALS
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_signal_while_an_executor_grows_costs_nothing_but_the_call(
    tmp_path: Path, method: str, name: str, error: str
) -> None:
    body = f"""
        executor = procpool.ProcessPoolExecutor(2, context)
        first = executor.submit(tasks.wait_for_file, "gate", "first")
        try:
            executor.submit(abs, -1)
            executor.submit(abs, -1)
        except {error}:
            print("interrupted", executor.submit(abs, -2).result())
        open("gate", "w").close()
        print(first.result(), executor.stats().failed)
        executor.shutdown()
        print(multiprocessing.active_children())
    """
    finished = run(tmp_path, interrupted_start(method, body, name))
    assert finished.check() == "interrupted 2\nfirst 0\n[]\n" and finished.errors == ""


@SIGNALS
def test_a_signal_while_a_pool_grows_harms_nobody(tmp_path: Path, start_method: str, name: str, error: str) -> None:
    body = f"""
        pool = procpool.Pool(1, context=context)
        try:
            pool.resize(2)
            pool.apply(abs, (-1,))
        except {error}:
            print("interrupted", pool.map(abs, range(-10, 0)) == list(range(10, 0, -1)))
        pool.close()
        pool.join(30)
        print(multiprocessing.active_children())
    """
    finished = run(tmp_path, interrupted_start(start_method, body, name))
    assert finished.check() == "interrupted True\n[]\n" and finished.errors == ""


def test_a_second_interrupt_is_felt_where_a_start_hangs(tmp_path: Path) -> None:
    """As one does that waits for a fork server which is stopped."""
    body = """
        def hang():
            signal.raise_signal(signal.SIGINT)
            print("hangs", flush=True)
            tasks.wait_for_file("gate")

        Interrupted.start = lambda process: hang()
        try:
            procpool.Pool(1, context=context)
        except KeyboardInterrupt:
            print("interrupted")
    """
    program = start(tmp_path, interrupted_start("forkserver", body), has_terminal=True)
    try:
        assert program.line() == "hangs"
        program.interrupt()
        assert program.finish().check() == "interrupted\n"
    finally:
        program.kill()


def test_a_forked_worker_does_not_have_its_parents_handlers(tmp_path: Path) -> None:
    """An asyncio program handles signals by a handler and a descriptor, which a forked worker inherits: what came to the
    worker was handled by the program."""
    finished = run(
        tmp_path,
        """
        import asyncio, multiprocessing, os, procpool, signal

        async def main():
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, print, "the program was told to end")
            loop.add_signal_handler(signal.SIGINT, print, "the program was interrupted")
            executor = procpool.ProcessPoolExecutor(1, multiprocessing.get_context("fork"))
            for number in (signal.SIGINT, signal.SIGTERM):
                pid = await loop.run_in_executor(executor, os.getpid)
                os.kill(pid, number)
                await loop.run_in_executor(executor, os.getpid)
            executor.kill_workers()

        if __name__ == "__main__":
            asyncio.run(main())
            print("ended")
        """,
    )
    assert finished.check() == "ended\n"


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


@pytest.mark.parametrize("handle", ["executor.shutdown(wait=False, cancel_futures=True)", "last.cancel()"])
def test_a_handler_may_use_what_is_being_waited_for(tmp_path: Path, handle: str) -> None:
    program = f"""
        import concurrent.futures, os, procpool, signal, tasks

        def handle(number, frame):
            print(last.done(), last.running())
            {handle}

        if __name__ == "__main__":
            signal.signal(signal.SIGALRM, handle)
            executor = procpool.ProcessPoolExecutor(1)
            first, *_, last = [executor.submit(tasks.wait_for_file, "gate") for _ in range(8)]
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            try:
                last.result()
            except concurrent.futures.CancelledError:
                print("cancelled")
            open("gate", "w").close()
            print(first.result())
    """
    finished = run(tmp_path, program)
    assert finished.check() == "False False\ncancelled\nNone\n" and finished.errors == ""


@pytest.mark.parametrize(
    "take",
    [
        "pool.apply_async(Slow).get",
        "pool.map_async(Slow, [0], 1).get",
        "pool.imap(Slow, [0]).next",
        "executor.submit(Slow).result",
        "lambda future=executor.submit(Slow): concurrent.futures.wait([future]).done.pop().result()",
    ],
)
def test_an_interrupt_while_a_result_is_read_is_the_callers_and_the_result_stays(tmp_path: Path, take: str) -> None:
    program = f"""
        import concurrent.futures, multiprocessing, procpool, signal

        interrupts = iter([signal.SIGINT])

        class Slow:
            def __init__(self, *_):
                self.value = 7

            def __setstate__(self, state):
                # As if Ctrl-C came while this takes long.
                for number in interrupts:
                    signal.raise_signal(number)
                self.value = state["value"]

        if __name__ == "__main__":
            pool = procpool.Pool(1, context=multiprocessing.get_context("spawn"))
            executor = procpool.ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
            take = {take}
            try:
                print(take())
            except KeyboardInterrupt:
                value = take()
                print("interrupted", (value[0] if isinstance(value, list) else value).value)
            pool.terminate()
    """
    finished = run(tmp_path, program)
    assert finished.check() == "interrupted 7\n" and finished.errors == ""


def test_a_handler_that_asks_for_the_outcome_that_is_being_read_is_told_so(tmp_path: Path) -> None:
    program = """
        import procpool, signal

        class Slow:
            def __setstate__(self, state):
                signal.raise_signal(signal.SIGALRM)

            def __getstate__(self):
                return {"value": 7}

        def handle(number, frame):
            try:
                future.result(1)
            except RuntimeError as error:
                print(str(error)[:51])

        if __name__ == "__main__":
            signal.signal(signal.SIGALRM, handle)
            executor = procpool.ProcessPoolExecutor(1)
            future = executor.submit(Slow)
            print(type(future.result()).__name__)
    """
    finished = run(tmp_path, program)
    assert finished.check() == "this thread is reading the outcome that it asks for\nSlow\n" and finished.errors == ""


def test_what_a_handler_raises_while_a_result_is_read_does_not_become_the_result(tmp_path: Path) -> None:
    program = """
        import procpool, signal

        class TooLate(Exception):
            pass

        class Slow:
            def __getstate__(self):
                return {"value": 7}

            def __setstate__(self, state):
                for number in alarms:
                    signal.raise_signal(number)

        def handle(number, frame):
            raise TooLate

        if __name__ == "__main__":
            alarms = iter([signal.SIGALRM])
            signal.signal(signal.SIGALRM, handle)
            executor = procpool.ProcessPoolExecutor(1)
            future = executor.submit(Slow)
            try:
                future.result()
            except TooLate:
                print("too late", type(future.result()).__name__, future.exception())
    """
    finished = run(tmp_path, program)
    assert finished.check() == "too late Slow None\n" and finished.errors == ""


def test_a_handler_may_ask_for_the_map_that_is_being_waited_for(tmp_path: Path) -> None:
    program = """
        import procpool, signal, tasks

        def handle(number, frame):
            print(result.ready())
            open("gate", "w").close()
            print(result.get())

        if __name__ == "__main__":
            signal.signal(signal.SIGALRM, handle)
            with procpool.Pool(1) as pool:
                result = pool.map_async(tasks.wait_for_file, ["gate"] * 3)
                signal.setitimer(signal.ITIMER_REAL, 0.1)
                print(result.get())
    """
    finished = run(tmp_path, program)
    assert finished.check() == "False\n[None, None, None]\n[None, None, None]\n" and finished.errors == ""


def test_a_handler_that_asks_for_the_map_whose_results_are_being_read_is_told_so(tmp_path: Path) -> None:
    program = """
        import procpool, signal

        class Bell:
            def __reduce__(self):
                return ring, ()

        def ring():
            signal.raise_signal(signal.SIGALRM)
            return "rung"

        def bell(number):
            return Bell()

        def handle(number, frame):
            try:
                result.get()
            except RuntimeError as error:
                print(error)

        if __name__ == "__main__":
            signal.signal(signal.SIGALRM, handle)
            with procpool.Pool(1) as pool:
                result = pool.map_async(bell, [1])
                print(result.get())
    """
    finished = run(tmp_path, program)
    told = "this thread is reading the results of the map that it asks for, in a signal's handler"
    assert finished.check() == f"{told}\n['rung']\n" and finished.errors == ""


def test_a_handler_that_raises_leaves_a_map_as_it_was(tmp_path: Path) -> None:
    program = """
        import procpool, signal, tasks

        class TooLate(Exception):
            pass

        def handle(number, frame):
            if frame.f_code.co_filename.endswith("results.py"):
                raise TooLate

        if __name__ == "__main__":
            signal.signal(signal.SIGALRM, handle)
            with procpool.Pool(1) as pool:
                result = pool.map_async(tasks.wait_for_file, ["gate"] * 3, chunksize=1)
                interrupts = 0
                signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0001)
                while interrupts < 2000:
                    try:
                        while True:
                            result.wait(0)
                    except TooLate:
                        interrupts += 1
                signal.setitimer(signal.ITIMER_REAL, 0)
                open("gate", "w").close()
                print(result.get(30))
    """
    finished = run(tmp_path, program)
    assert finished.check() == "[None, None, None]\n"


def test_a_forked_worker_has_its_parents_other_handlers(tmp_path: Path) -> None:
    program = """
        import multiprocessing, procpool, signal, time

        class TooLate(Exception):
            pass

        def handle(number, frame):
            raise TooLate

        def dawdle():
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            try:
                time.sleep(60)
            except TooLate:
                return "too late"

        if __name__ == "__main__":
            signal.signal(signal.SIGALRM, handle)
            with procpool.Pool(1, context=multiprocessing.get_context("fork")) as pool:
                print(pool.apply(dawdle))
    """
    finished = run(tmp_path, program)
    assert finished.check() == "too late\n" and finished.errors == ""


def test_a_handler_that_is_set_while_a_pool_is_made_stays(tmp_path: Path) -> None:
    program = """
        import multiprocessing, procpool, signal

        context = multiprocessing.get_context("spawn")

        class Setting(context.Process):
            def start(self):
                signal.signal(signal.SIGINT, handle)
                super().start()

        def handle(number, frame):
            print("handled")

        if __name__ == "__main__":
            context.Process = Setting
            with procpool.Pool(1, context=context):
                signal.raise_signal(signal.SIGINT)
    """
    finished = run(tmp_path, program)
    assert finished.check() == "handled\n" and finished.errors == ""
