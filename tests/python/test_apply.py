"""One task at a time: `apply` and `apply_async`."""

from __future__ import annotations

import functools
import inspect
import multiprocessing.pool
import operator
import os

import procpool
import pytest
import tasks
from waiting import LONG


def test_apply_calls_in_another_process(pool: procpool.Pool) -> None:
    assert pool.apply(tasks.pid) != os.getpid()


def test_arguments_arrive_as_given(pool: procpool.Pool) -> None:
    assert pool.apply(tasks.arguments) == ((), {})
    assert pool.apply(tasks.arguments, (1, "a")) == ((1, "a"), {})
    assert pool.apply(tasks.arguments, [1, 2]) == ((1, 2), {})
    assert pool.apply(tasks.arguments, (1,), {"x": 2}) == ((1,), {"x": 2})
    assert pool.apply(tasks.arguments, kwds={"func": 1, "args": 2}) == ((), {"func": 1, "args": 2})


def test_all_arguments_have_their_names(pool: procpool.Pool) -> None:
    assert pool.apply(func=tasks.add, args=(1,), kwds={"b": 2}) == 3
    result = pool.apply_async(func=tasks.add, args=(1,), kwds={"b": 2}, callback=None, error_callback=None)
    assert result.get(LONG) == 3


def test_apply_async_goes_on_at_once(pool: procpool.Pool, tmp_path: os.PathLike[str]) -> None:
    gate = os.path.join(tmp_path, "gate")
    result = pool.apply_async(tasks.wait_for_file, (gate, "through"))
    assert not result.ready()
    open(gate, "w").close()
    assert result.get(LONG) == "through"


def test_many_results_are_each_ones_own(pool: procpool.Pool) -> None:
    results = [pool.apply_async(tasks.square, (number,)) for number in range(2000)]
    assert [result.get(LONG) for result in results] == [number * number for number in range(2000)]


ANYTHING = {
    "built-in function": (abs, (-3,), 3),
    "class": (int, ("7",), 7),
    "method of a class": (str.upper, ("a",), "A"),
    "itemgetter": (operator.itemgetter(1), ("abc",), "b"),
    "partial": (functools.partial(tasks.add, 5), (6,), 11),
    "bound method": (tasks.Method(3).times, (4,), 12),
    "callable object": (tasks.Method(3), (4,), 7),
    "class method": (tasks.Method.named, (), "Method"),
    "static method": (tasks.Method.static, (4,), -4),
    "built-in method": ([3, 1].index, (1,), 1),
}


@pytest.mark.parametrize(("function", "args", "value"), ANYTHING.values(), ids=list(ANYTHING))
def test_anything_that_can_be_called_is_a_task(
    pool: procpool.Pool, function: object, args: tuple[object, ...], value: object
) -> None:
    assert pool.apply(function, args) == value  # type: ignore[arg-type]


def test_a_method_is_called_on_its_object_as_it_is_now(pool: procpool.Pool) -> None:
    owner = tasks.Method(2)
    assert pool.apply(owner.times, (5,)) == 10
    owner.factor = 3
    assert pool.apply(owner.times, (5,)) == 15


def test_big_arguments_and_results(pool: procpool.Pool) -> None:
    data = os.urandom(1 << 20) * 20
    assert pool.apply(tasks.same, (data,)) == data
    assert pool.apply(tasks.same, (data.hex(),)) == data.hex()


def test_none_and_exceptions_are_values_too(pool: procpool.Pool) -> None:
    assert pool.apply(tasks.same, (None,)) is None
    error = pool.apply(tasks.same, (ValueError(3),))
    assert type(error) is ValueError and error.args == (3,)


def test_works_with_every_start_method(start_method: str) -> None:
    context = multiprocessing.get_context(start_method)
    with procpool.Pool(2, context=context) as pool:
        assert pool.apply(tasks.add, (1, 2)) == 3
        assert pool.apply(tasks.process_name).startswith(f"{type(context).__name__[: -len('Context')]}PoolWorker-")
    pool.join()


@pytest.mark.parametrize(
    "name", ["apply", "apply_async", "map", "map_async", "starmap", "starmap_async", "imap", "imap_unordered", "close"]
)
def test_signatures_are_the_standard_librarys(name: str) -> None:
    def parameters(owner: type) -> list[tuple[str, object, object]]:
        signature = inspect.signature(getattr(owner, name))
        return [(each.name, each.kind, each.default) for each in signature.parameters.values()]

    standard = parameters(multiprocessing.pool.Pool)
    ours = parameters(procpool.Pool)
    assert ours[: len(standard)] == standard
    assert all(default is not inspect.Parameter.empty for _, _, default in ours[len(standard) :])


def test_the_constructor_begins_as_the_standard_librarys() -> None:
    standard = list(inspect.signature(multiprocessing.pool.Pool).parameters.values())
    ours = list(inspect.signature(procpool.Pool).parameters.values())
    assert [(each.name, each.default) for each in ours[: len(standard)]] == [
        (each.name, each.default) for each in standard
    ]
    assert all(each.kind is inspect.Parameter.KEYWORD_ONLY for each in ours[len(standard) :])


def test_the_module_has_what_programs_import() -> None:
    import procpool.pool as module

    assert module.__all__ == ["Pool", "ThreadPool"]
    assert module.ThreadPool is multiprocessing.pool.ThreadPool
    assert module.AsyncResult is module.ApplyResult
    for name in (
        "MapResult IMapIterator IMapUnorderedIterator MaybeEncodingError RemoteTraceback ExceptionWithTraceback RUN CLOSE "
        "TERMINATE INIT mapstar starmapstar worker job_counter _helper_reraises_exception"
    ).split():
        assert hasattr(module, name), name
    assert (module.INIT, module.RUN, module.CLOSE, module.TERMINATE) == ("INIT", "RUN", "CLOSE", "TERMINATE")
    assert module.MaybeEncodingError is multiprocessing.pool.MaybeEncodingError  # type: ignore[attr-defined]
    assert module.ApplyResult[int] and module.MapResult[int] and module.IMapIterator[int]
