"""What can be sent: by plain pickle, by cloudpickle where that is installed, and what is said of the rest."""

from __future__ import annotations

import collections
import copyreg
import dataclasses
import multiprocessing
import threading
from multiprocessing import reduction
from typing import Any

import procpool
import pytest
import tasks
from procpool.pool import MaybeEncodingError
from programs import Program, run
from waiting import LONG

cloudpickle = pytest.importorskip("cloudpickle", reason="what plain pickle refuses goes by cloudpickle")


def test_lambdas_are_tasks_by_every_call(pool: procpool.Pool, executor: procpool.ProcessPoolExecutor) -> None:
    offset = 10
    function = lambda number: number + offset  # noqa: E731
    assert pool.apply(function, (1,)) == 11
    assert pool.apply_async(function, kwds={"number": 1}).get(LONG) == 11
    for chunksize in (1, 2):
        assert pool.map(function, range(4), chunksize) == [10, 11, 12, 13]
        assert list(pool.imap(function, range(4), chunksize)) == [10, 11, 12, 13]
        assert sorted(pool.imap_unordered(function, range(4), chunksize)) == [10, 11, 12, 13]
        assert list(executor.map(function, range(4), chunksize=chunksize)) == [10, 11, 12, 13]
    assert pool.starmap(lambda a, b: a * b, [(2, 3), (4, 5)]) == [6, 20]
    assert executor.submit(function, 1).result(LONG) == 11


def test_lambdas_go_with_every_start_method(context: Any) -> None:
    with procpool.Pool(1, context=context) as pool:
        assert pool.map(lambda number: -number, [1, 2]) == [-1, -2]
    pool.join()


def test_a_closure_is_sent_as_it_is_at_the_call(pool: procpool.Pool) -> None:
    count = 0

    def counted(number: int) -> int:
        return number + count

    for count in range(5):
        assert pool.apply(counted, (1,)) == 1 + count


def test_local_functions_and_classes(pool: procpool.Pool) -> None:
    @dataclasses.dataclass
    class Local:
        value: int

        def double(self) -> int:
            return 2 * self.value

    def unpack(local: Any) -> int:
        return local.value

    assert pool.map(unpack, [Local(1), Local(2)]) == [1, 2]
    assert pool.apply(Local(4).double) == 8


def test_recursive_and_mutually_dependent_functions(pool: procpool.Pool) -> None:
    def factorial(number: int) -> int:
        return 1 if number == 0 else number * factorial(number - 1)

    assert pool.apply(factorial, (6,)) == 720


def test_arguments_that_plain_pickle_refuses(pool: procpool.Pool, executor: procpool.ProcessPoolExecutor) -> None:
    assert pool.apply(tasks.call, (lambda: 5,)) == 5
    assert pool.map(tasks.call, [lambda: 1, lambda: 2]) == [1, 2]
    assert pool.map(tasks.call, [lambda: 1, lambda: 2], 2) == [1, 2]
    assert executor.submit(tasks.call, lambda number: number, 3).result(LONG) == 3


def test_what_nobody_can_send_is_named(pool: procpool.Pool) -> None:
    lock = threading.Lock()
    with pytest.raises(TypeError, match="lock"):
        pool.apply(lambda: lock)
    with pytest.raises(TypeError, match="lock"):
        pool.apply(tasks.same, ({"deep": [1, (2, lock)]},))
    assert pool.apply(tasks.same, (1,)) == 1


WITHOUT = """
    import sys
    sys.modules["cloudpickle"] = None
    import procpool, tasks

    if __name__ == "__main__":
        with procpool.Pool(1) as pool:
            def local():
                pass
            for function, argument in ((lambda: 1, ()), (local, ()), (tasks.same, (lambda: 2,))):
                try:
                    pool.apply(function, argument)
                except Exception as error:
                    print(type(error).__name__, error)
            print(pool.apply(tasks.square, (3,)))
        with procpool.ProcessPoolExecutor(1) as executor:
            print(type(executor.submit(lambda: 1).exception()).__name__)
"""


def test_without_cloudpickle_the_error_says_what_cannot_be_sent_and_what_to_do(tmp_path: Any) -> None:
    lines = run(tmp_path, WITHOUT).check().splitlines()
    assert len(lines) == 5, lines
    for line, name in zip(lines, ("lambda", "local")):
        assert line.startswith(("AttributeError", "PicklingError")) and name in line and "cloudpickle" in line
    assert lines[2].startswith(("AttributeError", "PicklingError")) and "lambda" in lines[2]
    assert lines[3] == "9" and lines[4] in ("AttributeError", "PicklingError")


def test_cloudpickle_is_not_imported_where_it_is_not_needed(tmp_path: Any) -> None:
    finished = run(
        tmp_path,
        """
        import sys, procpool, tasks
        if __name__ == "__main__":
            with procpool.Pool(1) as pool:
                pool.map(tasks.square, range(10))
            print("cloudpickle" in sys.modules)
        """,
    )
    assert finished.check() == "False\n"


# ---- a program without a file ----


def test_functions_of_a_prompt(start_method: str) -> None:
    lines = f"""
import multiprocessing, procpool
context = multiprocessing.get_context("{start_method}")
pool = procpool.Pool(2, context=context)
def square(x):
    return x * helper(x)

def helper(x):
    return x

print("squares", pool.map(square, range(4)))
def helper(x):
    return -x

print("later", pool.map(square, range(4)))
pool.close(); pool.join()
print("ended")
"""
    finished = Program("-i", "-q", text=lines).finish()
    output = finished.check()
    assert "squares [0, 1, 4, 9]" in output, finished
    assert "later [0, -1, -4, -9]" in output and "ended" in output, finished


def test_objects_of_classes_of_a_prompt(start_method: str) -> None:
    lines = f"""
import multiprocessing, procpool
pool = procpool.Pool(1, context=multiprocessing.get_context("{start_method}"))
class Thing:
    def __init__(self, value):
        self.value = value

def grow(thing):
    return Thing(thing.value + 1)

print("things", [type(thing) is Thing and thing.value for thing in pool.map(grow, [Thing(3), Thing(4)])])
pool.close(); pool.join()
"""
    finished = Program("-i", "-q", text=lines).finish()
    assert "things [4, 5]" in finished.check(), finished


def test_functions_of_a_program_given_by_c(start_method: str) -> None:
    code = (
        "import multiprocessing, procpool\n"
        "def square(x): return x * x\n"
        f"with procpool.Pool(2, context=multiprocessing.get_context('{start_method}')) as pool:\n"
        "    print(pool.map(square, range(4)))\n"
    )
    assert Program("-c", code).finish().check() == "[0, 1, 4, 9]\n"


def test_functions_of_a_program_given_by_standard_input(start_method: str) -> None:
    code = (
        "import multiprocessing, procpool\n"
        "def square(x): return x * x\n"
        f"with procpool.Pool(2, context=multiprocessing.get_context('{start_method}')) as pool:\n"
        "    print(pool.map(square, range(4)))\n"
    )
    finished = Program("-", text=code).finish()
    if start_method == "fork":
        assert finished.check() == "[0, 1, 4, 9]\n"
    else:
        # Workers of these methods import the main module, which has no file: it works or says so.
        assert finished.output == "[0, 1, 4, 9]\n" or "<stdin>" in finished.errors, finished


# ---- reducers ----


class Special:
    """It can only be sent by a reducer of its own."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __reduce__(self) -> Any:
        raise TypeError("only by a reducer")


def reduce_special(special: Special) -> Any:
    return Special, (special.value,)


@pytest.mark.parametrize("where", ["copyreg", "multiprocessing"])
def test_registered_reducers_are_used(pool: procpool.Pool, where: str) -> None:
    table: Any = copyreg.dispatch_table if where == "copyreg" else reduction.ForkingPickler._extra_reducers  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="only by a reducer"):
        pool.apply(tasks.value_of, (Special(3),))
    # After the first task, and so after everything was read once.
    table[Special] = reduce_special
    try:
        assert pool.apply(tasks.value_of, (Special(3),)) == 3
        assert procpool_value(Special(4)) == 4
    finally:
        del table[Special]
    with pytest.raises(TypeError, match="only by a reducer"):
        pool.apply(tasks.value_of, (Special(3),))


def procpool_value(special: Special) -> int:
    """By a pool that is made now, whose workers know the reducer too."""
    with procpool.Pool(1, context=multiprocessing.get_context("fork")) as pool:
        value: int = pool.apply(tasks.same, (special,)).value
    pool.join()
    return value


# ---- what comes back is what was sent ----


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        10**400,
        -0.0,
        1e308,
        3 + 4j,
        "ünïcode \U0001f40d \ud800",
        b"\0bytes",
        bytearray(b"array"),
        (1, (2, [3, {4: {5}}])),
        frozenset({1, 2}),
        range(5),
        slice(1, 2, 3),
        Ellipsis,
        NotImplemented,
        int,
        collections.OrderedDict(a=1),
        collections.Counter("aab"),
        {"key": [None] * 1000},
        "x" * 5_000_000,
        b"y" * 5_000_000,
        list(range(200_000)),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_values_come_back_equal(pool: procpool.Pool, value: Any) -> None:
    result = pool.apply(tasks.same, (value,))
    assert type(result) is type(value) and repr(result) == repr(value)


def test_identity_within_one_value_is_kept(pool: procpool.Pool) -> None:
    shared: list[Any] = [1]
    shared.append(shared)
    first, second = pool.apply(tasks.same, ([shared, shared],))
    assert first is second and first[1] is first


def test_arguments_are_copied(pool: procpool.Pool) -> None:
    mutable = [1]
    result = pool.apply_async(tasks.same_slowly, (0, 0.05))
    later = pool.apply_async(tasks.same, (mutable,))
    mutable.append(2)
    assert later.get(LONG) == [1]
    result.get(LONG)


class Chain:
    """Has every attribute, each of which is itself."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, number: int) -> int:
        return number + 1


def test_an_object_that_has_every_attribute_can_be_called(pool: procpool.Pool) -> None:
    assert pool.apply(Chain(), (1,)) == 2


class Shy:
    """Can be neither pickled nor shown."""

    def __reduce__(self) -> Any:
        raise TypeError("not to be pickled")

    def __repr__(self) -> str:
        raise ValueError("not to be shown")


def make_shy() -> Any:
    return Shy()


def test_a_result_that_can_neither_be_pickled_nor_shown_costs_no_worker(pool: procpool.Pool) -> None:
    with pytest.raises(MaybeEncodingError, match="Shy object at .*not to be pickled"):
        pool.apply(make_shy)
    assert pool.stats().restarts == 0
