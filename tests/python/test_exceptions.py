"""How what is raised in a worker arrives."""

from __future__ import annotations

import sys
from typing import Any

import procpool
import pytest
import tasks
from procpool.pool import MaybeEncodingError, RemoteTraceback
from waiting import LONG


def error_of(pool: procpool.Pool, function: Any, *args: Any) -> BaseException:
    result = pool.apply_async(function, args)
    result.wait(LONG)
    with pytest.raises(BaseException) as caught:
        result.get(0)
    return caught.value


def test_class_and_arguments_are_kept(pool: procpool.Pool) -> None:
    error = error_of(pool, tasks.raise_error, RuntimeError("a", 1))
    assert type(error) is RuntimeError and error.args == ("a", 1)
    refused = error_of(pool, tasks.raise_error, tasks.Refused("no", 7))
    assert type(refused) is tasks.Refused and refused.args == ("no", 7) and refused.code == 7


def test_attributes_and_notes_are_kept(pool: procpool.Pool) -> None:
    error: Any = error_of(pool, tasks.raise_with_notes)
    assert error.extra == [1, 2]
    if sys.version_info >= (3, 11):
        assert error.__notes__ == ["a note"]


def test_the_workers_traceback_is_the_cause(pool: procpool.Pool) -> None:
    error = error_of(pool, tasks.fail)
    cause: Any = error.__cause__
    assert type(cause) is RemoteTraceback and error.__suppress_context__
    assert str(cause) == cause.tb and 'raise ValueError("as expected")' in cause.tb
    assert cause.tb.startswith('\n"""\nTraceback (most recent call last):\n')
    assert cause.tb.endswith('\nValueError: as expected\n"""')


def test_the_workers_traceback_is_written_as_the_standard_library_does() -> None:
    import multiprocessing

    def text(pool: Any) -> str:
        with pool:
            result = pool.apply_async(tasks.fail)
            with pytest.raises(ValueError) as caught:
                result.get(LONG)
        pool.join()
        lines = str(caught.value.__cause__).splitlines()
        # The frames of the pools themselves differ.
        return "\n".join(line for line in lines if "pool" not in line and "result = " not in line and "^^" not in line)

    assert text(procpool.Pool(1)) == text(multiprocessing.get_context("fork").Pool(1))


def test_the_chain_of_causes_is_in_the_text(pool: procpool.Pool) -> None:
    error = error_of(pool, tasks.fail_from)
    assert type(error) is RuntimeError and isinstance(error.__cause__, RemoteTraceback)
    assert "KeyError: 'first'" in str(error.__cause__) and "direct cause" in str(error.__cause__)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="there are no exception groups")
def test_exception_groups(pool: procpool.Pool) -> None:
    group = ExceptionGroup("several", [ValueError(1), ExceptionGroup("more", [KeyError(2)])])  # noqa: F821
    error: Any = error_of(pool, tasks.raise_error, group)
    assert type(error) is type(group) and error.message == "several"
    assert [type(each) for each in error.exceptions] == [ValueError, type(group)]


@pytest.mark.parametrize(
    ("raised", "attributes"),
    [
        (SystemExit(3), {"code": 3}),
        (SystemExit("bye"), {"code": "bye"}),
        (KeyboardInterrupt(), {}),
        (GeneratorExit(), {}),
        (tasks.Bare("bare"), {"args": ("bare",)}),
        (StopIteration(5), {"value": 5}),
    ],
    ids=repr,
)
def test_whatever_can_be_raised_arrives(pool: procpool.Pool, raised: Any, attributes: dict[str, Any]) -> None:
    for _ in range(3):
        error = error_of(pool, tasks.raise_error, raised)
        assert type(error) is type(raised)
        assert {name: getattr(error, name) for name in attributes} == attributes
        assert isinstance(error.__cause__, RemoteTraceback)
    assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]


def test_a_worker_ends_after_a_system_exit_and_is_replaced() -> None:
    with procpool.Pool(1) as pool:
        before = pool.apply(tasks.pid)
        error_of(pool, sys.exit, 3)
        assert pool.apply(tasks.pid) != before
    pool.join()


def test_a_worker_goes_on_after_an_exception() -> None:
    with procpool.Pool(1) as pool:
        before = pool.apply(tasks.pid)
        for function in (tasks.fail, tasks.fail_from):
            error_of(pool, function)
        error_of(pool, tasks.lock_as_result, tasks.BAD)
        error_of(pool, tasks.unreadable_exception, tasks.BAD)
        assert pool.apply(tasks.pid) == before
    pool.join()


def test_results_that_cannot_be_pickled_do_no_harm(pool: procpool.Pool) -> None:
    for _ in range(20):
        error: Any = error_of(pool, tasks.lock_as_result, tasks.BAD)
        assert type(error) is MaybeEncodingError
        assert len(error.args) == 2
        assert "cannot pickle" in error.exc and error.exc.startswith("TypeError(")
        assert error.value.startswith("<unlocked _thread.lock object")
        assert str(error) == f"Error sending result: '{error.value}'. Reason: '{error.exc}'"
        assert repr(error) == f"<MaybeEncodingError: {error}>"
    assert pool.apply(tasks.same, (1,)) == 1


def test_an_exception_whose_pickle_cannot_be_read_keeps_its_class(pool: procpool.Pool) -> None:
    error = error_of(pool, tasks.unreadable_exception, tasks.BAD)
    assert type(error) is tasks.NeedsTwo
    assert str(error) == "1 and 2" and (error.first, error.second) == (1, 2)
    assert "NeedsTwo: 1 and 2" in str(error.__cause__)


def test_an_exception_that_holds_a_lock_comes_without_it(pool: procpool.Pool) -> None:
    error = error_of(pool, tasks.exception_with_lock, tasks.BAD)
    assert type(error) is tasks.HoldsLock
    assert str(error) == "held" and error.message == "held" and not hasattr(error, "lock")


def test_an_exception_of_a_local_class_is_named(pool: procpool.Pool) -> None:
    error = error_of(pool, tasks.raise_local_error)
    assert "LocalError" in f"{type(error).__name__} {error}" and "no way home" in str(error)
    assert "no way home" in str(error.__cause__)


def test_an_argument_that_cannot_be_pickled_fails_that_task(pool: procpool.Pool) -> None:
    import threading

    error = error_of(pool, tasks.same, threading.Lock())
    assert type(error) is TypeError and "cannot pickle" in str(error) and error.__cause__ is None
    with pytest.raises(TypeError, match="cannot pickle"):
        pool.map(tasks.same, [1, threading.Lock(), 3])
    assert pool.apply(tasks.same, (1,)) == 1


def test_an_exception_in_pickling_is_the_tasks(pool: procpool.Pool) -> None:
    class Bad:
        def __reduce__(self) -> Any:
            raise LookupError("not today")

    error = error_of(pool, tasks.same, Bad())
    assert type(error) is LookupError and error.args == ("not today",)


def test_an_argument_that_cannot_be_read_fails_that_task(pool: procpool.Pool) -> None:
    error = error_of(pool, tasks.same, tasks.Unreadable())
    assert type(error) is LookupError and error.args == ("it cannot be read",)
    assert isinstance(error.__cause__, RemoteTraceback)


def test_a_result_that_cannot_be_read_fails_that_task(pool: procpool.Pool) -> None:
    error = error_of(pool, tasks.unreadable_result, tasks.BAD)
    assert "it cannot be read" in str(error)
    assert pool.apply(tasks.same, (1,)) == 1


def test_a_worker_that_died_tells_what_is_known(pool: procpool.Pool) -> None:
    pids = {process.pid for process in pool._pool}
    died: Any = error_of(pool, tasks.exited, tasks.BAD)
    assert type(died) is procpool.WorkerDied
    assert died.exitcode == 7 and died.signal is None and died.pid in pids
    assert "exited" in died.task and "exited with status 7" in str(died) and str(died.pid) in str(died)
    killed: Any = error_of(pool, tasks.killed, tasks.BAD)
    assert killed.signal == 9 and killed.exitcode is None and "SIGKILL" in str(killed)
    # It can be sent on, as every exception should be.
    import pickle

    again = pickle.loads(pickle.dumps(died))
    assert (again.pid, again.exitcode, again.task, str(again)) == (died.pid, died.exitcode, died.task, str(died))


def test_the_stack_of_a_crash_is_in_the_error(pool: procpool.Pool) -> None:
    crashed: Any = error_of(pool, tasks.crashed, tasks.BAD)
    assert crashed.signal == 11 and "SIGSEGV" in str(crashed)
    assert "Segmentation fault" in crashed.last_words and "in crashed" in crashed.last_words
    assert "in crashed" in str(crashed)


def test_last_words_are_each_workers_own() -> None:
    with procpool.Pool(2) as pool:
        errors = [pool.apply_async(function, (tasks.BAD,)) for function in (tasks.crashed, tasks.aborted) * 4]
        for result in errors:
            result.wait(LONG)
        for result, name in zip(errors, ("crashed", "aborted") * 4):
            with pytest.raises(procpool.WorkerDied) as caught:
                result.get(0)
            assert f"in {name}" in str(caught.value.last_words)
    pool.join()


def test_futures_have_the_same_exceptions(executor: procpool.ProcessPoolExecutor) -> None:
    from concurrent.futures.process import _RemoteTraceback

    future = executor.submit(tasks.fail)
    error = future.exception(LONG)
    assert type(error) is ValueError and isinstance(error.__cause__, _RemoteTraceback)
    assert error.__traceback__ is None
    with pytest.raises(ValueError, match="as expected") as caught:
        future.result()
    assert caught.value is error
    assert type(executor.submit(sys.exit, 3).exception(LONG)) is SystemExit
    assert type(executor.submit(tasks.raise_error, tasks.Bare()).exception(LONG)) is tasks.Bare
    assert type(executor.submit(tasks.lock_as_result, tasks.BAD).exception(LONG)) is TypeError
