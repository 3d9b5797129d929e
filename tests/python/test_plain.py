"""Numbers, short texts and small tuples of them, which travel without pickle: nobody sees a difference."""

from __future__ import annotations

import enum
import math
from typing import Any, NamedTuple

import procpool
import pytest
import tasks

EDGES = [2**bits + step for bits in (7, 8, 15, 16, 31, 32, 62, 63, 64, 2040) for step in (-1, 0, 1)]


class Text(str):
    pass


class Number(int):
    def __reduce__(self) -> Any:
        return Number, (int(self) + 1,)


class Colour(enum.IntEnum):
    RED = 1


class Pair(NamedTuple):
    left: int
    right: str


def told(value: Any) -> tuple[str, str]:
    return type(value).__name__, repr(value)


@pytest.mark.parametrize(
    "values",
    [
        [None, True, False, 0, 1, -1, *EDGES, *(-edge for edge in EDGES)],
        [0.0, -0.0, 1.5, -1e300, 5e-324, math.inf, -math.inf],
        [
            "",
            "a",
            "\0",
            "é",
            "日本",
            "\N{GRINNING FACE}",
            "\ud800",
            *("x" * length for length in (254, 255, 256, 70_000)),
        ],
        ["é" * 127, "é" * 128, b"", b"\0", b".", *(b"x" * length for length in (255, 256, 70_000))],
        [(), (1,), (1, "b"), (None, b"c", -0.0), (1, 2, 3, 4), ((),), (1, (2,)), ("x" * 255,) * 2, (b"x" * 256, 1)],
        [Text("a"), (Text("a"), 1), Colour.RED, (Colour.RED,), Pair(1, "a"), [1], {"a": 1}, bytearray(b"a"), 1j],
    ],
    ids=["whole numbers", "fractions", "texts", "bytes", "tuples", "others"],
)
def test_every_value_is_the_same_there_and_back(pool: procpool.Pool, values: list[Any]) -> None:
    expected = [told(value) for value in values]
    assert pool.map(told, values, chunksize=1) == expected
    assert [told(value) for value in pool.map(tasks.same, values, chunksize=1)] == expected
    assert pool.starmap(told, [(value,) for value in values], chunksize=1) == expected


def test_not_a_number_stays_none(pool: procpool.Pool) -> None:
    assert math.isnan(pool.apply(tasks.same, (math.nan,)))


def test_a_subclass_is_asked_how_it_is_reduced(pool: procpool.Pool) -> None:
    assert told(pool.apply(told, (Number(5),))) == told(("Number", "6"))
    assert type(pool.apply(tasks.same, (Number(5),))) is Number


@pytest.mark.parametrize("item", ["some text", b"some bytes"])
def test_the_same_object_twice_is_one_object_again(pool: procpool.Pool, item: Any) -> None:
    there_and_back = pool.apply(tasks.same, ((item, item, 1),))
    assert there_and_back[0] is there_and_back[1]
