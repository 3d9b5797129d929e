"""`ProcessPoolExecutor`: what it shares with that of `concurrent.futures`, and what it has beyond."""

from __future__ import annotations

import concurrent.futures
import gc
import inspect
import itertools
import multiprocessing
import os
import pickle
import signal
import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any, Iterator

import procpool
import pytest
import tasks
from programs import run
from waiting import LONG, wait_until


@pytest.fixture
def gate(tmp_path: Any) -> Any:
    """A file that tasks wait for."""
    return tmp_path / "gate"


# ---- submit ----


def test_submit_passes_everything_on(executor: procpool.ProcessPoolExecutor) -> None:
    assert executor.submit(tasks.arguments, 1, fn=2, self=3).result(LONG) == ((1,), {"fn": 2, "self": 3})
    assert executor.submit(tasks.pid).result(LONG) != os.getpid()


def test_signatures() -> None:
    parameters = inspect.signature(procpool.ProcessPoolExecutor).parameters
    assert list(parameters)[:5] == ["max_workers", "mp_context", "initializer", "initargs", "max_tasks_per_child"]
    assert parameters["max_tasks_per_child"].kind is inspect.Parameter.KEYWORD_ONLY
    shown = str(inspect.signature(procpool.ProcessPoolExecutor.shutdown).replace(return_annotation=inspect._empty))
    assert shown.replace(": 'bool'", "").replace(" = ", "=") == "(self, wait=True, *, cancel_futures=False)"
    names = list(inspect.signature(procpool.ProcessPoolExecutor.map).parameters)
    assert names == ["self", "fn", "iterables", "timeout", "chunksize", "buffersize"]


def test_results_are_real_futures(executor: procpool.ProcessPoolExecutor) -> None:
    future = executor.submit(tasks.square, 3)
    assert isinstance(future, Future)
    assert future.result(LONG) == 9 and future.exception() is None
    assert future.done() and not future.running() and not future.cancelled() and not future.cancel()
    assert repr(future).startswith("<Future at 0x") and repr(future).endswith("state=finished returned int>")
    failed = executor.submit(tasks.fail)
    assert isinstance(failed.exception(LONG), ValueError)
    assert repr(failed).endswith("state=finished raised ValueError>")


def test_classes_are_where_they_say_that_they_are() -> None:
    import procpool.futures
    import procpool.pool

    assert procpool.ProcessPoolExecutor.__module__ == procpool.futures.Future.__module__ == "procpool.futures"
    assert procpool.Pool.__module__ == "procpool.pool"
    kinds = (procpool.pool.AsyncResult, procpool.pool.MapResult, procpool.pool.IMapIterator)
    for kind in (procpool.Pool, procpool.ProcessPoolExecutor, procpool.futures.Future, *kinds):
        assert pickle.loads(pickle.dumps(kind)) is kind


def test_result_times_out(executor: procpool.ProcessPoolExecutor, gate: Any) -> None:
    future = executor.submit(tasks.wait_for_file, str(gate), 5)
    for call in (future.result, future.exception):
        # Before Python 3.11 this is not the built-in class of that name.
        with pytest.raises(concurrent.futures.TimeoutError) as caught:
            call(timeout=0.02)
        assert type(caught.value) is concurrent.futures.TimeoutError
    gate.touch()
    assert future.result(LONG) == 5


def test_a_running_future_cannot_be_cancelled(executor: procpool.ProcessPoolExecutor, tmp_path: Any) -> None:
    future = executor.submit(tasks.wait_for_file, str(tmp_path / "gate"))
    wait_until(future.running, "the task runs")
    assert not future.cancel() and not future.cancelled() and "state=running" in repr(future)
    (tmp_path / "gate").touch()
    assert future.result(LONG) is None


def test_queued_futures_can_be_cancelled(gate: Any) -> None:
    with procpool.ProcessPoolExecutor(1) as executor:
        first = executor.submit(tasks.wait_for_file, str(gate), 1)
        rest = [executor.submit(tasks.note, str(gate) + ".log", number) for number in range(10)]
        assert all(future.cancel() for future in rest[::2])
        gate.touch()
        assert first.result(LONG) == 1
        for future in rest[::2]:
            assert future.cancelled() and future.done() and future.cancel()
            with pytest.raises(CancelledError):
                future.result(LONG)
            with pytest.raises(CancelledError):
                future.exception(LONG)
        assert [future.result(LONG) for future in rest[1::2]] == [1, 3, 5, 7, 9]
    assert open(str(gate) + ".log").read().split() == list("13579")


def test_many_submits_from_many_threads(executor: procpool.ProcessPoolExecutor) -> None:
    def submit(base: int) -> list[Any]:
        return [executor.submit(tasks.square, base + number) for number in range(500)]

    with ThreadPoolExecutor(4) as threads:
        futures = list(itertools.chain(*threads.map(submit, [0, 1000, 2000, 3000])))
    expected = [(base + number) ** 2 for base in (0, 1000, 2000, 3000) for number in range(500)]
    assert [future.result(LONG) for future in futures] == expected


# ---- map ----


def test_map_keeps_the_order_and_takes_several_inputs(executor: procpool.ProcessPoolExecutor) -> None:
    assert list(executor.map(tasks.square, range(100))) == [number * number for number in range(100)]
    assert list(executor.map(tasks.add, range(5), [10, 20, 30])) == [10, 21, 32]
    assert list(executor.map(tasks.add, range(50), range(50), chunksize=7)) == [2 * number for number in range(50)]
    assert list(executor.map(tasks.square, [])) == []
    assert list(executor.map(tasks.pid)) == []


def test_map_submits_at_the_call(executor: procpool.ProcessPoolExecutor) -> None:
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(10):
            read.append(number)
            yield number

    results = executor.map(tasks.same, numbers())
    assert len(read) == 10
    assert list(results) == read


def test_an_error_ends_the_iterator_and_cancels_the_rest(gate: Any) -> None:
    with procpool.ProcessPoolExecutor(1) as executor:
        calls = [partial(tasks.fail), partial(tasks.wait_for_file, str(gate))] + [
            partial(tasks.note, str(gate) + ".log", number) for number in range(20)
        ]
        results = executor.map(tasks.call, calls)
        with pytest.raises(ValueError):
            next(results)
        with pytest.raises(StopIteration):
            next(results)
        gate.touch()
        assert executor.submit(tasks.same, 1).result(LONG) == 1
    assert not os.path.exists(str(gate) + ".log")


def test_the_timeout_of_map_counts_from_the_call(executor: procpool.ProcessPoolExecutor, gate: Any) -> None:
    from concurrent.futures import TimeoutError as FuturesTimeoutError

    results = executor.map(tasks.call, [partial(tasks.same, 1), partial(tasks.wait_for_file, str(gate))], timeout=0.5)
    with pytest.raises(FuturesTimeoutError):
        assert next(results) == 1
        next(results)
    gate.touch()


@pytest.mark.parametrize("chunksize", [0, -1])
def test_map_refuses_chunks_of_nothing(executor: procpool.ProcessPoolExecutor, chunksize: int) -> None:
    with pytest.raises(ValueError, match=r"^chunksize must be >= 1\.$"):
        executor.map(tasks.same, [1], chunksize=chunksize)


@pytest.mark.parametrize("chunksize", [1, 3])
def test_map_with_a_buffersize_reads_as_results_are_taken(
    executor: procpool.ProcessPoolExecutor, chunksize: int
) -> None:
    given = 0

    def numbers() -> Iterator[int]:
        nonlocal given
        for given in itertools.count():
            yield given

    results = executor.map(tasks.same, numbers(), chunksize=chunksize, buffersize=6)
    for taken in range(60):
        assert taken <= given + 1 <= taken + 6 + chunksize
        assert next(results) == taken
    results.close()  # type: ignore[attr-defined]


def test_map_refuses_wrong_buffersizes(executor: procpool.ProcessPoolExecutor) -> None:
    with pytest.raises(ValueError, match="^buffersize must be None or > 0$"):
        executor.map(tasks.same, [1], buffersize=0)
    with pytest.raises(TypeError, match="^buffersize must be an integer or None$"):
        executor.map(tasks.same, [1], buffersize="a")  # type: ignore[arg-type]


# ---- shutdown ----


@pytest.mark.parametrize("wait", [True, False])
def test_shutdown_finishes_what_was_submitted(wait: bool, gate: Any) -> None:
    executor = procpool.ProcessPoolExecutor(2)
    futures = [executor.submit(tasks.wait_for_file, str(gate), number) for number in range(10)]
    closing = threading.Thread(target=executor.shutdown, kwargs={"wait": wait})
    closing.start()
    if not wait:
        closing.join(LONG)
        assert not futures[0].done()
    gate.touch()
    closing.join(LONG)
    assert not closing.is_alive()
    assert [future.result(LONG) for future in futures] == list(range(10))
    if wait:
        assert executor._processes is None or not executor._processes
    executor.shutdown()


def test_after_shutdown_nothing_is_taken() -> None:
    executor = procpool.ProcessPoolExecutor(1)
    executor.submit(tasks.same, 1).result(LONG)
    executor.shutdown()
    executor.shutdown(wait=False, cancel_futures=True)
    for call in (executor.submit, executor.map):
        with pytest.raises(RuntimeError, match="^cannot schedule new futures after shutdown$"):
            call(tasks.same, [1])


def test_a_call_that_comes_too_late_by_a_moment_is_refused() -> None:
    executor = procpool.ProcessPoolExecutor(1)
    executor.submit(tasks.same, 1).result(LONG)

    class ShutsDown:
        def __reduce__(self) -> Any:
            executor.shutdown(wait=False)
            return int, ()

    with pytest.raises(RuntimeError, match="^cannot schedule new futures after shutdown$"):
        executor.submit(tasks.same, ShutsDown())


def test_an_executor_that_never_began_can_be_shut_down() -> None:
    executor = procpool.ProcessPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="^cannot schedule new futures after shutdown$"):
        executor.submit(tasks.same, 1)


def test_shutdown_may_cancel_what_has_not_begun(tmp_path: Any) -> None:
    executor = procpool.ProcessPoolExecutor(1)
    gate = tmp_path / "gate"
    first = executor.submit(tasks.wait_for_file, str(gate), 1)
    wait_until(first.running, "the first runs")
    rest = [executor.submit(tasks.same, number) for number in range(10)]
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in rest)
    gate.touch()
    assert first.result(LONG) == 1
    executor.shutdown()


def test_shutdown_cancels_what_map_submitted_as_well(gate: Any) -> None:
    executor = procpool.ProcessPoolExecutor(1)
    results = executor.map(tasks.wait_for_file, [str(gate)] * 10, range(10))
    wait_until(lambda: executor.stats().running == 1, "the first runs")
    executor.shutdown(wait=False, cancel_futures=True)
    assert executor.stats().queued == 0
    gate.touch()
    assert next(results) == 0
    with pytest.raises(CancelledError):
        next(results)
    executor.shutdown()


def test_what_map_submitted_is_forgotten_with_its_iterator(executor: procpool.ProcessPoolExecutor) -> None:
    results = executor.map(tasks.same, range(3))
    assert len(executor._pending_work_items) == 1
    assert list(results) == [0, 1, 2]
    executor.map(tasks.same, range(3))
    gc.collect()
    del results
    assert len(executor._pending_work_items) == 0


class Counting(procpool.ProcessPoolExecutor):
    submitted = 0

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        self.submitted += 1
        return super().submit(*args, **kwargs)


def test_map_calls_submit_where_a_subclass_has_changed_it() -> None:
    with Counting(1) as executor:
        assert list(executor.map(tasks.same, range(3))) == [0, 1, 2] and executor.submitted == 3
        assert list(executor.map(tasks.same, range(5), chunksize=2)) == list(range(5)) and executor.submitted == 6


def test_it_is_an_executor_of_the_standard_library() -> None:
    assert issubclass(procpool.ProcessPoolExecutor, concurrent.futures.ProcessPoolExecutor)


def test_the_context_manager_waits() -> None:
    with procpool.ProcessPoolExecutor(2) as executor:
        futures = [executor.submit(tasks.same_slowly, number) for number in range(20)]
    assert all(future.done() for future in futures)


def test_a_forgotten_executor_finishes_and_ends() -> None:
    executor: Any = procpool.ProcessPoolExecutor(2)
    futures = [executor.submit(tasks.same_slowly, number) for number in range(10)]
    processes = list(executor._processes.values())
    del executor
    gc.collect()
    assert [future.result(LONG) for future in futures] == list(range(10))
    del futures
    gc.collect()
    wait_until(lambda: not any(process.is_alive() for process in processes), "its workers end")


def test_a_program_waits_for_its_executors(tmp_path: Any, start_method: str) -> None:
    finished = run(
        tmp_path,
        f"""
        from multiprocessing import get_context
        import procpool, tasks

        if __name__ == "__main__":
            executor = procpool.ProcessPoolExecutor(2, get_context("{start_method}"))
            for number in range(6):
                executor.submit(tasks.same_slowly, number, 0.05).add_done_callback(lambda future: print(future.result()))
        """,
    )
    assert sorted(finished.check().split()) == list("012345") and "Traceback" not in finished.errors


def test_at_the_exit_nothing_new_is_taken(tmp_path: Any) -> None:
    finished = run(
        tmp_path,
        """
        import atexit, procpool, tasks

        if __name__ == "__main__":
            executor = procpool.ProcessPoolExecutor(1)
            print(executor.submit(tasks.square, 2).result())

            @atexit.register
            def late():
                try:
                    executor.submit(tasks.square, 2)
                except RuntimeError as error:
                    print(error)
        """,
    )
    assert finished.check().splitlines() in (
        ["4", "cannot schedule new futures after shutdown"],
        ["4", "cannot schedule new futures after interpreter shutdown"],
    )


# ---- workers ----


def test_workers_are_started_as_they_are_needed() -> None:
    import multiprocessing

    with procpool.ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as executor:
        assert not executor._processes
        for _ in range(5):
            executor.submit(tasks.same, 1).result(LONG)
        assert executor._processes is not None and len(executor._processes) == 1


def test_all_workers_work(tmp_path: Any, context: Any) -> None:
    gate = tmp_path / "gate"
    with procpool.ProcessPoolExecutor(3, context) as executor:
        futures = [executor.submit(tasks.wait_for_file, str(gate)) for _ in range(3)]
        wait_until(lambda: all(future.running() for future in futures), "all three run at once")
        gate.touch()


@pytest.mark.parametrize("method", [None, "fork", "forkserver", "spawn"])
def test_workers_are_replaced_after_their_tasks(method: Any) -> None:
    import multiprocessing

    context = method and multiprocessing.get_context(method)
    with procpool.ProcessPoolExecutor(1, context, max_tasks_per_child=3) as executor:
        pids = [executor.submit(tasks.pid).result(LONG) for _ in range(7)]
    assert [len(list(group)) for _, group in itertools.groupby(pids)] == [3, 3, 1]


def test_initializers(context: Any) -> None:
    with procpool.ProcessPoolExecutor(2, context, tasks.set_inherited, ("a", 1)) as executor:
        assert list(executor.map(tasks.get_inherited, range(4))) == [("a", 1)] * 4


def test_a_failed_initializer_breaks_the_executor() -> None:
    with procpool.ProcessPoolExecutor(1, initializer=tasks.failing_initializer) as executor:
        with pytest.raises(BrokenProcessPool, match="no start"):
            executor.submit(tasks.same, 1).result(LONG)
        with pytest.raises(BrokenProcessPool):
            executor.submit(tasks.same, 1).result(LONG)


@pytest.mark.parametrize("how", ["terminate_workers", "kill_workers"])
def test_workers_may_all_be_ended(tmp_path: Any, how: str) -> None:
    executor = procpool.ProcessPoolExecutor(1)
    running = executor.submit(tasks.appear_and_wait, str(tmp_path / "task"))
    queued = executor.submit(tasks.same, 1)
    wait_until((tmp_path / "task.running").exists, "the task runs")
    getattr(executor, how)()
    with pytest.raises(BrokenProcessPool):
        running.result(LONG)
    with pytest.raises((BrokenProcessPool, CancelledError)):
        queued.result(LONG)
    with pytest.raises(RuntimeError):
        executor.submit(tasks.same, 1)
    getattr(executor, how)()
    executor.shutdown()


def test_a_death_costs_one_future(executor: procpool.ProcessPoolExecutor, gate: Any) -> None:
    other = executor.submit(tasks.wait_for_file, str(gate), "other")
    lost = executor.submit(tasks.killed, tasks.BAD)
    assert isinstance(lost.exception(LONG), procpool.WorkerDied)
    assert isinstance(lost.exception(), BrokenProcessPool)
    gate.touch()
    assert other.result(LONG) == "other"
    assert executor.submit(tasks.same, 2).result(LONG) == 2


def test_a_death_may_break_the_executor_as_in_the_standard_library(tmp_path: Any) -> None:
    with procpool.ProcessPoolExecutor(2, on_worker_death="break") as executor:
        waiting = [executor.submit(tasks.for_ever) for _ in range(3)]
        os.kill(next(iter(executor._processes or {})), 9)
        for future in waiting:
            error = future.exception(LONG)
            assert isinstance(error, BrokenProcessPool), repr(error)
        errors = [future.exception() for future in waiting]
        assert len(set(map(id, errors))) == len(errors)
        with pytest.raises(BrokenProcessPool, match="the process pool is not usable anymore"):
            executor.submit(tasks.same, 1)


def test_the_private_parts_that_programs_read(executor: procpool.ProcessPoolExecutor, gate: Any) -> None:
    assert executor._max_workers == 2 and executor._broken is False
    assert executor._mp_context is not None and not executor._shutdown_thread
    futures = [executor.submit(tasks.wait_for_file, str(gate)) for _ in range(6)]
    wait_until(lambda: len(executor._processes or ()) == 2, "both workers have begun")
    assert {process.pid for process in (executor._processes or {}).values()} == set(executor._processes or {})
    assert len(executor._pending_work_items) == 6
    wait_until(lambda: executor._work_ids.qsize() + executor._call_queue.qsize() >= 4, "four wait")
    assert executor._executor_manager_thread is not None and executor._executor_manager_thread.is_alive()
    gate.touch()
    for future in futures:
        future.result(LONG)
    assert len(executor._pending_work_items) == 0


def test_stats_and_resize(executor: procpool.ProcessPoolExecutor, gate: Any) -> None:
    executor.submit(tasks.same, 1).result(LONG)
    # A worker counts what it has finished when it has told of it.
    wait_until(lambda: executor.stats().accepted == executor.stats().done == 1, "the call is counted")
    executor.resize(3)
    futures = [executor.submit(tasks.wait_for_file, str(gate)) for _ in range(3)]
    wait_until(lambda: executor.stats().running == 3, "three run at once")
    gate.touch()
    for future in futures:
        future.result(LONG)
    executor.resize(1)
    wait_until(lambda: len(executor.stats().workers) == 1, "two have left")
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        executor.resize(0)


def test_a_worker_that_was_forked_while_the_executor_was_locked_leaves_by_itself() -> None:
    executor = procpool.ProcessPoolExecutor(1, multiprocessing.get_context("fork"))
    first = executor.submit(os.getpid).result(LONG)
    with executor._shutdown_lock:
        # Its successor is forked while this thread holds the lock, of which it has a copy that nobody will ever release.
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: set(executor._processes or ()) - {first}, "there is another worker")
    (successor,) = (executor._processes or {}).values()
    assert executor.submit(os.getpid).result(LONG) == successor.pid
    executor.shutdown()
    # Not killed for having stayed.
    assert successor.exitcode == 0
