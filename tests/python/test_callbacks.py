"""When callbacks are called, by whom, and what happens if they raise."""

from __future__ import annotations

import logging
import sys
import threading
from functools import partial
from typing import Any

import procpool
import pytest
import tasks
from waiting import LONG, wait_until


class Calls(list[Any]):
    """What callbacks were called with."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[threading.Thread] = []

    def __call__(self, value: Any) -> None:
        self.threads.append(threading.current_thread())
        self.append(value)


def raise_again(error: BaseException) -> None:
    raise error


def test_a_callback_gets_the_value_once(pool: procpool.Pool) -> None:
    called, failed = Calls(), Calls()
    result = pool.apply_async(tasks.square, (3,), callback=called, error_callback=failed)
    assert result.get(LONG) == 9
    assert (called, failed) == ([9], [])


def test_callbacks_are_called_whoever_looks_for_what_has_ended(pool: procpool.Pool) -> None:
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            len(pool._cache)

    looking = threading.Thread(target=look)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        looking.start()
        called = Calls()
        results = [pool.apply_async(tasks.same, (number,), callback=called) for number in range(2000)]
        results.append(pool.map_async(tasks.same, [1], callback=called))
        for result in results:
            result.wait(LONG)
    finally:
        over.set()
        looking.join(LONG)
        sys.setswitchinterval(interval)
    assert len(called) == len(results)


def test_a_callback_may_wait_for_what_has_a_callback_too(pool: procpool.Pool, tmp_path: Any) -> None:
    heard: list[Any] = []

    def callback(value: int) -> None:
        other = pool.apply_async(tasks.wait_for_file, (str(tmp_path / "gate"), 2), callback=heard.append)
        with pytest.raises(procpool.TimeoutError):
            other.get(0.01)
        (tmp_path / "gate").touch()
        heard.append(other.get(LONG))
        heard.append(sorted(pool.imap_unordered(tasks.same, [4, 3])))

    assert pool.apply_async(tasks.same, (1,), callback=callback).get(LONG) == 1
    wait_until(lambda: len(heard) == 3, "the other callback was called")
    assert heard == [2, [3, 4], 2]


def test_an_error_callback_gets_the_error_once(pool: procpool.Pool) -> None:
    called, failed = Calls(), Calls()
    result = pool.apply_async(tasks.fail, callback=called, error_callback=failed)
    with pytest.raises(ValueError) as caught:
        result.get(LONG)
    assert called == [] and failed == [caught.value]


def test_a_map_has_one_callback_with_the_whole_list(pool: procpool.Pool) -> None:
    called, failed = Calls(), Calls()
    pool.map_async(tasks.square, range(40), chunksize=3, callback=called, error_callback=failed).get(LONG)
    pool.starmap_async(tasks.add, [(1, 2)], callback=called, error_callback=failed).get(LONG)
    with pytest.raises(ValueError):
        pool.map_async(tasks.fail, range(40), callback=called, error_callback=failed).get(LONG)
    assert called == [[number * number for number in range(40)], [3]]
    assert [type(error) for error in failed] == [ValueError]


def test_callbacks_are_called_by_one_thread_of_the_pool_in_order_of_arrival(tmp_path: Any) -> None:
    called = Calls()
    with procpool.Pool(1) as pool:
        results = [pool.apply_async(tasks.same, (number,), callback=called) for number in range(200)]
        for result in results:
            result.wait(LONG)
    pool.join()
    assert called == list(range(200))
    assert len(set(called.threads)) == 1
    assert called.threads[0] is not threading.current_thread()
    assert "_handle_results" in called.threads[0].name


def test_a_result_is_ready_once_its_callback_has_ended(pool: procpool.Pool) -> None:
    made, inside, goes_on = threading.Event(), threading.Event(), threading.Event()
    seen: list[bool] = []

    def callback(value: Any) -> None:
        assert made.wait(LONG)
        seen.append(result.ready())
        inside.set()
        assert goes_on.wait(LONG)

    result = pool.apply_async(tasks.same, (1,), callback=callback)
    made.set()
    assert inside.wait(LONG)
    assert not result.ready()
    goes_on.set()
    assert result.get(LONG) == 1
    assert seen == [False]


def test_get_in_a_results_own_callback_does_not_block(pool: procpool.Pool) -> None:
    seen: list[Any] = []
    made = threading.Event()

    def callback(value: Any) -> None:
        assert made.wait(LONG)
        seen.append(result.get(LONG))

    result = pool.apply_async(tasks.same, (7,), callback=callback)
    made.set()
    assert result.get(LONG) == 7
    assert seen == [7]


def test_a_callback_may_submit_more(pool: procpool.Pool) -> None:
    ended = threading.Event()

    def callback(value: int) -> None:
        if value == 20:
            ended.set()
        else:
            pool.apply_async(tasks.same, (value + 1,), callback=callback)

    pool.apply_async(tasks.same, (0,), callback=callback)
    assert ended.wait(LONG)


@pytest.mark.parametrize("many", [False, True], ids=["apply_async", "map_async"])
def test_what_a_callback_raises_becomes_the_result(pool: procpool.Pool, many: bool) -> None:
    def callback(value: Any) -> None:
        raise KeyError("of the callback")

    result: Any
    if many:
        result = pool.map_async(tasks.same, range(4), callback=callback)
    else:
        result = pool.apply_async(tasks.same, (1,), callback=callback)
    with pytest.raises(KeyError, match="of the callback"):
        result.get(LONG)
    assert not result.successful()
    assert pool.apply_async(tasks.same, (2,), callback=Calls()).get(LONG) == 2
    assert pool.map(tasks.same, range(20)) == list(range(20))


def test_what_an_error_callback_raises_has_the_tasks_error_behind_it(pool: procpool.Pool) -> None:
    def callback(error: BaseException) -> None:
        raise KeyError("of the callback")

    with pytest.raises(KeyError) as caught:
        pool.apply_async(tasks.fail, error_callback=callback).get(LONG)
    chain: list[BaseException] = []
    error: Any = caught.value
    while error is not None:
        chain.append(error)
        error = error.__context__
    assert isinstance(chain[-1], ValueError) and chain[-1].args == ("as expected",)
    assert pool.apply(tasks.same, (1,)) == 1


def test_an_error_callback_may_raise_the_error_itself(pool: procpool.Pool) -> None:
    with pytest.raises(ValueError, match="as expected") as caught:
        pool.apply_async(tasks.fail, error_callback=raise_again).get(LONG)
    assert caught.value.__context__ is not caught.value


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, tasks.Bare])
def test_a_callback_that_raises_a_base_exception_harms_nobody_else(pool: procpool.Pool, kind: Any) -> None:
    with pytest.raises(kind):
        pool.apply_async(tasks.same, (1,), callback=lambda value: raise_again(kind())).get(LONG)
    assert pool.apply_async(tasks.same, (2,), callback=Calls()).get(LONG) == 2


def test_close_and_join_wait_for_callbacks(pool: procpool.Pool) -> None:
    called = Calls()
    for number in range(50):
        pool.apply_async(tasks.same, (number,), callback=called)
    pool.close()
    pool.join()
    assert sorted(called) == list(range(50))


def test_error_callbacks_are_called_for_what_could_not_be_sent(pool: procpool.Pool) -> None:
    failed = Calls()
    with pytest.raises(TypeError):
        pool.apply_async(tasks.same, (threading.Lock(),), error_callback=failed).get(LONG)
    assert [type(error) for error in failed] == [TypeError]


def test_error_callbacks_are_called_for_dead_workers_and_for_terminate(tmp_path: Any) -> None:
    failed = Calls()
    with procpool.Pool(1) as pool:
        pool.apply_async(tasks.killed, (tasks.BAD,), error_callback=failed).wait(LONG)
        assert [type(error) for error in failed] == [procpool.WorkerDied]
        waiting = pool.apply_async(tasks.for_ever, error_callback=failed)
        queued = pool.map_async(tasks.for_ever, [1, 2], error_callback=failed)
    pool.join()
    for result in (waiting, queued):
        with pytest.raises(procpool.Terminated):
            result.get(LONG)
    assert [type(error) for error in failed] == [procpool.WorkerDied, procpool.Terminated, procpool.Terminated]


@pytest.mark.parametrize("call", ["close", "terminate"])
def test_a_pool_may_be_ended_by_a_callback(call: str) -> None:
    pool = procpool.Pool(1)
    ended = threading.Event()

    def callback(value: Any) -> None:
        getattr(pool, call)()
        ended.set()

    pool.apply_async(tasks.same, (1,), callback=callback)
    assert ended.wait(LONG)
    pool.join()


def test_a_pool_may_be_terminated_by_an_error_callback(pool: procpool.Pool, tmp_path: Any) -> None:
    gate = tmp_path / "gate"
    calls = [(tasks.wait_for_file, str(gate))] * 3 + [(tasks.fail,)] + [(tasks.for_ever,)] * 50
    results = [pool.apply_async(tasks.call, call, error_callback=lambda error: pool.terminate()) for call in calls]
    gate.touch()
    for result in results:
        result.wait(LONG)
    pool.join()
    with pytest.raises(ValueError, match="as expected"):
        results[3].get(0)
    with pytest.raises(procpool.Terminated):
        results[-1].get(0)


# ---- futures ----


def test_the_callbacks_of_a_future(executor: procpool.ProcessPoolExecutor) -> None:
    called = Calls()
    future = executor.submit(tasks.square, 4)
    future.add_done_callback(called)
    assert future.result(LONG) == 16
    wait_until(lambda: called, "the callback is called")
    assert called == [future]
    future.add_done_callback(called)
    assert called == [future, future] and called.threads[1] is threading.current_thread()


def test_what_a_futures_callback_raises_is_logged(
    executor: procpool.ProcessPoolExecutor, caplog: pytest.LogCaptureFixture, tmp_path: Any
) -> None:
    gate = tmp_path / "gate"
    called = Calls()
    with caplog.at_level(logging.ERROR, "concurrent.futures"):
        future = executor.submit(partial(tasks.wait_for_file, str(gate), 1))
        future.add_done_callback(raise_future)
        future.add_done_callback(called)
        gate.touch()
        assert future.result(LONG) == 1
        wait_until(lambda: called, "the second callback is called")
    assert "exception calling callback for" in caplog.text and "of the callback" in caplog.text


def raise_future(future: Any) -> None:
    raise KeyError("of the callback")
