# mypy: warn-unused-ignores
"""What type checkers make of the calls: as much as of the standard library's. `make lint` checks it; it is not run."""

from __future__ import annotations

import concurrent.futures
import multiprocessing.pool
from typing import Iterator

import procpool
from typing_extensions import assert_type


def half(number: int) -> float:
    return number / 2


def show(value: float) -> None:
    print(value)


def show_all(values: list[float]) -> None:
    print(values)


def of_a_pool(pool: procpool.Pool) -> None:
    assert_type(pool.apply(half, (1,)), float)
    assert_type(pool.apply_async(half, (1,), callback=show).get(1.0), float)
    assert_type(pool.map(half, [1, 2]), list[float])
    assert_type(pool.map_async(half, range(3), callback=show_all).get(), list[float])
    assert_type(pool.starmap(half, [(1,)]), list[float])
    assert_type(pool.starmap_async(half, [(1,)]).get(), list[float])
    assert_type(next(pool.imap(half, [1], buffersize=2)), float)
    assert_type(list(pool.imap_unordered(half, [1], chunksize="auto")), list[float])
    assert_type(pool.options(timeout=1, retries=2).map(half, [1]), list[float])
    pool.map(half, ["1"])  # type: ignore[arg-type]


def of_an_executor(executor: procpool.ProcessPoolExecutor) -> None:
    assert_type(executor.submit(half, 1).result(), float)
    assert_type(executor.map(half, [1]), Iterator[float])
    assert_type(executor.options(deadline=1).submit(half, number=1).result(), float)
    executor.submit(half, "1")  # type: ignore[arg-type]
    executor.submit(half)  # type: ignore[call-arg]


async def in_a_coroutine(pool: procpool.Pool) -> None:
    assert_type(await pool.apply_async(half, (1,)), float)


def takes_what_the_standard_library_makes(
    pool: multiprocessing.pool.Pool, executor: concurrent.futures.Executor, future: concurrent.futures.Future[float]
) -> None:
    pass


with procpool.Pool(2) as pool, procpool.ProcessPoolExecutor(2) as executor:
    takes_what_the_standard_library_makes(pool, executor, executor.submit(half, 1))
