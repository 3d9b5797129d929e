"""A pool says what everybody in it is doing, also when it is stuck."""

from __future__ import annotations

import io
import os
import signal
import time
from pathlib import Path
from typing import Any

import procpool
import pytest
import tasks
from procpool import pickling
from programs import start
from waiting import LONG, wait_until


def line(text: str, beginning: str) -> str:
    """The line that begins so."""
    found = [line.strip() for line in text.splitlines() if line.strip().startswith(beginning)]
    assert found, f"no line begins with {beginning!r}:\n{text}"
    return found[0]


def test_a_dump_shows_every_worker_and_task_and_the_stacks(context: Any, tmp_path: Path) -> None:
    with procpool.Pool(2, context=context) as pool:
        results = [pool.apply_async(tasks.appear_and_wait, (str(tmp_path / str(n)),)) for n in range(2)]
        for number in range(2):
            wait_until((tmp_path / f"{number}.running").exists, "both run")
        results.append(pool.options(deadline=LONG).apply_async(tasks.square, (3,)))
        text = pool.dump(io.StringIO())
        head = line(text, "pool ")
        assert f"of process {os.getpid()} takes tasks" in head, head
        assert "3 tasks accepted, 3 not ended; 1 entries in the queue" in head, head
        assert "wants 2 workers" in line(text, "supervisor: ")
        for worker in pool._pool:
            assert f"pid {worker.pid}, " in text
        for number in range(2):
            assert "runs task" in line(text, f"worker {number}: ")
            assert "tasks.appear_and_wait: runs on worker" in line(text, f"task {number + 1}, ")
            line(text, f"stack of worker {number}, pid ")
        assert "tasks.square: queued" in line(text, "task 3, ") and "to its deadline" in line(text, "task 3, ")
        assert text.count(" in appear_and_wait") == 2, text
    pool.join()


def test_a_dump_goes_to_standard_error_or_to_a_file(pool: procpool.Pool, capsys: pytest.CaptureFixture[str]) -> None:
    text = pool.dump()
    assert capsys.readouterr() == ("", text) and text.startswith("pool ")
    stream = io.StringIO()
    assert pool.dump(stream) == stream.getvalue() != ""


def test_an_executor_has_one_too(executor: procpool.ProcessPoolExecutor, tmp_path: Path) -> None:
    assert "it has no workers" in executor.dump(io.StringIO())
    results = executor.map(tasks.wait_for_file, [str(tmp_path / "gate")] * 3)
    wait_until(lambda: [worker.current_age is None for worker in executor.stats().workers] == [False] * 2, "two run")
    text = executor.dump(io.StringIO())
    assert text.count("tasks.wait_for_file: runs on worker") == 2 and "tasks.wait_for_file: queued" in text, text
    (tmp_path / "gate").touch()
    assert list(results) == [None] * 3


def test_of_many_tasks_a_hundred_are_named(tmp_path: Path) -> None:
    with procpool.Pool(1) as pool:
        result = pool.map_async(tasks.wait_for_file, [str(tmp_path / "gate")] * 250, 1)
        wait_until(lambda: pool.stats().running == 1, "one runs")
        text = pool.dump(io.StringIO())
        assert text.count("tasks.wait_for_file") == 100 and "and 150 more" in text, text
        (tmp_path / "gate").touch()
        result.get(LONG)
    pool.join()


def test_a_stopped_worker_has_no_stack_and_holds_up_nobody(pool: procpool.Pool) -> None:
    pool.map(tasks.same, range(10), 1)
    worker = pool._pool[0].pid
    os.kill(worker, signal.SIGSTOP)
    try:
        told = ("T (is stopped)", "(the process is stopped)", "most recent call first")
        # The other worker may be just starting.
        wait_until(lambda: all(part in pool.dump(io.StringIO()) for part in told), "it is told")
    finally:
        os.kill(worker, signal.SIGCONT)
    assert pool.map(tasks.square, range(4), 1) == [0, 1, 4, 9]


def test_a_worker_can_be_asked_again_and_again_and_leaves_no_stack_as_last_words(tmp_path: Path) -> None:
    with procpool.Pool(1) as pool:
        result = pool.apply_async(tasks.appear_and_wait, (str(tmp_path / "task"),))
        wait_until((tmp_path / "task.running").exists, "it runs")
        for _ in range(5):
            assert pool.dump(io.StringIO()).count(" in appear_and_wait") == 1
        os.kill(pool._pool[0].pid, signal.SIGKILL)
        with pytest.raises(procpool.WorkerDied) as caught:
            result.get(LONG)
        assert caught.value.last_words is None
    pool.join()


def test_a_worker_whose_program_has_its_own_handler_is_not_asked(tmp_path: Path) -> None:
    program = start(
        tmp_path,
        """
        import faulthandler, io, multiprocessing, procpool, signal, tasks

        if __name__ == "__main__":
            for take in (lambda: signal.signal(signal.SIGUSR2, print), lambda: faulthandler.register(signal.SIGUSR2)):
                take()
                with procpool.Pool(1, context=multiprocessing.get_context("fork")) as pool:
                    pool.apply(tasks.same, (1,))
                    print("the program handles SIGUSR2 itself" in pool.dump(io.StringIO()))
                pool.join()
                signal.signal(signal.SIGUSR2, signal.SIG_DFL)
        """,
    )
    finished = program.finish()
    assert finished.check() == "True\nTrue\n" and finished.errors == ""


def test_a_handler_that_an_initializer_sets_is_called_and_the_worker_lives(tmp_path: Path) -> None:
    called = tmp_path / "called"
    with procpool.Pool(1, tasks.handle_asking_signal, (str(called),)) as pool:
        assert pool.apply(tasks.same, (1,)) == 1
        pool.dump(io.StringIO())
        assert pool.apply(tasks.same, (2,)) == 2
        wait_until(called.exists, "its handler was called")
        assert pool.stats().restarts == 0
    pool.join()


def test_a_worker_that_would_die_of_the_signal_is_not_asked(pool: procpool.Pool) -> None:
    assert pool.map(tasks.forget_asking_signal, range(8), 1) == [None] * 8
    text = pool.dump(io.StringIO())
    assert "a task has removed the handler of SIGUSR2" in text, text
    assert pool.stats().restarts == 0 and pool.map(tasks.same, range(4), 1) == [0, 1, 2, 3]


def test_a_pool_that_was_terminated_can_be_shown(pool: procpool.Pool) -> None:
    pool.terminate()
    text = pool.dump(io.StringIO())
    assert "was terminated" in text and "worker 0" not in text, text


def test_a_dump_does_not_take_long_when_nobody_answers(pool: procpool.Pool, tmp_path: Path) -> None:
    """The parent's locks are held by a thread that hangs."""
    assert pool._crew._lock.acquire()
    try:
        begun = time.monotonic()
        with procpool.ProcessPoolExecutor(1) as helper:
            assert helper.submit(tasks.same, 1).result(LONG) == 1
        text = dump_in_thread(pool)
        print(f"it took {time.monotonic() - begun:.1f} s")
    finally:
        pool._crew._lock.release()
    assert "(processes are being started)" in text, text


def dump_in_thread(pool: procpool.Pool) -> str:
    import threading

    texts: list[str] = []
    thread = threading.Thread(target=lambda: texts.append(pool.dump(io.StringIO())))
    thread.start()
    thread.join(LONG)
    return texts[0]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_program_shows_all_its_pools_when_it_is_sent_a_signal(tmp_path: Path, method: str) -> None:
    program = start(
        tmp_path,
        f"""
        import multiprocessing, procpool, sys, tasks

        if __name__ == "__main__":
            context = multiprocessing.get_context("{method}")
            procpool.dump_on_signal()
            pool = procpool.Pool(1, context=context)
            executor = procpool.ProcessPoolExecutor(1, context)
            future = executor.submit(tasks.appear_and_wait, "future")
            pool.apply(tasks.appear_and_wait, ("call",))
        """,
    )
    try:
        for name in ("future", "call"):
            wait_until((tmp_path / f"{name}.running").exists, "both run")
        os.kill(program.pid, signal.SIGUSR2)
        assert program.process.stderr is not None
        shown = ""
        while "in apply\n" not in shown:
            text = program.process.stderr.readline()
            assert text, f"the program has ended; it wrote {shown}"
            shown += text
    finally:
        program.kill()
        program.process.communicate()
    assert f"process {program.pid} has 2 pools" in shown, shown
    assert shown.count("tasks.appear_and_wait: runs on worker 0") == 2, shown
    assert shown.count(" in appear_and_wait") == 2 and "stack of thread MainThread" in shown, shown


def test_a_signal_that_hits_the_workers_as_well_does_them_no_harm(tmp_path: Path) -> None:
    program = start(
        tmp_path,
        """
        import os, procpool, signal, tasks

        if __name__ == "__main__":
            procpool.dump_on_signal(signal.SIGUSR1, open("shown", "w"))
            procpool.dump_on_signal(signal.SIGUSR2, open("shown", "w"))
            with procpool.Pool(2) as pool:
                pids = set(pool.map(tasks.pid, range(20), 1))
                for number in (signal.SIGUSR1, signal.SIGUSR2):
                    os.killpg(0, number)
                print(pids <= {process.pid for process in pool._pool}, pool.map(tasks.square, range(3), 1))
                print(pool.stats().restarts, os.stat("shown").st_size > 0)
            pool.join()
        """,
    )
    try:
        assert program.finish().check() == "True [0, 1, 4]\n0 True\n"
    finally:
        program.kill()


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (tasks.square, "tasks.square"),
        (os.getpid, "posix.getpid"),
        (tasks.Refused, "tasks.Refused"),
        (procpool.pool.partial(tasks.add, 1), "tasks.add"),
    ],
)
def test_the_name_of_a_function_is_found_in_its_pickle(function: Any, name: str) -> None:
    data = pickling.dumps(function)
    assert pickling.name_in(data) == name
    for length in range(len(data)):
        assert pickling.name_in(data[:length]) in (None, name)
    assert pickling.name_in(b"rubbish") is None
