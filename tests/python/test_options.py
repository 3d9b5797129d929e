"""What procpool has beyond the standard library: limits, retries, cancellation, statistics, resizing."""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import signal
import threading
import time
from concurrent.futures import CancelledError
from functools import partial
from typing import Any, Optional

import procpool
import pytest
import tasks
from waiting import LONG, wait_until


@pytest.fixture
def gate(tmp_path: Any) -> Any:
    """A file that tasks wait for."""
    return tmp_path / "gate"


def running_task(pool: procpool.Pool, folder: Any, name: str = "task") -> Any:
    """The result of a task that runs for ever, and now."""
    result = pool.apply_async(tasks.appear_and_wait, (str(folder / name),))
    wait_until((folder / f"{name}.running").exists, "the task runs")
    return result


# ---- timeouts ----

ENDLESS = [
    lambda view: view.apply(tasks.for_ever),
    lambda view: view.apply_async(tasks.for_ever).get(LONG),
    lambda view: view.map(tasks.for_ever, [1]),
    lambda view: view.map(tasks.for_ever, [1, 2], 2),
    lambda view: view.starmap(tasks.for_ever, [(1, 2)]),
    lambda view: view.imap(tasks.for_ever, [1]).next(LONG),
    lambda view: view.imap_unordered(tasks.for_ever, [1]).next(LONG),
]


@pytest.mark.parametrize("call", ENDLESS)
def test_a_task_that_takes_too_long_is_ended_alone(pool: procpool.Pool, call: Any, gate: Any) -> None:
    other = pool.apply_async(tasks.wait_for_file, (str(gate), "other"))
    with pytest.raises(procpool.TaskTimeout) as caught:
        call(pool.options(timeout=0.2))
    assert isinstance(caught.value, TimeoutError) and caught.value.ran >= 0.2
    assert "for_ever" in str(caught.value)
    gate.touch()
    assert other.get(LONG) == "other"


def test_the_time_that_a_task_waits_does_not_count(gate: Any) -> None:
    with procpool.Pool(1) as pool:
        first = pool.apply_async(tasks.same_slowly, (1, 1.0))
        second = pool.options(timeout=0.9).apply_async(tasks.same, (2,))
        assert (first.get(LONG), second.get(LONG)) == (1, 2)
    pool.join()


def test_tasks_in_time_are_not_touched(pool: procpool.Pool) -> None:
    view = pool.options(timeout=LONG)
    pids = {process.pid for process in pool._pool}
    assert view.map(tasks.square, range(100), 1) == [number * number for number in range(100)]
    assert {process.pid for process in pool._pool} == pids


def test_futures_have_timeouts_too(executor: procpool.ProcessPoolExecutor) -> None:
    view = executor.options(timeout=0.2)
    assert isinstance(view.submit(tasks.for_ever).exception(LONG), procpool.TaskTimeout)
    with pytest.raises(procpool.TaskTimeout):
        next(view.map(tasks.for_ever, [1]))
    assert view.submit(tasks.square, 3).result(LONG) == 9


# ---- deadlines ----


@pytest.mark.parametrize("call", ENDLESS)
def test_a_task_that_runs_at_its_deadline_is_ended_alone(pool: procpool.Pool, call: Any, gate: Any) -> None:
    other = pool.apply_async(tasks.wait_for_file, (str(gate), "other"))
    with pytest.raises(procpool.TaskTimeout) as caught:
        call(pool.options(deadline=0.5))
    error = caught.value
    assert error.ran is not None and (error.timeout, error.deadline) == (None, 0.5)
    assert "for_ever was ended at its deadline, 0.5 s after its submission: it had run for" in str(error)
    gate.touch()
    assert other.get(LONG) == "other"


def test_a_task_whose_deadline_passes_in_the_queue_never_runs(tmp_path: Any, gate: Any) -> None:
    with procpool.Pool(1) as pool:
        first = pool.apply_async(tasks.wait_for_file, (str(gate), 1))
        late = pool.options(deadline=0.05, retries=3).apply_async(tasks.note, (str(tmp_path / "log"), 2))
        patient = pool.options(deadline=LONG).apply_async(tasks.same, (3,))
        with pytest.raises(procpool.TaskTimeout) as caught:
            late.get(LONG)
        assert caught.value.ran is None and str(caught.value).endswith("it had not begun")
        gate.touch()
        assert (first.get(LONG), patient.get(LONG)) == (1, 3)
        assert pool.stats().restarts == 0
        pool.close()
        pool.join()
    assert not (tmp_path / "log").exists()


def test_of_timeout_and_deadline_the_first_ends_a_task(pool: procpool.Pool) -> None:
    for timeout, deadline, reached in [(0.1, LONG, (0.1, None)), (LONG, 0.1, (None, 0.1))]:
        with pytest.raises(procpool.TaskTimeout) as caught:
            pool.options(timeout=timeout, deadline=deadline).apply(tasks.for_ever)
        assert (caught.value.timeout, caught.value.deadline) == reached


def test_futures_have_deadlines_too(executor: procpool.ProcessPoolExecutor) -> None:
    view = executor.options(deadline=0.3)
    assert isinstance(view.submit(tasks.for_ever).exception(LONG), procpool.TaskTimeout)
    with pytest.raises(procpool.TaskTimeout):
        next(view.map(tasks.for_ever, [1]))
    assert executor.options(deadline=LONG).submit(tasks.square, 3).result(LONG) == 9


def test_a_task_timeout_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(procpool.TaskTimeout(None, "task", None, 2.0)))
    assert (error.ran, error.task, error.timeout, error.deadline) == (None, "task", None, 2.0)


# ---- retries ----


def test_a_task_that_kills_every_worker_is_reported_with_all_its_deaths(pool: procpool.Pool, tmp_path: Any) -> None:
    path = str(tmp_path / "tries")
    with pytest.raises(procpool.WorkerDied) as caught:
        pool.options(retries=2).apply_async(tasks.die_in_turn, (path,)).get(LONG)
    error = caught.value
    assert [(death.signal, death.exitcode) for death in error.deaths] == [(None, 7), (9, None), (11, None)]
    assert len({death.pid for death in error.deaths}) == 3
    assert error.deaths[-1] == (error.pid, error.signal, error.exitcode, error.last_words)
    assert "die_in_turn" in str(error.last_words)
    assert all(f"worker {death.pid} " in str(error) for death in error.deaths)
    assert pickle.loads(pickle.dumps(error)).deaths == error.deaths


def test_a_death_without_retries_is_the_only_one(pool: procpool.Pool) -> None:
    with pytest.raises(procpool.WorkerDied) as caught:
        pool.apply(tasks.killed, (tasks.BAD,))
    assert [death.pid for death in caught.value.deaths] == [caught.value.pid]
    assert "retries=" in str(caught.value)


def test_between_two_attempts_a_task_holds_no_worker(tmp_path: Any) -> None:
    path = tmp_path / "tries"
    with procpool.Pool(1) as pool:
        poison = pool.options(retries=10**6).apply_async(tasks.die_before, (str(path), 10**6, None))
        wait_until(lambda: path.exists() and len(path.read_text().split()) >= 7, "it waits for longer than tasks take")
        view = pool.options(retries=9)
        assert [view.apply(tasks.square, (number,)) for number in range(20)] == [n * n for n in range(20)]
        wait_until(poison.cancel, "it can be taken back while it waits")
        with pytest.raises(CancelledError):
            poison.get(LONG)
    pool.join()


def test_a_lost_task_is_tried_again(pool: procpool.Pool, tmp_path: Any) -> None:
    path = str(tmp_path / "tries")
    view = pool.options(retries=3)
    assert view.apply_async(tasks.die_before, (path, 3, "done")).get(LONG) == "done"
    assert len(open(path).read().split()) == 3
    assert pool.stats().retries == 2


def test_retries_have_an_end(pool: procpool.Pool, tmp_path: Any) -> None:
    path = str(tmp_path / "tries")
    with pytest.raises(procpool.WorkerDied):
        pool.options(retries=2).apply_async(tasks.die_before, (path, 100, "done")).get(LONG)
    assert len(open(path).read().split()) == 3


def test_what_a_task_raises_is_not_tried_again(pool: procpool.Pool, tmp_path: Any) -> None:
    path = str(tmp_path / "tries")
    with pytest.raises(ValueError):
        pool.options(retries=5).apply_async(tasks.note_and_fail, (path,)).get(LONG)
    assert len(open(path).read().split()) == 1


def test_a_map_is_tried_again_too(pool: procpool.Pool, tmp_path: Any) -> None:
    view = pool.options(retries=2)
    function = partial(tasks.die_once_for, str(tmp_path))
    assert view.map_async(function, range(4), 1).get(LONG) == list(range(4))
    assert sorted(view.imap_unordered(function, range(4, 8))) == list(range(4, 8))


def test_futures_are_tried_again_too(executor: procpool.ProcessPoolExecutor, tmp_path: Any) -> None:
    path = str(tmp_path / "tries")
    assert executor.options(retries=1).submit(tasks.die_before, path, 2, "done").result(LONG) == "done"


@pytest.mark.parametrize(
    "wrong", [{"timeout": 0}, {"timeout": -1}, {"deadline": 0}, {"retries": -1}, {"buffersize": 0}]
)
def test_wrong_options(pool: procpool.Pool, executor: procpool.ProcessPoolExecutor, wrong: Any) -> None:
    for owner in (pool, executor):
        with pytest.raises(ValueError):
            owner.options(**wrong)


def test_options_by_position_are_refused(pool: procpool.Pool) -> None:
    with pytest.raises(TypeError):
        pool.options(3)  # type: ignore[misc]


@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_a_buffersize_for_all_iterators_of_a_view(pool: procpool.Pool, name: str) -> None:
    count = itertools.count()
    results = getattr(pool.options(buffersize=5), name)(tasks.same, count)
    for _ in range(10):
        next(results)
    assert next(count) <= 16
    pool.terminate()


# ---- cancellation ----


def test_what_has_not_begun_can_be_cancelled(tmp_path: Any, gate: Any) -> None:
    with procpool.Pool(1) as pool:
        first = pool.apply_async(tasks.wait_for_file, (str(gate), 1))
        queued = pool.apply_async(tasks.note, (str(tmp_path / "log"), 2))
        assert queued.cancel() is True
        with pytest.raises(CancelledError):
            queued.get(LONG)
        assert queued.ready() and not queued.successful()
        gate.touch()
        assert first.get(LONG) == 1
        assert first.cancel() is False and first.get() == 1
        pool.close()
        pool.join()
    assert not (tmp_path / "log").exists()


def test_what_runs_is_cancelled_only_if_asked_for(pool: procpool.Pool, tmp_path: Any) -> None:
    pids = {process.pid for process in pool._pool}
    result = running_task(pool, tmp_path)
    assert result.cancel() is False
    assert result.cancel(running=True) is True
    with pytest.raises(CancelledError):
        result.get(LONG)
    assert pool.map(tasks.square, range(4), 1) == [0, 1, 4, 9]
    # The other worker is the one it was.
    wait_until(
        lambda: len(pool._pool) == 2 and len(pids & {process.pid for process in pool._pool}) == 1, "it is replaced"
    )


def test_a_map_is_cancelled_as_a_whole(gate: Any) -> None:
    with procpool.Pool(1) as pool:
        pool.apply_async(tasks.wait_for_file, (str(gate),))
        result = pool.map_async(tasks.for_ever, range(10), 1)
        assert result.cancel() is True
        with pytest.raises(CancelledError):
            result.get(LONG)
        gate.touch()
        assert pool.apply(tasks.same, (1,)) == 1
    pool.join()


def test_cancellation_calls_the_error_callback(gate: Any) -> None:
    called: list[BaseException] = []
    with procpool.Pool(1) as pool:
        pool.apply_async(tasks.wait_for_file, (str(gate),))
        result = pool.apply_async(tasks.same, (1,), error_callback=called.append)
        assert result.cancel()
        wait_until(lambda: called, "the callback is called")
        assert type(called[0]) is CancelledError
        gate.touch()
    pool.join()


# ---- the end ----


def test_join_with_a_timeout(gate: Any) -> None:
    pool = procpool.Pool(1)
    result = pool.apply_async(tasks.wait_for_file, (str(gate), 1))
    pool.close()
    with pytest.raises(TimeoutError, match="the pool's workers have not gone in 0.1 s"):
        pool.join(timeout=0.1)
    gate.touch()
    pool.join(timeout=LONG)
    assert result.get(0) == 1


def test_workers_have_the_grace_to_end_themselves(tmp_path: Any) -> None:
    pool = procpool.Pool(1)
    path = str(tmp_path / "task")
    pool.apply_async(tasks.clean_up_when_terminated, (path,))
    wait_until((tmp_path / "task.running").exists, "the task runs")
    pool.terminate(grace=LONG)
    pool.join()
    assert open(path + ".cleaned").read() == "cleaned"


def test_without_grace_workers_are_killed_at_once(tmp_path: Any) -> None:
    pool = procpool.Pool(1)
    path = str(tmp_path / "task")
    pool.apply_async(tasks.ignore_terminate, (path,))
    wait_until((tmp_path / "task.running").exists, "the task runs")
    pool.terminate(grace=0)
    pool.join(timeout=LONG)
    assert not pool._pool


# ---- memory ----


def test_a_worker_that_has_grown_is_replaced_after_its_task() -> None:
    with procpool.Pool(1, max_memory_per_worker=300 << 20) as pool:
        first = pool.apply(tasks.pid)
        assert pool.apply(tasks.pid) == first
        assert pool.apply(tasks.grow, (400 << 20,)) == first
        wait_until(lambda: pool.apply(tasks.pid) != first, "the worker is replaced")
    pool.join()


def test_a_task_that_uses_too_much_memory_is_ended() -> None:
    with procpool.Pool(1, memory_limit_per_worker=300 << 20) as pool:
        with pytest.raises(procpool.MemoryLimitExceeded) as caught:
            pool.apply_async(tasks.grow_and_wait, (600 << 20,)).get(LONG)
        assert isinstance(caught.value, MemoryError)
        error = caught.value
        assert error.peak >= error.seen > error.limit == 300 << 20
        assert all(str(part) in str(error) for part in ("grow_and_wait", error.seen, error.limit, error.peak))
        assert pickle.loads(pickle.dumps(error)).peak == error.peak
        assert pool.apply(tasks.same, (1,)) == 1
    pool.join()


# ---- giving up ----


def test_a_pool_whose_idle_workers_die_over_and_over_says_so() -> None:
    with procpool.Pool(1) as pool:

        def is_broken() -> bool:
            for process in list(pool._pool):
                if process.pid is not None and process.exitcode is None:
                    # It may have been reaped just now.
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process.pid, signal.SIGKILL)
            return pool._engine.breakdown() is not None

        wait_until(is_broken, "the pool gives up")
        with pytest.raises(procpool.PoolBroken) as caught:
            pool.apply(tasks.same, (1,))
    said = "the pool gave up: 17 workers died within 10s without finishing a task between them; the last one: worker "
    assert str(caught.value).startswith(said) and "SIGKILL" in str(caught.value), str(caught.value)
    pool.join()


# ---- statistics and size ----


def test_stats(pool: procpool.Pool, tmp_path: Any, gate: Any) -> None:
    pool.map(tasks.same, range(5), 1)
    for function in (tasks.fail, tasks.killed):
        pool.apply_async(function, (tasks.BAD,)).wait(LONG)
    # A worker counts what it has finished when it has told of it.
    wait_until(lambda: _ends(pool) == (7, 5, 2), "every call is counted")
    wait_until(lambda: pool.stats().restarts == 1, "the dead worker is replaced")
    waiting = [pool.apply_async(tasks.wait_for_file, (str(gate),)) for _ in range(5)]
    # A new worker may run its first task before its start is heard of, and has a task a moment before it begins it.
    wait_until(lambda: len(_ages(pool)) == 2 and None not in _ages(pool), "two run")
    stats = pool.stats()
    assert (stats.queued, stats.running) == (3, 2)
    assert {worker.pid for worker in stats.workers} == {process.pid for process in pool._pool}
    assert all(worker.current_age is not None and worker.current_age >= 0 for worker in stats.workers), stats
    assert all(worker.memory is None or worker.memory > 1 << 20 for worker in stats.workers)
    assert sum(worker.tasks for worker in stats.workers) <= 7
    gate.touch()
    for result in waiting:
        result.get(LONG)
    wait_until(lambda: _ends(pool) == (12, 10, 2), "every call is counted")
    after = pool.stats()
    assert (after.queued, after.running) == (0, 0)


def _ends(pool: procpool.Pool) -> tuple[int, int, int]:
    stats = pool.stats()
    return stats.accepted, stats.done, stats.failed


def test_a_size_that_cannot_be_is_refused_and_changes_nothing(pool: procpool.Pool) -> None:
    with pytest.raises(ValueError, match="a pool has from 1 to"):
        pool.resize(1_000_000)
    assert pool._processes == 2 and pool.map(tasks.same, range(4), 1) == [0, 1, 2, 3]


def _ages(pool: procpool.Pool) -> list[Optional[float]]:
    """Of the present tasks of those workers that are known."""
    return [worker.current_age for worker in pool.stats().workers]


def test_resize_to_more(pool: procpool.Pool, gate: Any) -> None:
    pool.resize(4)
    assert pool._processes == 4
    wait_until(lambda: len(pool._pool) == 4, "two more have begun")
    results = [pool.apply_async(tasks.wait_for_file, (str(gate),)) for _ in range(4)]
    wait_until(lambda: pool.stats().running == 4, "four run at once")
    gate.touch()
    for result in results:
        result.get(LONG)


def test_resize_to_fewer_ends_no_task(gate: Any) -> None:
    with procpool.Pool(3) as pool:
        results = [pool.apply_async(tasks.wait_for_file, (str(gate), number)) for number in range(3)]
        wait_until(lambda: pool.stats().running == 3, "three run at once")
        pool.resize(1)
        gate.touch()
        assert [result.get(LONG) for result in results] == [0, 1, 2]
        wait_until(lambda: len(pool.stats().workers) == 1, "two have left")
        wait_until(lambda: len(pool._pool) == 1, "two have been reaped")
        assert pool.map(tasks.same, range(20), 1) == list(range(20))
    pool.join()


def test_resize_to_nobody(pool: procpool.Pool) -> None:
    with pytest.raises(ValueError, match="^Number of processes must be at least 1$"):
        pool.resize(0)
    pool.close()
    with pytest.raises(ValueError, match="^Pool not running$"):
        pool.resize(3)


def test_idle_pools_use_no_time() -> None:
    with procpool.Pool(2) as pool:
        pool.map(tasks.same, range(10), 1)
        pids = [process.pid for process in pool._pool]
        threading.Event().wait(0.3)
        before = [time_used(pid) for pid in [os.getpid(), *pids]]
        threading.Event().wait(1.0)
        used = sum(time_used(pid) for pid in [os.getpid(), *pids]) - sum(before)
        assert used < 0.5, f"{used} s of processor time while nothing was to do"
    pool.join()


def time_used(pid: int) -> float:
    """Seconds of processor time of a process."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_the_age_of_a_running_task(tmp_path: Any) -> None:
    with procpool.Pool(1) as pool:
        running_task(pool, tmp_path)
        wait_until(lambda: _ages(pool) not in ([], [None]), "the task has begun")
        begun = time.monotonic()
        (first,) = _ages(pool)
        assert first is not None

        def is_older() -> bool:
            (age,) = _ages(pool)
            return age is not None and age > first + 0.05

        wait_until(is_older, "the task grows older")
        assert time.monotonic() - begun >= 0.05
    pool.join()
