"""Big arrays: writable and aligned at the other side, without a copy there, and given back when nobody looks at them."""

from __future__ import annotations

import array
import ctypes
import gc
import multiprocessing
import os
import pickle
from typing import Any, Callable

import procpool
import pytest
import tasks
from waiting import LONG, wait_until

numpy = pytest.importorskip("numpy")

MIB = 1 << 20


def address(buffer: Any) -> int:
    view = memoryview(buffer).cast("B")
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


def is_in_the_arena(where: int) -> bool:
    """Whether the address is in memory that this process shares with workers."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            if "memfd:procpool" in line:
                begin, end = (int(number, 16) for number in line.split()[0].split("-"))
                if begin <= where < end:
                    return True
    return False


def numbers(count: int) -> Any:
    return numpy.arange(count, dtype=numpy.float64)


def array_of(count: int) -> Any:
    return array.array("d", range(count))


def bytes_of(count: int) -> bytearray:
    return bytearray(os.urandom(64) * (count // 8))


def view_of(count: int) -> memoryview:
    return memoryview(bytes_of(count))


KINDS: dict[str, Callable[[int], Any]] = {
    "numpy": numbers,
    "bytearray": bytes_of,
    "memoryview": view_of,
    "array": array_of,
}

every_kind = pytest.mark.parametrize("make", KINDS.values(), ids=list(KINDS))


@every_kind
@pytest.mark.parametrize("count", [0, 1, 100, 130, 10_000, 1_000_000])
def test_arrays_of_any_size_go_both_ways(pool: procpool.Pool, make: Any, count: int) -> None:
    value = make(count)
    result = pool.apply(tasks.same, (value,))
    assert type(result) is type(value)
    assert bytes(memoryview(result).cast("B") if len(result) else b"") == bytes(
        memoryview(value).cast("B") if len(value) else b""
    )


@every_kind
def test_results_are_writable_and_aligned(pool: procpool.Pool, make: Any) -> None:
    results = [pool.apply(tasks.same, (make(50_000),)) for _ in range(4)]
    for result in results:
        assert not memoryview(result).readonly
        result[3] = 7
        assert result[3] == 7
        if make is not array_of and make is not bytes_of:
            # These two own their memory, which is the interpreter's.
            assert address(result) % 64 == 0
    assert len({address(result) for result in results}) == 4


@every_kind
def test_arguments_are_writable_and_aligned(pool: procpool.Pool, make: Any) -> None:
    value = make(50_000)
    before = bytes(value)
    is_readonly, where, changed = pool.apply(tasks.change_first, (value,))
    assert not is_readonly and changed
    if make is not array_of and make is not bytes_of:
        assert where % 64 == 0
    # The worker has changed its own.
    assert bytes(value) == before


@pytest.mark.parametrize("make", [numbers, view_of], ids=["numpy", "memoryview"])
def test_results_are_not_copied(pool: procpool.Pool, make: Any) -> None:
    result = pool.apply(tasks.same, (make(1_000_000),))
    assert is_in_the_arena(address(result))
    several = pool.map(tasks.same, [make(100_000) for _ in range(3)], 1)
    assert all(is_in_the_arena(address(each)) for each in several)
    future_result = None
    with procpool.ProcessPoolExecutor(1) as executor:
        future_result = executor.submit(tasks.same, make(100_000)).result(LONG)
    assert is_in_the_arena(address(future_result))


def test_arguments_are_not_copied(pool: procpool.Pool) -> None:
    assert pool.apply(tasks.is_in_the_arena, (numbers(1_000_000),)) is True


@pytest.mark.parametrize("type_name", ["bytearray", "array"])
def test_owners_of_their_memory_are_out_of_band_too(pool: procpool.Pool, type_name: str) -> None:
    value = KINDS[type_name](1_000_000)
    assert bytes(pool.apply(tasks.same, (value,))) == bytes(value)


def test_shapes_types_and_orders_of_numpy(pool: procpool.Pool) -> None:
    for value in (
        numpy.ones((300, 40, 5), dtype=numpy.int16),
        numpy.asfortranarray(numpy.arange(10_000.0).reshape(100, 100)),
        numpy.arange(10_000.0)[::3],
        numpy.zeros((0, 5)),
        numpy.array(5.0),
        numpy.array(["a", None, 3], dtype=object),
        numpy.zeros(2000, dtype=[("x", "f4"), ("y", "i8")]),
        numpy.arange(5000).astype("datetime64[s]"),
        numpy.ma.masked_array(numpy.arange(3000.0), mask=numpy.arange(3000) % 2 == 0),
    ):
        result = pool.apply(tasks.same, (value,))
        assert type(result) is type(value) and result.dtype == value.dtype and result.shape == value.shape
        numpy.testing.assert_array_equal(result, value)
        assert result.flags.f_contiguous or not value.flags.f_contiguous


def test_readonly_stays_readonly_or_becomes_the_receivers_own(pool: procpool.Pool) -> None:
    value = numbers(10_000)
    value.flags.writeable = False
    numpy.testing.assert_array_equal(pool.apply(tasks.same, (value,)), value)
    assert bytes(pool.apply(tasks.same, (memoryview(bytes(5000)),))) == bytes(5000)


def test_formats_and_shapes_of_memoryviews(pool: procpool.Pool) -> None:
    for view in (
        memoryview(array.array("d", range(2000))),
        memoryview(bytearray(6000)).cast("i", (3, 500)),
        memoryview(bytearray(6000))[::2],
        memoryview(b""),
    ):
        result = pool.apply(tasks.same, (view,))
        assert (result.format, result.shape) == (view.format, view.shape) and result.tolist() == view.tolist()


def test_many_arrays_in_one_value(pool: procpool.Pool) -> None:
    value = {"a": [numbers(count) for count in (1, 1000, 100_000)], "b": (bytes_of(5000), array_of(3000), "text")}
    result = pool.apply(tasks.same, (value,))
    for sent, came in zip(value["a"], result["a"]):
        numpy.testing.assert_array_equal(sent, came)
    assert result["b"] == value["b"]


def test_one_array_twice_is_one_array(pool: procpool.Pool) -> None:
    value = numbers(10_000)
    first, second = pool.apply(tasks.same, ([value, value],))
    assert first is second


def test_objects_of_programs_with_buffers_of_their_own(pool: procpool.Pool) -> None:
    result = pool.apply(tasks.same, (tasks.Holder(bytearray(b"z" * 100_000)),))
    assert type(result) is tasks.Holder and bytes(result.data) == b"z" * 100_000


def test_with_every_start_method(context: Any) -> None:
    with procpool.Pool(1, context=context) as pool:
        value = numbers(100_000)
        result = pool.apply(tasks.same, (value,))
        numpy.testing.assert_array_equal(result, value)
        assert is_in_the_arena(address(result))
        del result
    pool.join()


# ---- memory is given back ----


def shared_memory() -> int:
    """Bytes of shared memory that this process has in its mappings of pools."""
    total, is_pools = 0, False
    with open("/proc/self/smaps") as maps:
        for line in maps:
            if "-" in line.split()[0]:
                is_pools = "memfd:procpool" in line
            elif is_pools and line.startswith("Rss:"):
                total += int(line.split()[1]) << 10
    return total


def test_views_keep_their_memory_and_give_it_back(pool: procpool.Pool) -> None:
    value = numbers(4 * MIB)
    results = [pool.apply(tasks.same, (value,)) for _ in range(4)]
    for result in results:
        numpy.testing.assert_array_equal(result, value)
    assert shared_memory() >= 4 * 32 * MIB
    part = results[0][5:7]
    del results[1:], result
    gc.collect()
    results.clear()
    # A part is enough to keep the whole.
    assert part.tolist() == [5.0, 6.0]
    del part
    gc.collect()
    # An idle pool keeps some for the next task: 32 MiB of big blocks.
    wait_until(lambda: shared_memory() <= 40 * MIB, "the memory is given back")


def test_memory_is_used_again(pool: procpool.Pool) -> None:
    value = numbers(2 * MIB)
    for _ in range(5):
        pool.apply(tasks.same, (value,))
    most = shared_memory()
    for _ in range(60):
        pool.apply(tasks.same, (value,))
    assert shared_memory() <= most + 64 * MIB


def test_views_outlive_their_pool() -> None:
    with procpool.Pool(1) as pool:
        result = pool.apply(tasks.same, (numbers(100_000),))
        view = pool.apply(tasks.same, (view_of(100_000),))
    pool.join()
    del pool
    gc.collect()
    numpy.testing.assert_array_equal(result, numbers(100_000))
    result += 1
    view[0] = 5
    assert result[10] == 11.0 and view[0] == 5
    assert is_in_the_arena(address(result))
    where = address(result)
    del result, view
    gc.collect()
    assert not is_in_the_arena(where)


def test_a_result_is_not_touched_by_what_comes_after(pool: procpool.Pool) -> None:
    kept = [pool.apply(tasks.filled_array, (number, 20_000)) for number in range(50)]
    for number in range(200):
        pool.apply(tasks.filled_array, (-1, 20_000))
    for number, result in enumerate(kept):
        assert (result == number).all()


def test_what_a_dead_worker_held_is_used_again(pool: procpool.Pool) -> None:
    for _ in range(3):
        pool.apply_async(tasks.take_and_die, (numbers(2 * MIB),)).wait(LONG)
    most = shared_memory()
    for _ in range(20):
        pool.apply_async(tasks.take_and_die, (numbers(2 * MIB),)).wait(LONG)
    assert shared_memory() <= most + 128 * MIB


def test_a_worker_may_keep_what_it_was_given(pool: procpool.Pool) -> None:
    with procpool.Pool(1) as single:
        for number in range(20):
            single.apply(tasks.keep, (numpy.full(10_000, number),))
        assert single.apply(tasks.kept_sums) == [10_000 * number for number in range(20)]
    single.join()


def test_a_result_can_be_sent_on(pool: procpool.Pool) -> None:
    value = numbers(50_000)
    for _ in range(5):
        value = pool.apply(tasks.same, (value,))
    numpy.testing.assert_array_equal(value, numbers(50_000))
    with procpool.Pool(1) as other:
        numpy.testing.assert_array_equal(other.apply(tasks.same, (value,)), value)
    other.join()
    assert len(pickle.dumps(value)) > 400_000


def test_changing_an_argument_after_the_call_changes_nothing(pool: procpool.Pool) -> None:
    first = pool.map_async(tasks.same_slowly, [1, 2])
    value = numbers(100_000)
    later = pool.apply_async(tasks.same, (value,))
    value[:] = 0
    numpy.testing.assert_array_equal(later.get(LONG), numbers(100_000))
    first.get(LONG)


@pytest.mark.parametrize("make", [lambda size: b"b" * size, lambda size: "s" * size], ids=["bytes", "str"])
def test_large_bytes_and_text(pool: procpool.Pool, make: Any) -> None:
    value = make(40 * MIB)
    assert pool.apply(tasks.same, (value,)) == value
    assert pool.apply(len, (value,)) == 40 * MIB


def test_more_results_than_memory_wait_their_turn() -> None:
    with procpool.Pool(2) as pool:
        results = [pool.apply_async(tasks.filled_array, (number, MIB)) for number in range(64)]
        for number, result in enumerate(results):
            assert (result.get(LONG) == number).all()
        del result, results
    pool.join()


@pytest.mark.skipif(
    os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < 14 << 30, reason="it needs 14 GiB of free memory"
)
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["numpy", "bytes"])
def test_three_gibibytes_in_one_argument_and_in_one_result(kind: str) -> None:
    size = 3 << 30
    with procpool.Pool(1, context=multiprocessing.get_context("fork")) as pool:
        value: Any = numpy.zeros(size, dtype=numpy.uint8) if kind == "numpy" else bytes(size)
        assert pool.apply(len, (value,)) == size
        del value
        gc.collect()
        result = pool.apply(tasks.big, (kind, size))
        assert len(result) == size and result[-1] == 1
        del result
        gc.collect()
    pool.join()
