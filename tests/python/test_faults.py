"""Six tasks, two workers, and the third task misbehaves: only that one fails, whatever it did and whichever call it came by.

The pool can be used afterwards, and nobody waits for ever.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from pickle import PicklingError
from typing import Any, Callable, Iterator, NamedTuple

import procpool
import pytest
import tasks
from procpool.pool import MaybeEncodingError
from programs import start
from waiting import LONG, wait_until

# ---- calls ----


def outcome_of(get: Callable[[], Any]) -> Any:
    try:
        return get()
    except BaseException as error:
        return error


def outcomes_of(next_result: Callable[[], Any]) -> Iterator[Any]:
    while True:
        outcome = outcome_of(next_result)
        if isinstance(outcome, StopIteration):
            return
        yield outcome


def by_apply(pool: Any, function: Any, items: list[Any]) -> list[Any]:
    return [outcome_of(lambda: pool.apply(function, (item,))) for item in items]


def by_apply_async(pool: Any, function: Any, items: list[Any]) -> list[Any]:
    results = [pool.apply_async(function, (item,)) for item in items]
    return [outcome_of(lambda: result.get(LONG)) for result in results]


def by_keyword(pool: Any, function: Any, items: list[Any]) -> list[Any]:
    results = [pool.apply_async(function, (), {"number": item}) for item in items]
    return [outcome_of(lambda: result.get(LONG)) for result in results]


def by_callback(pool: Any, function: Any, items: list[Any]) -> list[Any]:
    outcomes: dict[int, Any] = {}
    for index, item in enumerate(items):
        store = (lambda index: lambda outcome: outcomes.__setitem__(index, outcome))(index)
        pool.apply_async(function, (item,), callback=store, error_callback=store)
    wait_until(lambda: len(outcomes) == len(items), "all callbacks are called")
    return [outcomes[index] for index in range(len(items))]


def by_map(pool: Any, function: Any, items: list[Any]) -> Any:
    return outcome_of(lambda: pool.map_async(function, items, 1).get(LONG))


def by_map_in_chunks(pool: Any, function: Any, items: list[Any]) -> Any:
    return outcome_of(lambda: pool.map_async(function, items, 2).get(LONG))


def by_starmap(pool: Any, function: Any, items: list[Any]) -> Any:
    return outcome_of(lambda: pool.starmap_async(function, [(item,) for item in items], 1).get(LONG))


def by_imap(pool: Any, function: Any, items: list[Any]) -> list[Any]:
    results = pool.imap(function, items)
    return list(outcomes_of(lambda: results.next(LONG)))


def by_imap_with_a_buffer(pool: Any, function: Any, items: list[Any]) -> list[Any]:
    results = pool.imap(function, items, buffersize=2)
    return list(outcomes_of(lambda: results.next(LONG)))


def by_imap_unordered(pool: Any, function: Any, items: list[Any]) -> list[Any]:
    results = pool.imap_unordered(function, items)
    outcomes = list(outcomes_of(lambda: results.next(LONG)))
    values = sorted(outcome for outcome in outcomes if isinstance(outcome, int))
    others = [outcome for outcome in outcomes if not isinstance(outcome, int)]
    return values[: tasks.BAD] + others + values[tasks.BAD :]


def by_submit(executor: Any, function: Any, items: list[Any]) -> list[Any]:
    futures = [executor.submit(function, item) for item in items]
    return [outcome_of(lambda: future.result(LONG)) for future in futures]


def by_as_completed(executor: Any, function: Any, items: list[Any]) -> list[Any]:
    futures = {executor.submit(function, item): index for index, item in enumerate(items)}
    outcomes = {futures[future]: outcome_of(future.result) for future in as_completed(futures, LONG)}
    return [outcomes[index] for index in range(len(items))]


def by_executor_map(executor: Any, function: Any, items: list[Any]) -> list[Any]:
    results = executor.map(function, items, timeout=LONG)
    return list(outcomes_of(lambda: next(results)))


class Call(NamedTuple):
    make: Callable[..., Any]
    run: Callable[[Any, Any, list[Any]], Any]
    #: What becomes of the results of other tasks: "each" has its own, "whole" they are lost, "until" only those before.
    shape: str


CALLS = {
    **{run.__name__: Call(procpool.Pool, run, "each") for run in (by_apply, by_apply_async, by_keyword, by_callback)},
    **{run.__name__: Call(procpool.Pool, run, "whole") for run in (by_map, by_map_in_chunks, by_starmap)},
    **{run.__name__: Call(procpool.Pool, run, "each") for run in (by_imap, by_imap_with_a_buffer, by_imap_unordered)},
    **{
        run.__name__: Call(procpool.ProcessPoolExecutor, run, shape)
        for run, shape in ((by_submit, "each"), (by_as_completed, "each"), (by_executor_map, "until"))
    },
}

every_call = pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))


# ---- faults ----


class Fault(NamedTuple):
    function: Callable[[Any], Any]
    is_expected: Callable[[Any], bool]
    bad_item: Callable[[], Any] = lambda: tasks.BAD


def died(**attributes: Any) -> Callable[[Any], bool]:
    def is_expected(error: Any) -> bool:
        assert type(error) is procpool.WorkerDied, repr(error)
        return {name: getattr(error, name) for name in attributes} == attributes and error.pid > 0

    return is_expected


def an(kind: Any, text: str = "") -> Callable[[Any], bool]:
    return lambda error: type(error) is kind and text in str(error)


#: How the versions of pickle say that they cannot.
REFUSAL = re.compile("pickle|get local object")


def unpicklable(error: Any) -> bool:
    # As the standard library has it: by a pool it is wrapped, by an executor it is the error itself.
    return isinstance(error, MaybeEncodingError) or (
        isinstance(error, (TypeError, AttributeError, PicklingError)) and REFUSAL.search(str(error)) is not None
    )


FAULTS = {
    "SIGKILL": Fault(tasks.killed, died(signal=signal.SIGKILL, exitcode=None)),
    "segmentation fault": Fault(tasks.crashed, died(signal=signal.SIGSEGV)),
    "abort": Fault(tasks.aborted, died(signal=signal.SIGABRT)),
    "os._exit": Fault(tasks.exited, died(exitcode=7, signal=None)),
    "sys.exit": Fault(tasks.system_exit, an(SystemExit, "3")),
    "KeyboardInterrupt": Fault(tasks.keyboard_interrupt, an(KeyboardInterrupt)),
    "GeneratorExit": Fault(tasks.generator_exit, an(GeneratorExit)),
    "BaseException": Fault(tasks.bare_exception, an(tasks.Bare, "bare")),
    "exception": Fault(tasks.ordinary_exception, an(tasks.Refused)),
    "exception that cannot be read": Fault(tasks.unreadable_exception, an(tasks.NeedsTwo, "1 and 2")),
    "exception with a lock": Fault(tasks.exception_with_lock, an(tasks.HoldsLock, "held")),
    "result that cannot be pickled": Fault(tasks.lock_as_result, unpicklable),
    "lambda as result": Fault(
        tasks.lambda_as_result, lambda it: unpicklable(it) or (callable(it) and it() == tasks.BAD)
    ),
    "result that cannot be read": Fault(tasks.unreadable_result, lambda error: "it cannot be read" in str(error)),
    "crash while the result is pickled": Fault(tasks.crash_in_result, died(exitcode=9)),
    "argument that cannot be pickled": Fault(tasks.same_number, an(TypeError, "cannot pickle"), threading.Lock),
    "argument that cannot be read": Fault(tasks.same_number, an(LookupError, "it cannot be read"), tasks.Unreadable),
    "crash while the argument is read": Fault(tasks.same_number, died(exitcode=8), tasks.CrashesWhenRead),
}

every_fault = pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))


def check(call: Call, fault: Fault, owner: Any) -> None:
    items: list[Any] = list(range(6))
    items[tasks.BAD] = fault.bad_item()
    outcomes = call.run(owner, fault.function, items)
    if call.shape == "whole" and not isinstance(outcomes, BaseException):
        # A lambda that could be sent.
        call = call._replace(shape="each")
    bad = outcomes if call.shape == "whole" else outcomes[tasks.BAD]
    assert fault.is_expected(bad), repr(bad)
    if call.shape == "each":
        assert outcomes[: tasks.BAD] + outcomes[tasks.BAD + 1 :] == [0, 1, 3, 4, 5]
    elif call.shape == "until" and isinstance(bad, BaseException):
        assert outcomes[: tasks.BAD] == [0, 1] and len(outcomes) == 3
    check_is_usable(owner)


def check_is_usable(owner: Any) -> None:
    if isinstance(owner, procpool.Pool):
        assert owner.map_async(tasks.square, range(8), 1).get(LONG) == [number * number for number in range(8)]
    else:
        assert list(owner.map(tasks.square, range(8), timeout=LONG)) == [number * number for number in range(8)]
        return
    wait_until(lambda: len(owner.stats().workers) == 2, "the dead worker is replaced")


def end(owner: Any) -> None:
    """Ends it so that all that is left must end by itself."""
    if isinstance(owner, procpool.Pool):
        owner.close()
        owner.join()
    else:
        owner.shutdown()


@every_call
@every_fault
def test_only_the_misbehaving_task_fails(call: Call, fault: Fault) -> None:
    with call.make(2) as owner:
        check(call, fault, owner)
        end(owner)


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"], indirect=True)
@pytest.mark.parametrize("fault", ["SIGKILL", "exception that cannot be read", "argument that cannot be read"])
def test_with_every_start_method(context: Any, fault: str) -> None:
    with procpool.Pool(2, context=context) as pool:
        for call in (by_apply_async, by_map, by_imap_unordered):
            check(CALLS[call.__name__], FAULTS[fault], pool)
    pool.join()
    with procpool.ProcessPoolExecutor(2, context) as executor:
        for call in (by_submit, by_executor_map):
            check(CALLS[call.__name__], FAULTS[fault], executor)


@every_call
def test_many_crashes_cost_many_tasks_and_no_more(call: Call) -> None:
    with call.make(2) as owner:
        for _ in range(5):
            check(call, FAULTS["SIGKILL"], owner)
        end(owner)


# ---- initializers ----


@every_call
def test_what_an_initializer_raises_is_raised_by_every_call(call: Call) -> None:
    with call.make(2, initializer=tasks.failing_initializer) as owner:
        outcomes = outcome_of(lambda: call.run(owner, tasks.same_number, list(range(6))))
        for outcome in outcomes if isinstance(outcomes, list) else [outcomes]:
            if call.make is procpool.Pool:
                assert type(outcome) is ZeroDivisionError and outcome.args == ("no start",), repr(outcome)
                assert "failing_initializer" in str(outcome.__cause__)
            else:
                assert isinstance(outcome, BrokenProcessPool) and "no start" in str(outcome), repr(outcome)
                assert "failing_initializer" in str(outcome.__cause__.__cause__)


@every_call
def test_workers_that_die_at_once_are_not_started_for_ever(call: Call) -> None:
    with call.make(2, initializer=tasks.dying_initializer) as owner:
        outcomes = outcome_of(lambda: call.run(owner, tasks.same_number, list(range(6))))
        for outcome in outcomes if isinstance(outcomes, list) else [outcomes]:
            assert isinstance(outcome, BrokenProcessPool), repr(outcome)


# ---- idle workers ----


@every_call
def test_an_idle_worker_that_is_killed_harms_nobody(call: Call) -> None:
    with call.make(1) as owner:
        for _ in range(3):
            pid = by_apply(owner, tasks.pid, [0])[0] if call.make is procpool.Pool else owner.submit(tasks.pid).result()
            os.kill(pid, signal.SIGKILL)
            outcomes = call.run(owner, tasks.same_number, list(range(6)))
            assert outcomes == list(range(6))


def test_all_workers_killed_at_once_are_replaced(pool: procpool.Pool) -> None:
    for _ in range(3):
        for process in list(pool._pool):
            # One of the last round may be dead, and still be in the list.
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        assert pool.map_async(tasks.square, range(20), 1).get(LONG) == [number * number for number in range(20)]


def test_a_stopped_worker_holds_nobody_else_up(pool: procpool.Pool, tmp_path: Any) -> None:
    result = pool.apply_async(tasks.appear_and_wait, (str(tmp_path / "task"),))
    wait_until((tmp_path / "task.running").exists, "the task runs")
    pid = int((tmp_path / "task.running").read_text())
    os.kill(pid, signal.SIGSTOP)
    assert pool.map_async(tasks.square, range(20), 1).get(LONG) == [number * number for number in range(20)]
    os.kill(pid, signal.SIGKILL)
    assert died(signal=signal.SIGKILL, pid=pid)(outcome_of(lambda: result.get(LONG)))


# ---- pools within workers ----


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_workers_may_have_pools(method: str) -> None:
    import multiprocessing

    context = multiprocessing.get_context(method)
    with procpool.Pool(2, context=context) as pool:
        assert pool.map(tasks.nested_submit, range(3)) == [0, 1, 4]
        assert pool.apply(tasks.nested_map, (2,)) == 2
    pool.join()
    with procpool.ProcessPoolExecutor(1, context) as executor:
        assert executor.submit(tasks.nested_map, 1).result(LONG) == 1


def test_pools_of_pools_have_an_end(pool: procpool.Pool) -> None:
    with pytest.raises(RuntimeError, match="pools within workers of pools, 10 deep"):
        pool.apply_async(tasks.nested_map, (20,)).get(LONG)
    assert pool.apply(tasks.nested_map, (3,)) == 3


def test_the_pool_of_a_worker_that_is_killed_goes_with_it(pool: procpool.Pool, tmp_path: Any) -> None:
    result = pool.apply_async(tasks.nested_wait, (str(tmp_path / "task"),))
    wait_until((tmp_path / "task.running").exists, "the inner task runs")
    inner = int((tmp_path / "task.running").read_text())

    def busy() -> list[int]:
        return [worker.pid for worker in pool.stats().workers if worker.current_age is not None]

    wait_until(busy, "the worker is known")
    os.kill(busy()[0], signal.SIGKILL)
    with pytest.raises(procpool.WorkerDied):
        result.get(LONG)
    wait_until(lambda: not is_alive(inner), "the inner worker has ended")


# ---- orphans ----


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("kind", ["Pool", "ProcessPoolExecutor"])
@pytest.mark.parametrize("is_busy", [False, True], ids=["idle", "busy"])
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Any, kind: str, is_busy: bool, start_method: str) -> None:
    program = start(
        tmp_path,
        f"""
        import time
        from multiprocessing import get_context
        import procpool, tasks

        if __name__ == "__main__":
            owner = procpool.{kind}(2, **{{{"'context'" if kind == "Pool" else "'mp_context'"}: get_context("{start_method}")}})
            submit = getattr(owner, "submit", None) or (lambda function, *args: owner.apply_async(function, args))
            first = submit(tasks.square, 3)
            print(first.get() if hasattr(first, "get") else first.result())
            for name in "ab" if {is_busy} else "":
                submit(tasks.appear_and_wait, name)
            print("ready")
            time.sleep(3600)
        """,
    )
    try:
        assert (program.line(), program.line()) == ("9", "ready")
        if is_busy:
            wait_until(lambda: len(list(tmp_path.glob("*.running"))) == 2, "both tasks run")
        assert len(program.members()) > 1
        os.kill(program.pid, signal.SIGKILL)
        program.finish()
        program.check_all_have_gone()
    finally:
        program.kill()
