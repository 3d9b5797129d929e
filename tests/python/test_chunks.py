"""How many items are one task, and what follows from that."""

from __future__ import annotations

from functools import partial
from typing import Any, Iterator

import procpool
import pytest
import tasks
from procpool.pool import MaybeEncodingError
from waiting import LONG


class Claims:
    """An iterable whose length is not what it gives."""

    def __init__(self, length: int, items: int) -> None:
        self.length = length
        self.items = items

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.items))


@pytest.mark.parametrize(("items", "chunksize"), [(1, 1), (15, 1), (16, 1), (17, 2), (100, 7), (1000, 63)])
def test_by_default_each_worker_gets_about_four_chunks(items: int, chunksize: int) -> None:
    with procpool.Pool(4) as pool:
        assert pool.map(tasks.same, range(items)) == list(range(items))
        assert pool.stats().accepted == -(-items // chunksize)
        assert pool.map_async(tasks.same, range(items))._chunksize == chunksize
    pool.join()


@pytest.mark.parametrize("chunksize", [0, -1])
def test_chunks_of_nothing_are_refused(pool: procpool.Pool, chunksize: int) -> None:
    for call in (pool.map, pool.map_async, pool.starmap, pool.starmap_async, pool.imap, pool.imap_unordered):
        with pytest.raises(ValueError, match=rf"^Chunksize must be 1\+, not {chunksize}$"):
            call(tasks.same, [1, 2], chunksize=chunksize)
    assert pool.apply(tasks.same, (1,)) == 1


def test_half_a_chunk_is_refused(pool: procpool.Pool) -> None:
    for call in (pool.map, pool.map_async, pool.starmap, pool.imap, pool.imap_unordered):
        with pytest.raises(TypeError):
            call(tasks.same, [1, 2], chunksize=1.5)  # type: ignore[operator]
    pool.close()
    pool.join()


@pytest.mark.parametrize("chunksize", [None, 1, 2, 3])
def test_a_length_that_is_wrong_changes_no_result(pool: procpool.Pool, chunksize: int) -> None:
    assert pool.map_async(tasks.same, Claims(10, 5), chunksize).get(LONG) == [0, 1, 2, 3, 4]
    assert pool.map_async(tasks.same, Claims(3, 5), chunksize).get(LONG) == [0, 1, 2, 3, 4]
    assert pool.map_async(tasks.same, Claims(3, 0), chunksize).get(LONG) == []


def test_an_exception_discards_the_rest_of_its_chunk(pool: procpool.Pool, tmp_path: Any) -> None:
    path = str(tmp_path / "log")
    calls: list[tuple[Any, ...]] = [(tasks.note, path, number) for number in range(6)]
    calls[1] = (tasks.fail,)
    with pytest.raises(ValueError):
        pool.starmap(tasks.call, calls, chunksize=3)
    assert sorted(open(path).read().split()) == ["0", "3", "4", "5"]


def test_a_chunk_counts_as_one_task_of_a_worker() -> None:
    with procpool.Pool(1, maxtasksperchild=2) as pool:
        pids = pool.map(tasks.pid, range(12), chunksize=3)
    pool.join()
    assert [pids.index(pid) for pid in dict.fromkeys(pids)] == [0, 6]


def test_a_result_that_cannot_be_pickled_is_shown_with_its_chunk(pool: procpool.Pool) -> None:
    with pytest.raises(MaybeEncodingError) as caught:
        pool.map(tasks.lock_as_result, [1, tasks.BAD, 3], chunksize=3)
    assert caught.value.value.startswith("[1, <unlocked _thread.lock object") and caught.value.value.endswith(", 3]")


def test_imap_with_chunks_gives_items(pool: procpool.Pool) -> None:
    assert list(pool.imap(tasks.square, range(20), chunksize=3)) == [number * number for number in range(20)]
    unordered = pool.imap_unordered(tasks.square, range(20), chunksize=3)
    assert sorted(unordered) == [number * number for number in range(20)]


def test_imap_with_chunks_goes_on_after_an_error(pool: procpool.Pool) -> None:
    results = pool.imap(partial(tasks.fail_at, 4), range(9), chunksize=3)
    assert [next(results), next(results), next(results)] == [0, 1, 2]
    with pytest.raises(ValueError):
        next(results)
    assert list(results) == [6, 7, 8]
    assert list(results) == []
