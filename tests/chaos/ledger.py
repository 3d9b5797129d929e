"""What was entrusted to the pools, and what became of it. It is kept outside of them."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, Optional

import work
from process import Process
from work import Order

#: Bytes of payloads and replies: within a slot, within a small block, and beyond.
SIZES = [0, 10, 100, 1_000, 10_000, 100_000, 3_000_000]
OFTEN = [2, 6, 6, 6, 4, 2, 1]


class Target:
    """A pool under load."""

    def __init__(self, name: str, pool: Any, method: str, *, breaks: bool = False) -> None:
        self.name = name
        self.pool = pool
        self.method = method
        #: Whether any worker's death ends it: an executor that was asked for that.
        self.breaks = breaks
        #: How it is being ended, if it is.
        self.ending: Optional[str] = None
        #: All workers that it was seen to have.
        self.pids: set[int] = set()

    def __repr__(self) -> str:
        return self.name


class End(NamedTuple):
    """How an order ended, or several of them together."""

    orders: list[Order]
    error: Optional[BaseException]


class Entry:
    """One call of a pool."""

    def __init__(
        self, target: Target, call: str, orders: list[Order], timeout: Optional[float], retries: int, chunksize: int
    ) -> None:
        self.target = target
        self.call = call
        self.orders = orders
        self.timeout = timeout
        self.retries = retries
        self.chunksize = chunksize
        self.ends: list[End] = []
        #: What `cancel` said, and whether it was to end a running call as well.
        self.is_cancelled = False
        self.cancels_running = False
        self.wrong: list[str] = []

    def __repr__(self) -> str:
        return f"{self.call} of {self.target}, orders {[(order.number, order.behaviour) for order in self.orders][:8]}"

    def returned(self, values: list[Any], orders: list[Order]) -> None:
        """These orders ended with these values, which are looked at, and not kept."""
        for order, value in itertools.zip_longest(orders, values):
            if order is None or value != (order.number, work.answer(order)):
                self.wrong.append(f"order {order} ended with {str(value)[:100]}")
        self.ends.append(End(orders, None))

    def failed(self, error: BaseException, orders: list[Order]) -> None:
        """These orders ended with this error."""
        # Its traceback would keep the pool, and all that it holds.
        error.__traceback__ = error.__context__ = None
        self.ends.append(End(orders, error))

    def chunk_at(self, index: int) -> list[Order]:
        """The orders that travel together from there on."""
        return self.orders[index : index + self.chunksize]


class Ledger:
    """All calls."""

    def __init__(self, folder: Path) -> None:
        self.journal = folder / "journal"
        self.journal.touch()
        self.entries: list[Entry] = []
        #: What is wrong beyond single calls.
        self.violations: list[str] = []
        self._numbers = itertools.count(1)

    def order(self, rng: random.Random, behaviour: str = work.ANSWER) -> tuple[Order, Any]:
        """New work, and its payload."""
        payload, reply = rng.choices(SIZES, OFTEN, k=2)
        seconds = rng.choice([0, 0, 0, 0.001, 0.02])
        order = Order(next(self._numbers), str(self.journal), behaviour, seconds, payload, reply)
        return order, rng.choice(work.KINDS)(work.pattern(order.number, payload))

    def enter(
        self,
        target: Target,
        call: str,
        orders: list[Order],
        *,
        timeout: Optional[float] = None,
        retries: int = 0,
        chunksize: int = 1,
    ) -> Entry:
        """A call that is about to be made."""
        entry = Entry(target, call, orders, timeout, retries, chunksize)
        self.entries.append(entry)
        return entry

    def begun(self) -> dict[int, list[Process]]:
        """Which workers began each order, from the journal."""
        begun: dict[int, list[Process]] = {}
        for line in self.journal.read_text().splitlines():
            number, pid, start = map(int, line.split())
            begun.setdefault(number, []).append(Process(pid, start))
        return begun

    def outcomes(self) -> Counter[str]:
        """How many orders ended in which way."""
        outcomes: Counter[str] = Counter()
        for entry in self.entries:
            for end in entry.ends:
                name = "returned" if end.error is None else type(end.error).__name__
                outcomes[name] += len(end.orders) or entry.chunksize
        return outcomes
