"""What the results of `_async` calls promise."""

from __future__ import annotations

import multiprocessing
import threading
from functools import partial
from typing import Any

import procpool
import pytest
import tasks
from waiting import LONG


@pytest.fixture
def gate(tmp_path: Any) -> Any:
    """A file that tasks wait for."""
    return tmp_path / "gate"


def waiting_result(pool: procpool.Pool, gate: Any, kind: str) -> Any:
    if kind == "apply":
        return pool.apply_async(tasks.wait_for_file, (str(gate), 1))
    return pool.map_async(partial(tasks.wait_for_file, value=1), [str(gate)] * 3, chunksize=2)


KINDS = pytest.mark.parametrize(("kind", "value"), [("apply", 1), ("map", [1, 1, 1])])


@KINDS
def test_get_times_out_and_gives_the_value_later(pool: procpool.Pool, gate: Any, kind: str, value: Any) -> None:
    result = waiting_result(pool, gate, kind)
    for timeout in (0, 0.02, -1):
        with pytest.raises(multiprocessing.TimeoutError) as caught:
            result.get(timeout=timeout)
        assert type(caught.value) is multiprocessing.TimeoutError and caught.value.args == ()
    gate.touch()
    assert result.get(timeout=LONG) == value
    assert result.get() == value and result.get(0) == value


@KINDS
def test_wait_gives_none_in_any_case(pool: procpool.Pool, gate: Any, kind: str, value: Any) -> None:
    result = waiting_result(pool, gate, kind)
    assert result.wait(0.01) is None
    assert not result.ready()
    gate.touch()
    assert result.wait() is None
    assert result.ready() and result.wait(0) is None


@KINDS
def test_successful_before_the_end_is_an_error(pool: procpool.Pool, gate: Any, kind: str, value: Any) -> None:
    result = waiting_result(pool, gate, kind)
    with pytest.raises(ValueError) as caught:
        result.successful()
    assert str(caught.value) == f"{result!r} not ready"
    gate.touch()
    result.wait(LONG)
    assert result.successful() is True


def test_an_error_is_the_same_object_each_time(pool: procpool.Pool) -> None:
    told: list[BaseException] = []
    result = pool.apply_async(tasks.fail, error_callback=told.append)
    errors = []
    for _ in range(3):
        with pytest.raises(ValueError, match="^as expected$") as caught:
            result.get(LONG)
        errors.append(caught.value)
    assert errors[0] is errors[1] is errors[2] is told[0]
    assert result.ready() and result.successful() is False


def test_the_value_is_the_same_object_each_time(pool: procpool.Pool) -> None:
    result = pool.apply_async(tasks.same, ([1, 2],))
    assert result.get(LONG) is result.get()


@KINDS
def test_many_threads_may_wait_for_one_result(pool: procpool.Pool, gate: Any, kind: str, value: Any) -> None:
    result = waiting_result(pool, gate, kind)
    seen: list[Any] = []
    waiters = [threading.Thread(target=lambda: seen.append(result.get(LONG))) for _ in range(8)]
    for waiter in waiters:
        waiter.start()
    gate.touch()
    for waiter in waiters:
        waiter.join(LONG)
    assert seen == [value] * 8


def test_results_are_there_after_close_and_join(pool: procpool.Pool) -> None:
    results = [pool.apply_async(tasks.square, (number,)) for number in range(100)]
    mapped = pool.map_async(tasks.square, range(100))
    pool.close()
    pool.join()
    assert all(result.ready() for result in results) and mapped.ready()
    assert [result.get(0) for result in results] == mapped.get(0) == [number * number for number in range(100)]


def test_results_are_there_after_terminate_if_the_tasks_had_ended(pool: procpool.Pool) -> None:
    result = pool.apply_async(tasks.square, (3,))
    result.wait(LONG)
    pool.terminate()
    pool.join()
    assert result.get(0) == 9


def test_a_result_keeps_its_pool() -> None:
    assert procpool.Pool(1).apply_async(tasks.same_slowly, (5, 0.1)).get(LONG) == 5
    assert procpool.Pool(1).map_async(tasks.same_slowly, range(5)).get(LONG) == list(range(5))


def test_number_left_counts_chunks_down(pool: procpool.Pool, gate: Any) -> None:
    result: Any = pool.map_async(tasks.wait_for_file, [str(gate)] * 10, chunksize=2)
    assert result._number_left == 5
    gate.touch()
    result.wait(LONG)
    assert result._number_left == 0


def test_the_first_error_of_a_map_is_a_task_of_its_own(pool: procpool.Pool) -> None:
    result = pool.map_async(partial(tasks.fail_at, 3), range(8), chunksize=1)
    with pytest.raises(ValueError) as caught:
        result.get(LONG)
    assert caught.value.args == (3,)
    assert result.successful() is False


def test_very_long_timeouts(pool: procpool.Pool) -> None:
    assert pool.apply_async(tasks.same, (1,)).get(1e12) == 1
    assert pool.map_async(tasks.same, [1]).get(threading.TIMEOUT_MAX) == [1]
    assert pool.imap(tasks.same, [1]).next(float("inf")) == 1
