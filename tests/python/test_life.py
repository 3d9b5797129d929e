"""The states of a pool, and what may be called in which."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import warnings
from typing import Any

import procpool
import pytest
import tasks
from programs import run
from waiting import LONG, wait_until


class Input(list[Any]):
    """Calls `then` when it is read for the second time by strides."""

    def __init__(self, items: Any, then: Any) -> None:
        super().__init__(items)
        self.then = then

    def __iter__(self) -> Any:
        for index, item in enumerate(super().__iter__()):
            if index == 300:
                self.then()
            yield item


def test_close_while_a_map_is_being_submitted_refuses_none_of_it() -> None:
    with procpool.Pool(2) as pool:
        halfway, closed = threading.Event(), threading.Event()

        def then() -> None:
            halfway.set()
            assert closed.wait(LONG)

        def close() -> None:
            assert halfway.wait(LONG)
            pool.close()
            closed.set()
            pool.join()

        closing = threading.Thread(target=close)
        closing.start()
        assert pool.map(tasks.same, Input(range(1000), then), chunksize=1) == list(range(1000))
        closing.join(LONG)
        assert not closing.is_alive()


def test_whoever_closes_the_pool_in_the_middle_of_its_own_map_is_refused_the_rest() -> None:
    # A handler of a signal, say: it could not wait for what it has interrupted.
    with procpool.Pool(2) as pool:
        result = pool.map_async(tasks.same, Input(range(1000), pool.close), chunksize=1)
        pool.join()
        with pytest.raises(ValueError, match="^Pool not running$"):
            result.get(LONG)


def all_calls(pool: procpool.Pool) -> list[Any]:
    return [
        lambda: pool.apply(abs, (1,)),
        lambda: pool.apply_async(abs, (1,)),
        lambda: pool.map(abs, [1]),
        lambda: pool.map_async(abs, [1]),
        lambda: pool.starmap(abs, [(1,)]),
        lambda: pool.starmap_async(abs, [(1,)]),
        lambda: pool.imap(abs, [1]),
        lambda: pool.imap(abs, [1], 5),
        lambda: pool.imap_unordered(abs, [1]),
        lambda: pool.options(timeout=5).apply_async(abs, (1,)),
        lambda: pool.__enter__(),
    ]


@pytest.mark.parametrize("end", ["close", "terminate"])
def test_after_its_end_a_pool_takes_nothing(end: str) -> None:
    pool = procpool.Pool(1)
    getattr(pool, end)()
    for call in all_calls(pool):
        with pytest.raises(ValueError, match="^Pool not running$"):
            call()
    pool.join()
    for call in all_calls(pool):
        with pytest.raises(ValueError, match="^Pool not running$"):
            call()


def test_join_is_for_pools_that_end(pool: procpool.Pool) -> None:
    with pytest.raises(ValueError, match="^Pool is still running$"):
        pool.join()
    pool._state = "nonsense"
    with pytest.raises(ValueError, match="^In unknown state$"):
        pool.join()
    pool._state = "RUN"


def test_all_ends_may_be_repeated() -> None:
    pool = procpool.Pool(2)
    for call in (pool.close, pool.close, pool.join, pool.join, pool.terminate, pool.terminate, pool.close, pool.join):
        assert call() is None
    assert repr(pool).endswith("state=TERMINATE pool_size=0>")


def test_close_after_terminate_changes_nothing() -> None:
    pool = procpool.Pool(1)
    pool.terminate()
    pool.close()
    assert pool._state == "TERMINATE"
    pool.join()


def test_states_are_shown_and_compared() -> None:
    from procpool.pool import CLOSE, RUN, TERMINATE

    pool = procpool.Pool(2)
    assert repr(pool) == "<procpool.pool.Pool state=RUN pool_size=2>" and pool._state == RUN
    pool.close()
    assert "state=CLOSE" in repr(pool) and pool._state == CLOSE
    pool.terminate()
    assert "state=TERMINATE" in repr(pool) and pool._state == TERMINATE
    pool.join()


def test_the_context_manager_gives_the_pool_and_terminates_it() -> None:
    pool = procpool.Pool(1)
    with pool as entered:
        assert entered is pool
        result = pool.apply_async(tasks.for_ever)
    assert pool._state == "TERMINATE"
    with pytest.raises(procpool.Terminated):
        result.get(LONG)
    pool.join()


def test_close_and_join_finish_all_that_is_queued() -> None:
    pool = procpool.Pool(2, maxtasksperchild=3)
    results = [pool.apply_async(tasks.square, (number,)) for number in range(100)]
    iterator = pool.imap(tasks.square, range(100))
    pool.close()
    pool.join()
    assert [result.get(0) for result in results] == list(iterator) == [number * number for number in range(100)]


def test_terminate_ends_what_runs_and_what_waits(tmp_path: Any) -> None:
    pool = procpool.Pool(2)
    running = [pool.apply_async(tasks.appear_and_wait, (str(tmp_path / name),)) for name in "ab"]
    queued = [pool.apply_async(tasks.same, (1,)) for _ in range(10_000)]
    mapped = pool.map_async(tasks.for_ever, range(10))
    iterator = pool.imap(tasks.for_ever, range(10))
    unordered = pool.imap_unordered(tasks.for_ever, range(10))
    wait_until(lambda: len(list(tmp_path.glob("*.running"))) == 2, "both tasks run")
    pool.terminate()
    for result in [*running, queued[0], queued[-1], mapped]:
        with pytest.raises(procpool.Terminated):
            result.get(LONG)
    for each in (iterator, unordered):
        with pytest.raises(procpool.Terminated):
            each.next(LONG)
    pool.join()


def test_terminate_wakes_those_who_wait() -> None:
    pool = procpool.Pool(1)
    calls = [
        lambda: pool.apply(tasks.for_ever),
        lambda: pool.map(tasks.for_ever, [1, 2]),
        lambda: list(pool.imap(tasks.for_ever, [1, 2])),
        lambda: list(pool.imap_unordered(tasks.for_ever, [1, 2])),
        lambda: list(pool.imap(tasks.for_ever, [1, 2, 3], buffersize=1)),
    ]
    ended: list[BaseException] = []

    def wait(call: Any) -> None:
        try:
            call()
        except BaseException as error:
            ended.append(error)

    waiters = [threading.Thread(target=wait, args=(call,)) for call in calls]
    for waiter in waiters:
        waiter.start()
    wait_until(lambda: pool.stats().accepted >= 1 + 2 + 2 + 2 + 1, "all have begun")
    pool.terminate()
    for waiter in waiters:
        waiter.join(LONG)
    pool.join()
    assert [type(error) for error in ended] == [procpool.Terminated] * len(calls)


def test_terminate_ends_workers_that_ignore_it(tmp_path: Any) -> None:
    pool = procpool.Pool(1)
    result = pool.apply_async(tasks.ignore_terminate, (str(tmp_path / "task"),))
    wait_until((tmp_path / "task.running").exists, "the task runs")
    pool.terminate()
    pool.join()
    with pytest.raises(procpool.Terminated):
        result.get(0)


def test_terminate_by_many_threads_at_once() -> None:
    pool = procpool.Pool(2)
    pool.map_async(tasks.for_ever, range(10))
    threads = [threading.Thread(target=pool.terminate) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert not any(thread.is_alive() for thread in threads)
    pool.join()


def test_a_thread_whose_start_was_interrupted_hinders_no_end() -> None:
    """As by Ctrl-C in the first call that has a callback."""
    pool = procpool.Pool(1)
    pool._crew.notices_thread = threading.Thread(target=print)
    pool.terminate()
    pool.join()


def test_a_pool_cannot_be_pickled_or_copied(pool: procpool.Pool) -> None:
    text = "^pool objects cannot be passed between processes or pickled$"
    for call in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(NotImplementedError, match=text):
            call(pool)
    with pytest.raises(NotImplementedError, match=text):
        pool.apply(tasks.same, (pool,))


def test_a_forgotten_pool_warns_and_ends() -> None:
    pool: Any = procpool.Pool(2)
    assert pool.apply(tasks.same, (1,)) == 1
    shown = repr(pool)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del pool
        gc.collect()
    told = [warning for warning in caught if issubclass(warning.category, ResourceWarning)]
    assert [str(warning.message) for warning in told] == [f"unclosed running multiprocessing pool {shown}"]
    assert isinstance(told[0].source, procpool.Pool)


def test_a_forgotten_pool_ends_without_the_garbage_collector() -> None:
    gc.disable()
    try:
        pool: Any = procpool.Pool(2)
        processes = list(pool._pool)
        with pytest.warns(ResourceWarning):
            del pool
        wait_until(lambda: not any(process.is_alive() for process in processes), "the workers end")
    finally:
        gc.enable()


def test_a_pool_that_was_ended_does_not_warn() -> None:
    pool: Any = procpool.Pool(1)
    pool.close()
    pool.join()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del pool
        gc.collect()


def test_a_pool_is_kept_by_what_it_owes() -> None:
    pool: Any = procpool.Pool(1)
    result = pool.apply_async(tasks.same_slowly, (3, 0.2))
    del pool
    gc.collect()
    assert result.get(LONG) == 3


@pytest.mark.parametrize(
    "end",
    ["", "pool.close()", "pool.terminate()", "del pool", "result = pool.map_async(time.sleep, [1000] * 5)"],
    ids=["nothing", "close", "terminate", "del", "with running tasks"],
)
def test_a_program_ends_whatever_its_pool_does(tmp_path: Any, end: str, start_method: str) -> None:
    finished = run(
        tmp_path,
        f"""
        import time
        from multiprocessing import get_context
        import procpool

        if __name__ == "__main__":
            pool = procpool.Pool(2, context=get_context("{start_method}"))
            print(pool.map(abs, [-1, -2]))
            {end}
        """,
    )
    assert finished.check() == "[1, 2]\n"
    assert "Traceback" not in finished.errors


def test_a_pool_of_a_module_ends_by_a_handler_of_the_exit(tmp_path: Any) -> None:
    finished = run(
        tmp_path,
        """
        import atexit, procpool
        pool = None

        def end():
            pool.terminate()
            pool.join()
            print("ended")

        if __name__ == "__main__":
            pool = procpool.Pool(1)
            atexit.register(end)
            print(pool.apply(abs, (-3,)))
        """,
    )
    assert finished.check() == "3\nended\n" and "Traceback" not in finished.errors
