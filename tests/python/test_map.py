"""Many tasks that are waited for together: `map`, `starmap` and their `_async` kin."""

from __future__ import annotations

import os
import sys
import threading
from functools import partial
from typing import Any, Iterator

import procpool
import pytest
import tasks
from waiting import LONG, wait_until


def test_map_keeps_the_order(pool: procpool.Pool) -> None:
    assert pool.map(tasks.square, range(1000)) == [number * number for number in range(1000)]


@pytest.mark.parametrize("chunksize", [1, 2, 7, 99, 100, 1000])
def test_map_with_chunks(pool: procpool.Pool, chunksize: int) -> None:
    expected = [number * number for number in range(100)]
    assert pool.map(tasks.square, range(100), chunksize) == expected
    assert pool.map(tasks.square, iter(range(100)), chunksize=chunksize) == expected
    assert pool.map_async(tasks.square, range(100), chunksize).get(LONG) == expected


def test_starmap_spreads_its_items(pool: procpool.Pool) -> None:
    pairs = list(zip(range(50), range(50)))
    assert pool.starmap(tasks.add, pairs) == [2 * number for number in range(50)]
    assert pool.starmap(tasks.add, pairs, chunksize=4) == [2 * number for number in range(50)]
    assert pool.starmap(tasks.add, iter([(1,), [2, 3]])) == [11, 5]
    assert pool.starmap_async(tasks.add, pairs).get(LONG) == [2 * number for number in range(50)]


def test_map_takes_a_generator(pool: procpool.Pool) -> None:
    assert pool.map(tasks.square, (number for number in range(20))) == [number * number for number in range(20)]


def test_map_of_nothing_is_ready_at_once_and_calls_nothing(pool: procpool.Pool) -> None:
    called: list[Any] = []
    for empty in ([], iter([])):
        result = pool.map_async(tasks.square, empty, callback=called.append, error_callback=called.append)
        assert result.ready() and result.successful()
        assert result.get() == []
    assert pool.map(tasks.square, []) == [] and pool.starmap(tasks.add, []) == []
    assert pool.apply(abs, (-1,)) == 1
    assert called == []


def test_one_error_is_the_error_of_all(pool: procpool.Pool) -> None:
    with pytest.raises(ValueError) as caught:
        pool.map(partial(tasks.fail_at, 5), range(10), chunksize=1)
    assert caught.value.args == (5,)
    with pytest.raises(ValueError):
        pool.map(partial(tasks.fail_at, 5), range(10))


def test_map_waits_for_all_chunks_also_after_an_error(pool: procpool.Pool, tmp_path: os.PathLike[str]) -> None:
    gate = os.path.join(tmp_path, "gate")
    calls: list[tuple[Any, ...]] = [(tasks.fail,), (tasks.wait_for_file, gate)]
    result = pool.starmap_async(tasks.call, calls, chunksize=1)
    # The failing chunk is over once its worker has done something else.
    assert pool.apply(abs, (-1,)) == 1
    result.wait(0.1)
    assert not result.ready()
    open(gate, "w").close()
    with pytest.raises(ValueError):
        result.get(LONG)


def test_an_input_that_fails_while_it_is_listed_fails_at_the_call(pool: procpool.Pool) -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    with pytest.raises(LookupError):
        pool.map_async(tasks.square, numbers())


def test_an_input_with_a_length_that_fails_later_fails_in_get(pool: procpool.Pool) -> None:
    class Numbers:
        def __len__(self) -> int:
            return 3

        def __iter__(self) -> Iterator[int]:
            yield 1
            raise LookupError("no more")

    result = pool.map_async(tasks.square, Numbers(), 1)
    with pytest.raises(LookupError):
        result.get(LONG)
    assert pool.map(tasks.square, [2]) == [4]


def test_map_of_no_iterable_fails_at_the_call(pool: procpool.Pool) -> None:
    with pytest.raises(TypeError):
        pool.map_async(tasks.square, 5)  # type: ignore[arg-type]


def test_map_with_one_worker_runs_in_order(tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "log")
    with procpool.Pool(1) as pool:
        pool.map(partial(tasks.note, path), range(50), chunksize=1)
    pool.join()
    assert open(path).read().split() == [str(number) for number in range(50)]


def test_maps_from_several_pools_at_once() -> None:
    with procpool.Pool(1) as one, procpool.Pool(2) as two:
        first = one.map_async(tasks.square, range(200))
        second = two.map_async(tasks.same, range(200))
        assert second.get(LONG) == list(range(200))
        assert first.get(LONG) == [number * number for number in range(200)]
    one.join()
    two.join()


def test_what_cannot_be_sent_among_many_is_the_error_and_the_rest_runs(pool: procpool.Pool) -> None:
    before = pool.stats().done
    items: list[Any] = [*range(1000)]
    items[600] = threading.Lock()
    with pytest.raises(TypeError, match="lock"):
        pool.map(tasks.same, items, chunksize=1)
    wait_until(lambda: pool.stats().done - before == 999, "all others are counted")


def test_an_error_among_many_is_raised_and_the_first_of_several(pool: procpool.Pool) -> None:
    calls = [partial(tasks.same, number) for number in range(1000)]
    for number in (500, 900):
        calls[number] = partial(tasks.raise_error, ValueError(number))
    result = pool.map_async(tasks.call, calls, chunksize=1)
    with pytest.raises(ValueError, match="500"):
        result.get(LONG)


def test_a_map_that_was_waited_for_in_vain_has_all_its_values_later(pool: procpool.Pool, tmp_path: Any) -> None:
    gate = tmp_path / "gate"
    calls = [partial(tasks.same, number) for number in range(200)]
    calls[100] = partial(tasks.wait_for_file, str(gate), 100)
    result = pool.map_async(tasks.call, calls, chunksize=1)
    with pytest.raises(procpool.TimeoutError):
        result.get(0.1)
    gate.touch()
    assert result.get(LONG) == list(range(200))


def test_a_map_is_ready_when_all_of_it_is_whoever_looks(pool: procpool.Pool) -> None:
    """Several threads look which chunk is the next to end, and take turns at any instruction."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(20):
            result: Any = pool.map_async(tasks.same, range(2000), 1)
            early: list[int] = []

            def look(result: Any = result, early: list[int] = early) -> None:
                while not result.ready():
                    pass
                early.append(result._number_left)

            threads = [threading.Thread(target=look) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(LONG)
            assert early == [0] * 4
            assert result.get(LONG) == list(range(2000))
    finally:
        sys.setswitchinterval(interval)
