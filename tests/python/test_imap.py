"""Iterators over results: `imap` and `imap_unordered`."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import queue
import sys
import threading
from functools import partial
from typing import Any, Iterator

import procpool
import pytest
import tasks
from waiting import LONG, wait_until

BOTH = pytest.mark.parametrize("name", ["imap", "imap_unordered"])


def test_imap_gives_results_in_order(pool: procpool.Pool) -> None:
    assert list(pool.imap(tasks.square, range(500))) == [number * number for number in range(500)]


def test_imap_unordered_gives_each_result_once(pool: procpool.Pool) -> None:
    assert sorted(pool.imap_unordered(tasks.square, range(500))) == [number * number for number in range(500)]


def test_imap_unordered_gives_what_is_ready_first(pool: procpool.Pool, tmp_path: Any) -> None:
    gate = tmp_path / "gate"
    calls = [partial(tasks.wait_for_file, str(gate), "slow"), partial(tasks.same, "fast")]
    results = pool.imap_unordered(tasks.call, calls)
    assert results.next(LONG) == "fast"
    gate.touch()
    assert results.next(LONG) == "slow"


@BOTH
def test_next_can_be_asked_again_after_a_timeout(pool: procpool.Pool, tmp_path: Any, name: str) -> None:
    gate = tmp_path / "gate"
    results = getattr(pool, name)(tasks.wait_for_file, [str(gate)])
    for _ in range(3):
        with pytest.raises(multiprocessing.TimeoutError):
            results.next(timeout=0.02)
    gate.touch()
    assert results.next(timeout=LONG) is None
    for _ in range(2):
        with pytest.raises(StopIteration):
            results.next()


@BOTH
def test_next_times_out_while_the_input_gives_nothing(pool: procpool.Pool, name: str) -> None:
    more = threading.Event()

    def numbers() -> Iterator[int]:
        assert more.wait(LONG)
        yield 3

    results = getattr(pool, name)(tasks.square, numbers())
    with pytest.raises(multiprocessing.TimeoutError):
        results.next(timeout=0.02)
    more.set()
    assert results.next(timeout=LONG) == 9
    assert list(results) == []


@BOTH
def test_an_error_is_raised_in_its_place_and_the_rest_goes_on(pool: procpool.Pool, name: str) -> None:
    results = getattr(pool, name)(partial(tasks.fail_at, 2), range(5))
    seen: list[Any] = []
    while True:
        try:
            seen.append(next(results))
        except StopIteration:
            break
        except ValueError as error:
            seen.append(error.args)
    expected = [0, 1, (2,), 3, 4]
    assert seen == expected if name == "imap" else sorted(seen, key=str) == sorted(expected, key=str)


@BOTH
def test_an_input_that_raises_ends_the_iterator_after_what_came_before(pool: procpool.Pool, name: str) -> None:
    def numbers() -> Iterator[int]:
        yield from range(3)
        raise LookupError("no more")

    results = getattr(pool, name)(tasks.same, numbers())
    seen: list[Any] = []
    with pytest.raises(LookupError) as caught:
        for result in results:
            seen.append(result)
    assert sorted(seen) == [0, 1, 2]
    # It was not raised in a worker.
    assert caught.value.__cause__ is None
    assert list(results) == []


@BOTH
def test_an_input_that_raises_a_base_exception_ends_the_iterator_too(pool: procpool.Pool, name: str) -> None:
    def numbers() -> Iterator[int]:
        yield 0
        raise GeneratorExit

    results = getattr(pool, name)(tasks.same, numbers())
    assert results.next(LONG) == 0
    with pytest.raises((GeneratorExit, StopIteration)):
        results.next(LONG)


@BOTH
def test_an_interrupt_while_input_is_read_loses_no_result(pool: procpool.Pool, name: str) -> None:
    def numbers() -> Iterator[int]:
        yield from range(5)
        raise KeyboardInterrupt

    results = getattr(pool, name)(tasks.same, numbers(), buffersize=2)
    given = []
    with pytest.raises(KeyboardInterrupt):
        given.extend(iter(results.next, None))
    # What was read is given; then it is told that this was not all.
    with pytest.raises(KeyboardInterrupt):
        for _ in range(6):
            given.append(results.next(LONG))
    assert sorted(given) == list(range(5))
    with pytest.raises(StopIteration):
        results.next(LONG)


@BOTH
def test_no_iterable_is_a_type_error_of_the_first_next(pool: procpool.Pool, name: str) -> None:
    results = getattr(pool, name)(tasks.same, 5)
    with pytest.raises(TypeError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


@BOTH
def test_nothing_gives_nothing(pool: procpool.Pool, name: str) -> None:
    assert list(getattr(pool, name)(tasks.same, [])) == []
    assert list(getattr(pool, name)(tasks.same, [], chunksize=3)) == []
    assert list(getattr(pool, name)(tasks.same, [], buffersize=3)) == []


@BOTH
def test_an_iterator_keeps_its_pool(name: str) -> None:
    assert sorted(getattr(procpool.Pool(2), name)(tasks.square, range(50))) == [n * n for n in range(50)]


def test_next_and_dunder_next_are_one() -> None:
    from procpool.pool import IMapIterator, IMapUnorderedIterator

    assert IMapIterator.__next__ is IMapIterator.next
    assert issubclass(IMapUnorderedIterator, IMapIterator)


@BOTH
def test_the_input_is_read_without_anybody_who_takes_results(pool: procpool.Pool, name: str) -> None:
    read: list[int] = []
    readers: set[str] = set()

    def numbers() -> Iterator[int]:
        for number in range(100):
            readers.add(threading.current_thread().name)
            read.append(number)
            yield number

    results = getattr(pool, name)(tasks.same, numbers())
    wait_until(lambda: len(read) == 100, "the whole input is read")
    assert threading.current_thread().name not in readers
    assert sorted(results) == list(range(100))


@BOTH
def test_close_and_join_wait_for_the_input_that_was_given(pool: procpool.Pool, name: str) -> None:
    results = getattr(pool, name)(tasks.same_slowly, range(20))
    pool.close()
    pool.join()
    assert sorted(results) == list(range(20))


@BOTH
@pytest.mark.parametrize("chunksize", [1, 3])
def test_with_a_buffersize_the_input_is_read_as_results_are_taken(
    pool: procpool.Pool, name: str, chunksize: int
) -> None:
    read = itertools.count()
    given = 0

    def numbers() -> Iterator[int]:
        nonlocal given
        for given in read:
            yield given

    results = getattr(pool, name)(tasks.same, numbers(), chunksize, buffersize=6)
    for taken in range(60):
        assert taken < given + 1 <= taken + 6 + chunksize
        next(results)
    pool.terminate()


@BOTH
def test_with_a_buffersize_all_results_come(pool: procpool.Pool, name: str) -> None:
    for buffersize in (1, 2, 7, 1000):
        results = getattr(pool, name)(tasks.square, range(100), buffersize=buffersize)
        assert sorted(results) == sorted(number * number for number in range(100))
        results = getattr(pool, name)(tasks.square, range(100), 9, buffersize=buffersize)
        assert sorted(results) == sorted(number * number for number in range(100))


@BOTH
def test_a_half_taken_iterator_does_not_keep_close_and_join_waiting(pool: procpool.Pool, name: str) -> None:
    results = getattr(pool, name)(tasks.same, itertools.count(), buffersize=4)
    assert results.next(LONG) in range(4)
    pool.close()
    pool.join()
    rest = list(itertools.islice(results, 4))
    assert len(rest) == 4 and set(rest) <= set(range(5))
    # What was not read is not silently missing.
    with pytest.raises(ValueError, match="^Pool not running$"):
        next(results)
    assert list(results) == []


@BOTH
def test_input_that_was_read_to_its_end_is_not_missed_after_close(pool: procpool.Pool, name: str) -> None:
    results = getattr(pool, name)(tasks.same, range(3), buffersize=3)
    pool.close()
    pool.join()
    assert sorted(results) == [0, 1, 2]


@BOTH
def test_wrong_buffersizes(pool: procpool.Pool, name: str) -> None:
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="^buffersize must be None or > 0$"):
            getattr(pool, name)(tasks.same, [1], buffersize=wrong)
    with pytest.raises(TypeError, match="^buffersize must be an integer or None$"):
        getattr(pool, name)(tasks.same, [1], buffersize=1.5)


@BOTH
def test_many_threads_may_take_from_one_iterator(pool: procpool.Pool, name: str) -> None:
    results = getattr(pool, name)(tasks.same, range(2000))
    taken: list[int] = []

    def take() -> None:
        for result in results:
            taken.append(result)

    takers = [threading.Thread(target=take) for _ in range(4)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join(LONG)
    assert not any(taker.is_alive() for taker in takers)
    assert sorted(taken) == list(range(2000))


@BOTH
def test_every_thread_that_waits_is_given_what_comes(pool: procpool.Pool, name: str) -> None:
    items: queue.Queue[int] = queue.Queue()
    results = getattr(pool, name)(tasks.same, iter(items.get, -1))
    taken: queue.Queue[int] = queue.Queue()
    takers = [threading.Thread(target=lambda: taken.put(next(results)), daemon=True) for _ in range(3)]
    for taker in takers:
        taker.start()
    wait_until(lambda: len(results._condition._waiters) == 3, "they wait")
    for item in range(3):
        items.put(item)
        # The one that got the last item is not here any more, and the others still wait.
        assert taken.get(timeout=LONG) == item
    items.put(-1)
    for taker in takers:
        taker.join(LONG)
    assert list(results) == []


@BOTH
def test_results_are_taken_while_input_comes(pool: procpool.Pool, name: str) -> None:
    """Whoever reads the input and whoever takes results look at the same list, and take turns at any instruction."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(10):
            assert sorted(getattr(pool, name)(tasks.same, range(10_000))) == list(range(10_000))
    finally:
        sys.setswitchinterval(interval)


@BOTH
def test_an_item_is_submitted_when_it_comes_also_after_many(pool: procpool.Pool, name: str) -> None:
    last = threading.Event()

    def numbers() -> Iterator[int]:
        yield from range(700)
        assert last.wait(LONG)
        yield 700

    results = getattr(pool, name)(tasks.same, numbers())
    assert sorted(itertools.islice(results, 700)) == list(range(700))
    last.set()
    assert list(results) == [700]


@BOTH
def test_after_terminate_an_endless_input_is_read_no_more(name: str) -> None:
    with procpool.Pool(1) as pool:
        iterator = getattr(pool, name)(tasks.same, itertools.count())
        next(iterator)
    pool.join()
    wait_until(lambda: iterator._length is not None, "the input is left alone")


@BOTH
def test_a_dropped_iterator_stops_nothing(pool: procpool.Pool, name: str) -> None:
    getattr(pool, name)(tasks.same, range(100))
    assert pool.apply(tasks.same, (1,)) == 1
    pool.close()
    pool.join()
    assert pool.stats().done == 101


@BOTH
def test_terminate_ends_the_wait_for_input(name: str) -> None:
    gate = threading.Event()

    def numbers() -> Iterator[int]:
        yield 1
        gate.wait(LONG)
        yield 2

    pool = procpool.Pool(1)
    results = getattr(pool, name)(tasks.same, numbers())
    assert next(results) == 1
    ender = threading.Timer(0.05, pool.terminate)
    ender.start()
    with pytest.raises(procpool.Terminated):
        next(results)
    gate.set()
    ender.join(LONG)
    with pytest.raises(StopIteration):
        next(results)
    pool.join()


@BOTH
def test_input_that_waits_for_what_comes_after_it_is_told_so(pool: procpool.Pool, name: str) -> None:
    def numbers() -> Iterator[int]:
        yield 1
        yield next(results)

    results = getattr(pool, name)(tasks.same, numbers(), buffersize=1)
    assert next(results) == 1
    with pytest.raises(RuntimeError, match="the input of this iterator waits for a result that comes after it"):
        next(results)


@BOTH
def test_a_pool_is_collected_though_its_iterator_was_not_read_to_its_end(name: str) -> None:
    pool = procpool.Pool(1)
    children = list(pool._pool)
    results = getattr(pool, name)(tasks.same, range(5))
    next(results)
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool"):
        del pool, results
        wait_until(lambda: gc.collect() is None or children[0].exitcode is not None, "the pool is ended")
