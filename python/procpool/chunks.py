"""How many items are one task where that is left to the pool: `chunksize="auto"`.

A map has all of its items at the call, and all are handed over then, before anything is known of what they cost. They are
cut by their number, so that it matters little how unevenly they cost. An iterator's items come one by one, perhaps without
end, and somebody waits for the next result: they are cut by the time that the chunks before them took.
"""

from __future__ import annotations

import itertools
import operator
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Iterator, Literal, Optional, Union

    Chunksize = Union[int, Literal["auto"]]

#: No chunk of a map is more than an 8th of a worker's share in what is left, nor less than a 32nd of its share in the
#: whole. So does the Rust crate, and ARCHITECTURE.md says why.
LARGEST, SMALLEST = 8, 32

#: How long a chunk of an iterator is meant to run, in seconds: much longer than it takes to send one, and no time to wait.
SPAN = 0.001

#: How many chunks of an iterator are under way for each worker: the one that runs, and those that wait meanwhile.
AHEAD = 3


def checked_chunksize(chunksize: Chunksize) -> Chunksize:
    """How many items are one task, as the caller says it."""
    if chunksize == "auto":
        return chunksize
    checked = operator.index(chunksize)
    if checked < 1:
        raise ValueError(f"Chunksize must be 1+, not {checked:n}")
    return checked


def batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Chunks of one size."""
    items = iter(items)
    while batch := list(itertools.islice(items, size)):
        yield batch


def guided(items: Iterable[Any], length: int, workers: int) -> Iterator[list[Any]]:
    """Small chunks first, so that workers begin soon, then larger ones, and small ones at the end, so that workers end
    together. There may be more items than `length`."""
    items = iter(items)
    size = least = max(1, -(-length // (SMALLEST * workers)))
    left = length
    while batch := list(itertools.islice(items, size)):
        yield batch
        left -= size
        size = max(least, min(2 * size, -(-left // (LARGEST * workers))))


class Pace:
    """Chunks that begin with one item, and grow until one takes `SPAN`.

    What an item costs is told by how many have ended since the last look; what it costs to send it, and to wait for the
    input, is in there as well.
    """

    def __init__(
        self, workers: int, ahead: int, limit: Optional[int] = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._workers = workers
        self._ahead = ahead
        self._limit = limit or sys.maxsize
        self._clock = clock
        self._looked = clock()
        self._size = 1
        #: Chunks that have not ended, as far as is known: their tasks, and how many items they have.
        self._under_way: list[tuple[Any, int]] = []

    def tasks(self, send: Callable[[Iterator[list[Any]]], Iterator[Any]], items: Iterable[Any]) -> Iterator[Any]:
        """What `send` makes of the chunks of `items`."""
        for task in send(self._cut(items)):
            self._under_way.append((task, self._size))
            yield task

    def _cut(self, items: Iterable[Any]) -> Iterator[list[Any]]:
        items = iter(items)
        while True:
            self._look()
            while len(self._under_way) >= self._ahead:
                # Another may end before the first does.
                self._under_way[0][0].wait(SPAN)
                self._look()
            batch = list(itertools.islice(items, self._size))
            if not batch:
                return
            yield batch

    def _look(self) -> None:
        """Learns from the chunks that have ended."""
        ended: list[tuple[Any, int]] = []
        still: list[tuple[Any, int]] = []
        for chunk in self._under_way:
            (ended if chunk[0].is_ended() else still).append(chunk)
        if not ended:
            return
        self._under_way = still
        counts = [count for _, count in ended]
        now = self._clock()
        span = max((now - self._looked) * self._workers, 1e-9)
        self._looked = now
        # What was too large is corrected at once, what was too small step by step: a lull may have hidden dear items.
        self._size = max(1, min(int(sum(counts) * SPAN / span), 2 * max(counts), self._limit))
