"""The private names of the standard library's pools that programs use: they are here, and tell the truth."""

from __future__ import annotations

import os
from multiprocessing.pool import starmapstar
from typing import Any

import procpool
import procpool.pool
import pytest
import tasks
from waiting import LONG, wait_until


@pytest.fixture
def gate(tmp_path: Any) -> Any:
    """A file that tasks wait for."""
    return tmp_path / "gate"


def test_the_processes_of_a_pool(pool: procpool.Pool) -> None:
    pids = set(pool.map(tasks.pid, range(20), 1))
    assert isinstance(pool._pool, list) and len(pool._pool) == 2 and pool._processes == 2
    assert pids <= {process.pid for process in pool._pool}
    for process in pool._pool:
        assert process.is_alive() and process.exitcode is None and process.daemon
        assert process.name.endswith(str(process._identity[-1])) and "PoolWorker-" in process.name


def test_all_of_the_pool_have_begun(pool: procpool.Pool) -> None:
    for size in (6, 2, 5):
        pool.resize(size)
        for process in list(pool._pool):
            assert process.pid is not None
        wait_until(lambda: len(pool._pool) == size, "there are as many as were asked for")


@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_processes_may_be_ended_through_the_list(pool: procpool.Pool, tmp_path: Any, how: str) -> None:
    result = pool.apply_async(tasks.appear_and_wait, (str(tmp_path / "task"),))
    wait_until((tmp_path / "task.running").exists, "the task runs")
    pid = int((tmp_path / "task.running").read_text())
    process = next(process for process in pool._pool if process.pid == pid)
    getattr(process, how)()
    with pytest.raises(procpool.WorkerDied) as caught:
        result.get(LONG)
    assert caught.value.pid == pid and caught.value.signal == (15 if how == "terminate" else 9)
    wait_until(lambda: len(pool._pool) == 2 and process not in pool._pool, "it is replaced in the list")


def test_repopulate_pool_replaces_the_dead_at_once(pool: procpool.Pool) -> None:
    old = list(pool._pool)
    for process in old:
        process.terminate()
        process.join(LONG)
    pool._repopulate_pool()
    wait_until(lambda: len(pool._pool) == 2 and not set(pool._pool) & set(old), "both are replaced")
    assert pool.map(tasks.same, range(4)) == [0, 1, 2, 3]


def test_the_cache_has_what_is_unfinished(pool: procpool.Pool, gate: Any) -> None:
    assert len(pool._cache) == 0 and not pool._cache
    results = [pool.apply_async(tasks.wait_for_file, (str(gate), number)) for number in range(5)]
    mapped: Any = pool.map_async(tasks.wait_for_file, [str(gate)] * 4, 1)
    iterator = pool.imap(tasks.wait_for_file, [str(gate)] * 4)
    assert len(pool._cache) == 7
    assert set(pool._cache) == {each._job for each in [*results, mapped, iterator]}
    assert pool._cache[mapped._job] is mapped and mapped._cache is pool._cache
    gate.touch()
    wait_until(lambda: len(pool._cache) == 0, "all have ended")
    assert [result.get(0) for result in results] == list(range(5))


def test_the_usual_home_made_throttle(pool: procpool.Pool) -> None:
    results = []
    for number in range(500):
        wait_until(lambda: len(pool._cache) < 8, "there is room")
        results.append(pool.apply_async(tasks.same, (number,)))
    assert [result.get(LONG) for result in results] == list(range(500))


def test_the_queue_of_tasks_has_a_size(pool: procpool.Pool, gate: Any) -> None:
    assert pool._taskqueue.qsize() == 0 and pool._taskqueue.empty()
    results = [pool.apply_async(tasks.wait_for_file, (str(gate),)) for _ in range(10)]
    wait_until(lambda: pool._taskqueue.qsize() == 8, "two run and eight wait")
    assert not pool._inqueue.empty()
    gate.touch()
    for result in results:
        result.get(LONG)
    assert pool._taskqueue.qsize() == 0


def test_the_parts_of_a_result(pool: procpool.Pool, gate: Any) -> None:
    result: Any = pool.apply_async(tasks.wait_for_file, (str(gate), 7))
    assert isinstance(result._job, int) and not result._event.is_set() and not result._event.wait(0.01)
    gate.touch()
    assert result._event.wait(LONG) and result._event.is_set()
    result.wait()
    assert result._success is True and result._value == 7
    failed: Any = pool.apply_async(tasks.fail)
    failed.wait(LONG)
    assert failed._success is False and isinstance(failed._value, ValueError)


def test_the_value_of_a_result_that_has_ended_can_be_read_without_get(pool: procpool.Pool) -> None:
    result: Any = pool.apply_async(tasks.same, (7,))
    wait_until(result.ready, "it has ended")
    assert result._success is True and result._value == 7


def test_the_progress_of_a_map(pool: procpool.Pool, tmp_path: Any) -> None:
    gates = [tmp_path / f"gate{number}" for number in range(4)]
    result: Any = pool.map_async(tasks.wait_for_file, list(map(str, gates)), 1)
    for left, each in zip((4, 3, 2, 1), gates):
        wait_until(lambda: result._number_left == left, f"{left} chunks are left")
        each.touch()
    wait_until(lambda: result._number_left == 0, "none is left")
    assert result.get(LONG) == [None] * 4


def test_the_parts_of_an_iterator(pool: procpool.Pool) -> None:
    iterator: Any = pool.imap(tasks.same, range(10))
    wait_until(lambda: iterator._length == 10, "its length is known")
    assert iterator._index == 0
    next(iterator)
    assert iterator._index == 1


def test_context_and_initializer(pool: procpool.Pool) -> None:
    import multiprocessing

    assert pool._ctx is not None and pool._ctx.Process is not None
    with procpool.Pool(1, tasks.set_inherited, (1, 2), context=multiprocessing.get_context("fork")) as other:
        assert other._initializer is tasks.set_inherited and other._initargs == (1, 2)
        assert other._ctx.get_start_method() == "fork" and other._maxtasksperchild is None
    other.join()


def test_the_recipe_of_istarmap(pool: procpool.Pool) -> None:
    """Copied by many: a lazy `starmap`, made of private parts."""

    def istarmap(self: Any, func: Any, iterable: Any, chunksize: int = 1) -> Any:
        self._check_running()
        task_batches = procpool.pool.Pool._get_tasks(func, iterable, chunksize)
        result = procpool.pool.IMapIterator(self)
        self._taskqueue.put((self._guarded_task_generation(result._job, starmapstar, task_batches), result._set_length))
        return (item for chunk in result for item in chunk)

    pairs = list(zip(range(50), range(50)))
    assert list(istarmap(pool, tasks.add, pairs)) == [2 * number for number in range(50)]
    assert list(istarmap(pool, tasks.add, iter(pairs), 7)) == [2 * number for number in range(50)]
    assert list(istarmap(pool, tasks.add, [])) == []


def test_names_of_threads_and_handlers_do_not_matter(pool: procpool.Pool) -> None:
    assert pool._state == procpool.pool.RUN == "RUN"
    assert os.getpid() not in {process.pid for process in pool._pool}
