"""What may be given to a new pool, and what it says to what may not."""

from __future__ import annotations

import multiprocessing
import os
from typing import Any

import procpool
import pytest
import tasks
from waiting import LONG


@pytest.mark.parametrize("processes", [0, -1, -100])
def test_a_pool_of_nobody(processes: int) -> None:
    with pytest.raises(ValueError, match="^Number of processes must be at least 1$"):
        procpool.Pool(processes)


def test_a_pool_of_one_and_a_half() -> None:
    with pytest.raises(TypeError, match="^'float' object cannot be interpreted as an integer$"):
        procpool.Pool(1.5)  # type: ignore[arg-type]


def test_true_is_one() -> None:
    with procpool.Pool(True, maxtasksperchild=True) as pool:
        assert len(pool._pool) == 1
        assert pool.apply(tasks.same, (1,)) == 1
    pool.join()


@pytest.mark.parametrize("count", [0, -1, 0.5, "12", 1.0])
def test_workers_of_no_task(count: Any) -> None:
    with pytest.raises(ValueError, match="^maxtasksperchild must be a positive int or None$"):
        procpool.Pool(1, maxtasksperchild=count)


@pytest.mark.parametrize("initializer", [1, "function", ()])
def test_an_initializer_that_cannot_be_called(initializer: Any) -> None:
    with pytest.raises(TypeError, match="^initializer must be a callable$"):
        procpool.Pool(1, initializer=initializer)


def test_by_default_there_are_as_many_workers_as_the_standard_library_has() -> None:
    count = getattr(os, "process_cpu_count", os.cpu_count)()
    with procpool.Pool() as pool:
        assert len(pool._pool) == count
    pool.join()


def test_all_arguments_have_their_names(context: Any) -> None:
    with procpool.Pool(
        processes=1, initializer=tasks.set_inherited, initargs=[1, 2], maxtasksperchild=5, context=context
    ) as pool:
        assert pool.apply(tasks.get_inherited) == (1, 2)
    pool.join()


def test_pools_that_do_not_spin_do_the_same() -> None:
    with procpool.Pool(2, spin=False) as pool:
        assert [pool.apply(tasks.square, (number,)) for number in range(100)] == [n * n for n in range(100)]
        assert pool.map(tasks.square, range(100)) == [n * n for n in range(100)]
    pool.join()
    with procpool.ProcessPoolExecutor(2, spin=False) as executor:
        assert list(executor.map(tasks.square, range(100))) == [n * n for n in range(100)]


def test_spin_is_a_yes_or_a_no() -> None:
    with pytest.raises(TypeError):
        procpool.Pool(1, spin=0.5)  # type: ignore[arg-type]


def test_the_initializer_is_called_in_every_worker_also_in_those_that_replace_others(tmp_path: Any) -> None:
    path = str(tmp_path / "log")
    with procpool.Pool(2, tasks.note, (path, "begun"), maxtasksperchild=1) as pool:
        pool.map(tasks.pid, range(6), chunksize=1)
        pool.close()
        pool.join()
    assert open(path).read().count("begun") >= 6


def test_a_failed_start_leaves_nothing() -> None:
    started: list[Any] = []

    class Process(multiprocessing.get_context("fork").Process):  # type: ignore[name-defined, misc]
        def start(self) -> None:
            if len(started) == 2:
                raise OSError("no more processes")
            super().start()
            started.append(self)

    class Pool(procpool.Pool):
        @staticmethod
        def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:
            return Process(*args, **kwds)

    with pytest.raises(OSError, match="no more processes"):
        Pool(4)
    assert len(started) == 2
    for process in started:
        process.join(LONG)
        assert process.exitcode is not None
    started.clear()


def test_a_pool_may_be_subclassed_with_processes_of_its_own() -> None:
    class Process(multiprocessing.get_context("fork").Process):  # type: ignore[name-defined, misc]
        @property
        def daemon(self) -> bool:
            return False

        @daemon.setter
        def daemon(self, value: bool) -> None:
            pass

    class Pool(procpool.Pool):
        @staticmethod
        def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:
            return Process(*args, **kwds)

    with Pool(2) as pool:
        assert pool.map(tasks.square, range(5)) == [0, 1, 4, 9, 16]
        assert all(type(process) is Process for process in pool._pool)
    pool.join()


class ForeignProcess(multiprocessing.get_context("spawn").Process):  # type: ignore[name-defined, misc]
    pass


class ForeignContext(type(multiprocessing.get_context("spawn"))):  # type: ignore[misc]
    Process = ForeignProcess


def test_a_foreign_context_gives_its_processes() -> None:
    with procpool.Pool(1, context=ForeignContext()) as pool:
        assert type(pool._pool[0]) is ForeignProcess
        assert pool.apply(tasks.process_name) == pool._pool[0].name
        assert "PoolWorker-" in pool._pool[0].name
    pool.join()


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"max_workers": 0}, ValueError, "max_workers must be greater than 0"),
        ({"max_workers": -1}, ValueError, "max_workers must be greater than 0"),
        ({"max_tasks_per_child": 0}, ValueError, "max_tasks_per_child must be >= 1"),
        ({"max_tasks_per_child": 1.5}, TypeError, "max_tasks_per_child must be an integer"),
        ({"initializer": 3}, TypeError, "initializer must be a callable"),
        ({"on_worker_death": "weep"}, ValueError, 'on_worker_death must be "continue" or "break", not \'weep\''),
    ],
)
def test_wrong_arguments_of_an_executor(arguments: Any, error: Any, text: str) -> None:
    with pytest.raises(error) as caught:
        procpool.ProcessPoolExecutor(**arguments)
    assert str(caught.value) == text
