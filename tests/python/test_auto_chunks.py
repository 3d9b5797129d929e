"""`chunksize="auto"`: how items are cut where the caller leaves it to the pool."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any, Callable, Iterator, Optional

import procpool
import pytest
import tasks
from procpool.chunks import LARGEST, SMALLEST, SPAN, Pace, guided
from waiting import LONG, wait_until

LENGTHS = [0, 1, 2, 3, 15, 16, 17, 63, 64, 65, 1000, 12_345]
ITERATORS = ["imap", "imap_unordered"]


def accepted_for(pool: procpool.Pool, call: Callable[[], Any]) -> int:
    before = pool.stats().accepted
    call()
    return pool.stats().accepted - before


# ---- maps ----


@pytest.mark.parametrize("length", LENGTHS)
def test_maps_give_the_same_as_with_chunks_of_one_size(pool: procpool.Pool, length: int) -> None:
    squares = [number * number for number in range(length)]
    assert pool.map(tasks.square, range(length), chunksize="auto") == squares
    assert pool.map(tasks.square, iter(range(length)), chunksize="auto") == squares
    assert pool.map_async(tasks.square, range(length), "auto").get(LONG) == squares
    pairs = zip(range(length), range(length))
    assert pool.starmap(tasks.add, pairs, chunksize="auto") == [2 * number for number in range(length)]


def test_many_items_are_few_chunks(pool: procpool.Pool) -> None:
    assert accepted_for(pool, lambda: pool.map(tasks.same, range(100_000), "auto")) == 39


def test_few_items_keep_all_workers_busy(pool: procpool.Pool, tmp_path: Any) -> None:
    processes = pool.map(partial(tasks.meet, workers=2), [str(tmp_path)] * 4, chunksize="auto")
    assert len(set(processes)) == 2


def test_chunks_grow_at_first_and_shrink_at_the_end() -> None:
    for length, workers in itertools.product([1000, 100_000], [1, 2, 16]):
        sizes = [len(batch) for batch in guided(range(length), length, workers)]
        assert sum(sizes) == length
        largest = sizes.index(max(sizes))
        assert sizes[: largest + 1] == sorted(sizes[: largest + 1])
        assert sizes[largest:] == sorted(sizes[largest:], reverse=True)
        assert len(sizes) <= 21 * workers
        left = length
        for size in sizes:
            assert size <= max(-(-left // (LARGEST * workers)), -(-length // (SMALLEST * workers)))
            left -= size


def test_the_rust_crate_cuts_in_the_same_way() -> None:
    assert [len(batch) for batch in guided(range(100), 100, 2)][:8] == [2, 4, 6, 6, 6, 5, 5, 5]
    assert [len(batch) for batch in guided(range(20), 20, 2)][:4] == [1, 2, 2, 1]


def test_a_length_that_is_wrong_changes_no_result() -> None:
    for claimed in (0, 3, 100):
        assert [item for batch in guided(range(10), claimed, 2) for item in batch] == list(range(10))


def test_a_dead_worker_costs_its_chunk(pool: procpool.Pool) -> None:
    numbers = list(range(100, 200))
    numbers[7] = tasks.BAD
    results = pool.imap(tasks.killed, numbers, chunksize="auto")
    ends: list[Any] = []
    lost = 0
    while True:
        try:
            ends.append(next(results))
        except StopIteration:
            break
        except procpool.WorkerDied:
            lost += 1
    assert lost == 1
    assert tasks.BAD not in ends and ends == sorted(set(ends)) and ends[0] == 100 and ends[-1] == 199
    with pytest.raises(procpool.WorkerDied):
        pool.map(tasks.killed, numbers, chunksize="auto")
    assert pool.map(tasks.same, range(3), chunksize="auto") == [0, 1, 2]


def test_other_words_are_refused(pool: procpool.Pool) -> None:
    for call in (pool.map, pool.map_async, pool.starmap, pool.imap, pool.imap_unordered):
        with pytest.raises(TypeError):
            call(tasks.same, [1, 2], chunksize="automatic")  # type: ignore[operator]
    pool.close()
    pool.join()


# ---- iterators ----


@pytest.mark.parametrize("buffersize", [None, 1, 10, 1000])
@pytest.mark.parametrize("length", LENGTHS)
def test_iterators_give_the_same_as_with_chunks_of_one_size(
    pool: procpool.Pool, length: int, buffersize: Optional[int]
) -> None:
    squares = [number * number for number in range(length)]
    assert list(pool.imap(tasks.square, range(length), "auto", buffersize)) == squares
    assert sorted(pool.imap_unordered(tasks.square, iter(range(length)), "auto", buffersize)) == squares


@pytest.mark.parametrize("name", ITERATORS)
def test_the_first_items_of_an_iterator_keep_all_workers_busy(pool: procpool.Pool, name: str, tmp_path: Any) -> None:
    results = getattr(pool, name)(partial(tasks.meet, workers=2), [str(tmp_path)] * 4, chunksize="auto")
    assert len(set(results)) == 2


@pytest.mark.parametrize("name", ITERATORS)
def test_an_endless_input_is_read_as_workers_need_it(pool: procpool.Pool, name: str, tmp_path: Any) -> None:
    read = itertools.count()

    def endless() -> Iterator[str]:
        while True:
            next(read)
            yield str(tmp_path / "gate")

    results = getattr(pool, name)(tasks.wait_for_file, endless(), chunksize="auto")
    wait_until(lambda: pool.stats().accepted >= 6, "three chunks for each worker")
    assert repr(read) == "count(6)"
    assert pool.stats().accepted == 6
    (tmp_path / "gate").touch()
    assert [next(results) for _ in range(20)] == [None] * 20
    pool.terminate()


@pytest.mark.parametrize("name", ITERATORS)
def test_close_and_join_wait_for_all_of_the_input(pool: procpool.Pool, name: str) -> None:
    results = getattr(pool, name)(tasks.square, range(5000), chunksize="auto")
    pool.close()
    pool.join()
    assert sorted(results) == [number * number for number in range(5000)]


def test_with_a_buffersize_no_more_is_read_ahead(pool: procpool.Pool) -> None:
    read = 0

    def numbers() -> Iterator[int]:
        nonlocal read
        for read in itertools.count(1):
            yield read

    results = pool.imap(tasks.same, numbers(), chunksize="auto", buffersize=60)
    for number in range(1, 2000):
        assert next(results) == number
        # Those of its own chunk are not taken yet.
        assert read <= number + 60 + 10
    pool.terminate()


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Chunk:
    """A task that ends when it is waited for."""

    def __init__(self, end: Callable[[], None] = lambda: None, ended: bool = True) -> None:
        self.end = end
        self.ended = ended

    def is_ended(self) -> bool:
        return self.ended

    def wait(self, timeout: float) -> None:
        self.end()
        self.ended = True


def sizes_for(costs: list[float], workers: int = 2, limit: Optional[int] = None) -> list[int]:
    """How many items each chunk takes where they cost so many seconds, and chunks end one after the other."""
    clock = Clock()
    pace = Pace(workers, ahead=6, limit=limit, clock=clock)
    sizes = []

    def send(chunks: Iterator[list[float]]) -> Iterator[Chunk]:
        for chunk in chunks:
            sizes.append(len(chunk))

            def end(span: float = sum(chunk) / workers) -> None:
                clock.now += span

            yield Chunk(end, ended=False)

    list(pace.tasks(send, costs))
    assert sum(sizes) == len(costs)
    return sizes


def test_chunks_of_cheap_items_grow_until_one_takes_the_span() -> None:
    sizes = sizes_for([SPAN / 100] * 10_000)
    assert sizes[0] == 1
    assert 90 <= max(sizes) <= 101
    assert sum(size > 90 for size in sizes) > 50
    assert all(later <= 2 * max(earlier, 1) for earlier, later in zip(sizes, sizes[1:]))


def test_dear_items_travel_alone() -> None:
    assert sizes_for([SPAN * 2] * 50) == [1] * 50


def test_chunks_shrink_where_items_become_dear() -> None:
    sizes = sizes_for([SPAN / 100] * 2000 + [SPAN * 2] * 2000)
    assert max(sizes) > 50
    assert sizes[-100:] == [1] * 100


def test_chunks_have_a_limit() -> None:
    assert max(sizes_for([0.0] * 1000, limit=10)) == 10


def test_only_so_many_chunks_are_under_way() -> None:
    under_way = most = 0
    pace = Pace(2, ahead=6)

    def end() -> None:
        nonlocal under_way
        under_way -= 1

    def send(chunks: Iterator[list[int]]) -> Iterator[Chunk]:
        nonlocal under_way, most
        for _ in chunks:
            under_way += 1
            most = max(most, under_way)
            yield Chunk(end, ended=False)

    list(pace.tasks(send, range(1000)))
    assert most == 6
