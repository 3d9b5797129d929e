"""Whether what the ledger says may be: each order ended once, and each failure has a cause that somebody has owned up to."""

from __future__ import annotations

import itertools
import signal
from collections import Counter
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import work
from ledger import End, Entry, Ledger
from process import Process
from procpool import CancelledError, TaskTimeout, Terminated, WorkerDied
from work import Order

#: Signals that end a worker.
LETHAL = (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM)


class Sent(NamedTuple):
    """A signal, as the adversary wrote it down before it was sent."""

    time: float
    number: int
    process: Process


def read_log(path: Path) -> list[Sent]:
    """The adversary's log."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [
        Sent(float(when), int(number), Process(int(pid), int(start)))
        for when, number, pid, start in map(str.split, lines)
    ]


class Judge:
    """Compares the ledger with the journal of the workers and the log of the adversary."""

    def __init__(self, ledger: Ledger, sent: list[Sent], servers: set[int]) -> None:
        self._ledger = ledger
        self._begun = ledger.begun()
        self._lethal = {(entry.process, entry.number) for entry in sent if entry.number in LETHAL}
        self._shot = {process.pid for process, _ in self._lethal}
        #: Where a fork server was killed, nobody can tell how its workers end.
        self._servers_died = bool(self._shot & servers)
        #: Workers by their pids: there may have been several, one after the other.
        self._workers: dict[int, set[Process]] = {}
        for process in [*(process for process, _ in self._lethal), *itertools.chain(*self._begun.values())]:
            self._workers.setdefault(process.pid, set()).add(process)
        #: Workers whose death has failed a task.
        self._mourned: set[Process] = set()
        #: Pools of which a task has ended its worker, or was ended with it.
        self._fatal = {
            entry.target
            for entry in ledger.entries
            for order in entry.orders
            if order.behaviour not in (work.ANSWER, work.RAISE) and order.number in self._begun
        }

    def violations(self) -> list[str]:
        """All that is wrong."""
        return self._ledger.violations + [
            f"{entry!r}: {wrong}" for entry in self._ledger.entries for wrong in self._wrong(entry)
        ]

    def _wrong(self, entry: Entry) -> list[str]:
        wrong = entry.wrong + self._ended_otherwise_than_once(entry)
        for end in entry.ends:
            if end.error is None:
                wrong += [self._ran_wrongly(entry, order) for order in end.orders]
            else:
                wrong.append(self._unexplained(entry, end, end.error))
        return [each for each in wrong if each]

    # ---- once ----

    def _ended_otherwise_than_once(self, entry: Entry) -> list[str]:
        counts = Counter(order.number for end in entry.ends for order in end.orders)
        wrong = [f"order {number} ended {count} times" for number, count in counts.items() if count > 1]
        missing = [order for order in entry.orders if order.number not in counts]
        nameless = sum(not end.orders for end in entry.ends)
        if missing and not self._may_miss(entry) and len(self._chunks(entry, missing)) != nameless:
            wrong.append(f"{len(missing)} orders have no end, and {nameless} errors name none: {missing[:5]}")
        return wrong

    def _may_miss(self, entry: Entry) -> bool:
        """Iterators of executors end with their first error; those of pools where the pool takes nothing any more."""
        errors = [end.error for end in entry.ends if end.error is not None]
        if entry.call == "executor.map":
            return bool(errors)
        return entry.target.ending == "terminate" or any(map(_is_refusal, errors))

    def _chunks(self, entry: Entry, orders: list[Order]) -> set[int]:
        first = entry.orders[0].number
        places = {order.number: place for place, order in enumerate(entry.orders)}
        assert first in places
        return {places[order.number] // entry.chunksize for order in orders}

    def _ran_wrongly(self, entry: Entry, order: Order) -> str:
        runs = len(self._begun.get(order.number, ()))
        if not 1 <= runs <= 1 + entry.retries:
            return f"order {order} has a value, and began {runs} times"
        return ""

    # ---- causes ----

    def _unexplained(self, entry: Entry, end: End, error: BaseException) -> str:
        orders = end.orders or entry.orders
        if self._explains(entry, orders, error):
            return ""
        pids = {order.number: self._begun.get(order.number) for order in orders}
        return f"{type(error).__name__} without a cause: {str(error)[:300]!r}; begun by {pids}"

    def _explains(self, entry: Entry, orders: list[Order], error: BaseException) -> bool:
        target = entry.target
        if isinstance(error, WorkerDied):
            return self._explains_death(entry, orders, error)
        if isinstance(error, work.Refused):
            return any(order.behaviour == work.RAISE and error.args == (order.number,) for order in orders)
        if isinstance(error, TaskTimeout):
            return entry.timeout is not None and error.ran >= entry.timeout and orders[0].behaviour == work.LINGER
        if isinstance(error, CancelledError):
            return self._explains_cancellation(entry, orders)
        if isinstance(error, Terminated):
            return target.ending == "terminate"
        if isinstance(error, BrokenProcessPool) and type(error).__name__ == "BrokenProcessPool":
            # An executor's word for one whose workers were ended.
            return target.ending in ("terminate", "kill") or self._explains_break(entry)
        if _is_refusal(error):
            return target.ending is not None
        return False

    def _explains_death(self, entry: Entry, orders: list[Order], death: WorkerDied) -> bool:
        begun = {process for order in orders for process in self._begun.get(order.number, ())}
        if entry.retries == 0 and entry.call != "imap_unordered" and not _is_map(entry):
            if {process.pid for process in begun} - {death.pid}:
                return False
        # Where the journal does not have it, it died before it could write there.
        suspects = {process for process in begun if process.pid == death.pid} or self._workers.get(death.pid, set())
        # One death costs one task.
        for process in sorted(suspects - self._mourned):
            if self._ended_so(process, orders, death):
                self._mourned.add(process)
                return True
        return False

    def _ended_so(self, process: Process, orders: list[Order], death: WorkerDied) -> bool:
        """Whether somebody ended this worker in the way that is told of."""
        if (process, death.signal) in self._lethal:
            return True
        if death.signal is None and death.exitcode is None:
            return self._servers_died
        behaviours = {order.behaviour for order in orders if process in self._begun.get(order.number, ())}
        if death.signal == signal.SIGKILL:
            return not behaviours.isdisjoint((work.DIE, work.DIE_ONCE))
        return death.exitcode == work.STATUS and work.EXIT in behaviours

    def _explains_cancellation(self, entry: Entry, orders: list[Order]) -> bool:
        if entry.is_cancelled:
            return entry.cancels_running or not any(order.number in self._begun for order in orders)
        return entry.target.ending in ("cancel", "terminate", "kill")

    def _explains_break(self, entry: Entry) -> bool:
        """An executor that was to break with its first worker, and lost one."""
        target = entry.target
        # Without its fork server nobody can tell that a worker left in good order.
        is_unknown = self._servers_died and target.method == "forkserver"
        return target.breaks and (target in self._fatal or bool(target.pids & self._shot) or is_unknown)


def _is_map(entry: Entry) -> bool:
    """A map fails as a whole, and other chunks ran elsewhere."""
    return entry.call in ("map", "map_async", "starmap")


def _is_refusal(error: BaseException) -> bool:
    return isinstance(error, (ValueError, RuntimeError)) and any(
        text in str(error) for text in ("not running", "cannot schedule new futures")
    )
