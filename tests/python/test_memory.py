"""What is kept, and for how long: memory stays flat, and objects go when the standard library would let them go."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import procpool
import pytest
import tasks
from programs import run
from waiting import LONG, wait_until

MIB = 1 << 20


def resident(pid: int) -> int:
    """Bytes of memory of a process's own; what it shares does not count."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("RssAnon:"))


@pytest.mark.parametrize(
    "call",
    [
        "procpool.Pool(2).map(len, data, chunksize=1)",
        "procpool.Pool(2).map(len, data, chunksize=3)",
        "list(procpool.Pool(2).imap(len, data))",
        "list(procpool.ProcessPoolExecutor(2).map(len, data))",
    ],
)
def test_arguments_of_one_call_may_be_more_than_the_pools_memory(call: str, tmp_path: Path) -> None:
    program = f"""
        import procpool, resource

        if __name__ == "__main__":
            # The pool takes no more than a file may have.
            resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 20, 64 << 20))
            data = [bytes(2 << 20)] * 100
            print(sum({call}))
    """
    assert run(tmp_path, program).check() == f"{100 * (2 << 20)}\n"


class Tracked:
    """Counts its living instances, in each process."""

    living = 0

    def __init__(self, *_: Any) -> None:
        Tracked.living += 1

    def __setstate__(self, state: Any) -> None:
        Tracked.living += 1

    def __getstate__(self) -> Any:
        return {"sent": True}

    def __del__(self) -> None:
        Tracked.living -= 1

    def identity(self) -> int:
        return id(self)


def living(*_: Any) -> int:
    """In a worker: how many there are."""
    gc.collect()
    return Tracked.living


def make(*_: Any) -> Tracked:
    return Tracked()


def fail_with(tracked: Any) -> None:
    raise ValueError(tracked)


@pytest.fixture(autouse=True)
def none_is_left() -> Any:
    gc.collect()
    assert Tracked.living == 0
    yield
    gc.collect()
    assert Tracked.living == 0


def test_memory_stays_flat(pool: procpool.Pool, executor: procpool.ProcessPoolExecutor) -> None:
    def work() -> None:
        for result in [pool.apply_async(tasks.same, (number,)) for number in range(3000)]:
            result.get(LONG)
        pool.map(tasks.same, range(20_000))
        pool.map(tasks.same, range(3000), 1)
        for _ in pool.imap(tasks.same, range(3000)):
            pass
        for _ in pool.imap_unordered(tasks.same, range(3000)):
            pass
        for future in [executor.submit(tasks.same, number) for number in range(3000)]:
            future.result(LONG)
        for _ in executor.map(tasks.same, range(3000)):
            pass
        gc.collect()

    for _ in range(3):
        work()
    pids = [os.getpid(), *(process.pid for process in pool._pool), *(executor._processes or {})]
    before = {pid: resident(pid) for pid in pids}
    for _ in range(10):
        work()
    growth = {pid: resident(pid) - before[pid] for pid in pids}
    # 350,000 tasks: a byte for each would be a third of a MiB.
    assert all(more < 6 * MIB for more in growth.values()), growth


def test_memory_stays_flat_over_results_nobody_asks_for(pool: procpool.Pool) -> None:
    def work() -> None:
        for number in range(20_000):
            pool.apply_async(tasks.same, (number,))
        wait_until(lambda: len(pool._cache) == 0, "all have ended")
        gc.collect()

    for _ in range(2):
        work()
    before = resident(os.getpid())
    for _ in range(8):
        work()
    assert resident(os.getpid()) - before < 8 * MIB


def test_memory_stays_flat_over_errors(pool: procpool.Pool) -> None:
    def work() -> None:
        for result in [pool.apply_async(tasks.fail, (number,)) for number in range(2000)]:
            try:
                result.get(LONG)
            except ValueError:
                pass
        del result
        gc.collect()

    for _ in range(2):
        work()
    pids = [os.getpid(), *(process.pid for process in pool._pool)]
    before = {pid: resident(pid) for pid in pids}
    for _ in range(6):
        work()
    growth = {pid: resident(pid) - before[pid] for pid in pids}
    assert all(more < 6 * MIB for more in growth.values()), growth


def test_memory_stays_flat_over_functions_that_are_made_anew(pool: procpool.Pool) -> None:
    def work() -> None:
        for number in range(500):
            assert pool.apply(lambda: number) == number
        gc.collect()

    for _ in range(3):
        work()
    pids = [os.getpid(), *(process.pid for process in pool._pool)]
    before = {pid: resident(pid) for pid in pids}
    for _ in range(6):
        work()
    growth = {pid: resident(pid) - before[pid] for pid in pids}
    assert all(more < 6 * MIB for more in growth.values()), growth


def test_pools_that_come_and_go_leave_nothing() -> None:
    def work() -> None:
        for _ in range(5):
            with procpool.Pool(1) as pool:
                assert pool.map(tasks.same, range(10)) == list(range(10))
            pool.join()
        gc.collect()

    work()
    before = resident(os.getpid()), len(os.listdir("/proc/self/fd"))
    for _ in range(6):
        work()
    assert resident(os.getpid()) - before[0] < 6 * MIB
    assert len(os.listdir("/proc/self/fd")) <= before[1]


def test_a_pending_task_needs_little(pool: procpool.Pool, tmp_path: Any) -> None:
    gate = tmp_path / "gate"
    waiting = [pool.apply_async(tasks.wait_for_file, (str(gate),)) for _ in range(2)]
    before = resident(os.getpid())
    results = [pool.apply_async(tasks.same, (number,)) for number in range(100_000)]
    each = (resident(os.getpid()) - before) / len(results)
    assert each < 2500, f"{each:.0f} bytes each"
    gate.touch()
    assert [result.get(LONG) for result in results] == list(range(100_000))
    assert [result.get(LONG) for result in waiting] == [None, None]


# ---- references ----


def test_arguments_are_let_go(pool: procpool.Pool) -> None:
    objects = [Tracked() for _ in range(10)]
    references = [weakref.ref(each) for each in objects]
    result = pool.map(Tracked.identity, objects, 1)
    assert len(result) == 10
    del objects
    gc.collect()
    assert not any(reference() for reference in references)
    wait_until(lambda: pool.map(living, range(8), 1) == [0] * 8, "workers let their arguments go")


def test_arguments_of_tasks_that_wait_are_not_kept_by_the_caller(pool: procpool.Pool, tmp_path: Any) -> None:
    # The caller's object is pickled at the call.
    gate = tmp_path / "gate"
    waiting = [pool.apply_async(tasks.wait_for_file, (str(gate),)) for _ in range(2)]
    result = pool.apply_async(tasks.same, (Tracked(),))
    gc.collect()
    assert Tracked.living == 0
    gate.touch()
    result.get(LONG)
    assert len(waiting) == 2


def test_results_are_let_go(pool: procpool.Pool) -> None:
    result = pool.apply_async(make)
    value: Any = result.get(LONG)
    assert Tracked.living == 1
    del value
    assert Tracked.living == 1
    del result
    gc.collect()
    assert Tracked.living == 0
    for name in ("imap", "imap_unordered"):
        most = 0
        for value in getattr(pool, name)(make, range(50)):
            del value
            most = max(most, Tracked.living)
        assert most <= 1
    assert len(pool.map(make, range(20))) == 20
    gc.collect()
    assert Tracked.living == 0
    wait_until(lambda: pool.map(living, range(8), 1) == [0] * 8, "workers let their results go")


def test_the_results_of_executors_are_let_go(executor: procpool.ProcessPoolExecutor) -> None:
    future = executor.submit(make)
    assert isinstance(future.result(LONG), Tracked) and Tracked.living == 1
    del future
    gc.collect()
    assert Tracked.living == 0
    for value in executor.map(make, range(20)):
        del value
    gc.collect()
    assert Tracked.living == 0


def test_errors_are_let_go(pool: procpool.Pool, executor: procpool.ProcessPoolExecutor) -> None:
    for get in (
        lambda: pool.apply(fail_with, (Tracked(),)),
        lambda: pool.map(fail_with, [Tracked(), Tracked()], 1),
        lambda: next(pool.imap(fail_with, [Tracked()])),
        lambda: executor.submit(fail_with, Tracked()).result(LONG),
        lambda: next(executor.map(fail_with, [Tracked()])),
    ):
        try:
            get()
        except ValueError:
            pass
        gc.collect()
        assert Tracked.living == 0


def test_callbacks_are_let_go(pool: procpool.Pool) -> None:
    class Callback:
        def __call__(self, value: Any) -> None:
            pass

    callback = Callback()
    reference = weakref.ref(callback)
    result = pool.apply_async(tasks.same, (1,), callback=callback, error_callback=callback)
    many = pool.map_async(tasks.same, [1, 2], callback=callback)
    assert (result.get(LONG), many.get(LONG)) == (1, [1, 2])
    del callback
    wait_until(lambda: gc.collect() is not None and reference() is None, "the callback is let go")


def test_a_pool_is_let_go_by_results_that_have_ended() -> None:
    pool: Any = procpool.Pool(1)
    result, iterator = pool.apply_async(tasks.same, (1,)), pool.imap(tasks.same, [1])
    assert result.get(LONG) == 1 and list(iterator) == [1]
    pool.terminate()
    pool.join()
    reference = weakref.ref(pool)
    del pool
    gc.collect()
    assert reference() is None
    assert result.get() == 1


def test_threads_do_not_pile_up(pool: procpool.Pool) -> None:
    for _ in range(30):
        assert list(pool.imap(tasks.same, range(5))) == list(range(5))
    time.sleep(0)
    wait_until(lambda: threading.active_count() < 10, "the threads that read input have ended")
