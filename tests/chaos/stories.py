"""What callers do to pools. Each story is a call or a few, up to their ends, which go into the ledger."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, Callable

import work
from ledger import Entry, Target
from procpool import TaskTimeout
from waiting import LONG
from work import Order

if TYPE_CHECKING:
    from callers import Caller

#: The timeout of calls that are to exceed it, in seconds; others never do.
SHORT = 0.2

Story = Callable[["Caller", Target], None]


class Hang(Exception):
    """A wait has not ended in any reasonable time."""


def settle(entry: Entry, get: Callable[[], Any]) -> None:
    """Waits for the end of a call that has one result for all of its orders."""
    try:
        value = get()
    except BaseException as error:
        entry.failed(as_hang(error), entry.orders)
    else:
        entry.returned(value if entry.call in MANY else [value], entry.orders)


def as_hang(error: BaseException) -> BaseException:
    """`error`, or that it says that the time was over."""
    timeouts = (multiprocessing.TimeoutError, concurrent.futures.TimeoutError)
    return Hang() if isinstance(error, timeouts) and not isinstance(error, TaskTimeout) else error


#: Calls whose value is a list.
MANY = ("map", "map_async", "starmap")


# ---- pools ----


def apply(caller: Caller, target: Target) -> None:
    order, payload = caller.order()
    entry = caller.enter(target, "apply", [order])
    settle(entry, lambda: target.pool.apply(work.carry_out, (order, payload)))


def apply_misbehaving(caller: Caller, target: Target) -> None:
    order, payload = caller.order(caller.rng.choice([work.RAISE, work.DIE, work.EXIT]))
    entry = caller.enter(target, "apply", [order])
    settle(entry, lambda: target.pool.apply(work.carry_out, (order,), {"payload": payload}))


def apply_async(caller: Caller, target: Target) -> None:
    """A row of calls that wait for nothing, with callbacks."""
    entries: list[tuple[Entry, Any, Counter[str]]] = []
    for _ in range(caller.rng.randrange(1, 40)):
        order, payload = caller.order(work.RAISE if caller.rng.random() < 0.05 else work.ANSWER)
        entry = caller.enter(target, "apply_async", [order])
        told: Counter[str] = Counter()
        try:
            result = target.pool.apply_async(
                work.carry_out, (order, payload), {}, _note(told, "value"), _note(told, "error")
            )
        except Exception as error:
            entry.failed(error, entry.orders)
            break
        entries.append((entry, result, told))
    for entry, result, told in entries:
        settle(entry, lambda result=result: result.get(LONG))
        wanted = "value" if entry.ends[0].error is None else "error"
        if told != {wanted: 1} and not isinstance(entry.ends[0].error, Hang):
            entry.wrong.append(f"its callbacks were called {dict(told)} times, and not once for its {wanted}")


def _note(told: Counter[str], what: str) -> Callable[[Any], None]:
    return lambda value: told.update([what])


def options(caller: Caller, target: Target) -> None:
    """Calls that exceed their time, calls that have time enough, and calls that need another attempt."""
    behaviour = caller.rng.choice([work.LINGER, work.ANSWER, work.DIE_ONCE])
    timeout = SHORT if behaviour == work.LINGER else LONG
    retries = {work.LINGER: caller.rng.randrange(2), work.ANSWER: caller.rng.randrange(2), work.DIE_ONCE: 2}[behaviour]
    order, payload = caller.order(behaviour)
    entry = caller.enter(target, "options", [order], timeout=timeout, retries=retries)
    calls = target.pool.options(timeout=timeout, retries=retries)
    if hasattr(calls, "submit"):
        settle(entry, lambda: calls.submit(work.carry_out, order, payload).result(LONG))
    else:
        settle(entry, lambda: calls.apply_async(work.carry_out, (order, payload)).get(LONG))


def cancel(caller: Caller, target: Target) -> None:
    """Cancels calls which may be queued, or running, or have ended."""
    lingers = caller.rng.random() < 0.5
    order, payload = caller.order(work.LINGER if lingers else work.ANSWER)
    entry = caller.enter(target, "cancel", [order])
    try:
        result = target.pool.apply_async(work.carry_out, (order, payload))
    except Exception as error:
        return entry.failed(error, entry.orders)
    caller.pause(0.05)
    entry.cancels_running = lingers
    entry.is_cancelled = result.cancel(running=lingers)
    settle(entry, lambda: result.get(LONG))


def map(caller: Caller, target: Target) -> None:
    pairs = caller.pairs(60)
    chunksize = caller.rng.choice([1, 4, 10])
    call = caller.rng.choice(MANY)
    entry = caller.enter(target, call, orders_of(pairs), chunksize=chunksize)
    if call == "map":
        settle(entry, lambda: target.pool.map(work.carry_out_pair, pairs, chunksize))
    elif call == "starmap":
        settle(entry, lambda: target.pool.starmap(work.carry_out, pairs, chunksize))
    else:
        settle(entry, lambda: target.pool.map_async(work.carry_out_pair, iter(pairs), chunksize).get(LONG))


def imap(caller: Caller, target: Target) -> None:
    pairs = caller.pairs(60)
    chunksize = caller.rng.choice([1, 1, 5])
    entry = caller.enter(target, "imap", orders_of(pairs), chunksize=chunksize)
    index = 0
    for value in _iterate(caller, target, entry, "imap", pairs):
        if isinstance(value, BaseException):
            entry.failed(value, entry.chunk_at(index))
            index += chunksize
        else:
            entry.returned([value], entry.orders[index : index + 1])
            index += 1


def imap_unordered(caller: Caller, target: Target) -> None:
    pairs = caller.pairs(60)
    chunksize = caller.rng.choice([1, 1, 5])
    entry = caller.enter(target, "imap_unordered", orders_of(pairs), chunksize=chunksize)
    orders = {order.number: order for order in entry.orders}
    for value in _iterate(caller, target, entry, "imap_unordered", pairs):
        if isinstance(value, BaseException):
            # Nobody says which one it was.
            entry.failed(value, [])
        else:
            entry.returned([value], [orders[value[0]]])


def _iterate(caller: Caller, target: Target, entry: Entry, call: str, pairs: list[Any]) -> Any:
    """All values and errors of an iterator over results."""
    buffersize = caller.rng.choice([None, None, 3, 20])
    try:
        iterator = getattr(target.pool, call)(work.carry_out_pair, iter(pairs), entry.chunksize, buffersize)
    except Exception as error:
        return entry.failed(error, entry.orders)
    while True:
        try:
            yield iterator.next(LONG)
        except StopIteration:
            return
        except Exception as error:
            yield as_hang(error)
            if isinstance(as_hang(error), Hang):
                return


def orders_of(pairs: list[tuple[Order, Any]]) -> list[Order]:
    return [order for order, payload in pairs]


# ---- executors ----


def submit(caller: Caller, target: Target) -> None:
    """A row of futures: waited for one by one, together, or as they come."""
    futures: dict[Any, Entry] = {}
    for _ in range(caller.rng.randrange(1, 40)):
        order, payload = caller.order(work.RAISE if caller.rng.random() < 0.05 else work.ANSWER)
        entry = caller.enter(target, "submit", [order])
        try:
            futures[target.pool.submit(work.carry_out, order, payload)] = entry
        except Exception as error:
            entry.failed(error, entry.orders)
            break
    how = caller.rng.choice(["one by one", "wait", "as_completed"])
    if how == "wait":
        for future in concurrent.futures.wait(futures, LONG).not_done:
            futures[future].wrong.append(f"wait has not ended with it: {future!r}")
    ready = concurrent.futures.as_completed(futures, LONG) if how == "as_completed" else list(futures)
    try:
        for future in ready:
            settle(futures[future], lambda future=future: future.result(LONG))
    except concurrent.futures.TimeoutError as error:
        caller.ledger.violations.append(f"{how} hangs: {error} in {target}")


def submit_misbehaving(caller: Caller, target: Target) -> None:
    order, payload = caller.order(caller.rng.choice([work.RAISE, work.DIE, work.EXIT]))
    entry = caller.enter(target, "submit", [order])
    settle(entry, lambda: target.pool.submit(work.carry_out, order, payload=payload).result(LONG))


def submit_with_callbacks(caller: Caller, target: Target) -> None:
    order, payload = caller.order()
    entry = caller.enter(target, "submit", [order])
    told: Counter[str] = Counter()
    ended = threading.Event()
    try:
        future = target.pool.submit(work.carry_out, order, payload)
    except Exception as error:
        return entry.failed(error, entry.orders)
    future.add_done_callback(lambda future: (told.update(["done"]), ended.set()))
    settle(entry, lambda: future.result(LONG))
    if not ended.wait(LONG) or told != {"done": 1}:
        entry.wrong.append(f"its callback was called {dict(told)} times")


def cancel_future(caller: Caller, target: Target) -> None:
    order, payload = caller.order()
    entry = caller.enter(target, "cancel", [order])
    try:
        future = target.pool.submit(work.carry_out, order, payload)
    except Exception as error:
        return entry.failed(error, entry.orders)
    caller.pause(0.02)
    entry.is_cancelled = future.cancel()
    settle(entry, lambda: future.result(LONG))


def executor_map(caller: Caller, target: Target) -> None:
    pairs = caller.pairs(60)
    chunksize, buffersize = caller.rng.choice([1, 1, 5]), caller.rng.choice([None, None, 3, 20])
    entry = caller.enter(target, "executor.map", orders_of(pairs), chunksize=chunksize)
    index = 0
    try:
        results = target.pool.map(work.carry_out_pair, pairs, timeout=LONG, chunksize=chunksize, buffersize=buffersize)
        for index, value in enumerate(results, 1):
            entry.returned([value], entry.orders[index - 1 : index])
    except Exception as error:
        entry.failed(as_hang(error), entry.chunk_at(index))


# ---- both ----


def resize(caller: Caller, target: Target) -> None:
    if target.ending is None:
        try:
            target.pool.resize(caller.rng.randrange(1, 5))
        except ValueError:
            if target.ending is None:
                raise


def look(caller: Caller, target: Target) -> None:
    """What anybody may ask at any time."""
    repr(target.pool)
    stats = target.pool.stats()
    if stats.queued < 0 or stats.running < 0 or stats.accepted < stats.queued:
        caller.ledger.violations.append(f"{target} says of itself {stats}")


POOL: dict[Story, int] = {
    apply: 6,
    apply_misbehaving: 2,
    apply_async: 4,
    options: 2,
    cancel: 3,
    map: 4,
    imap: 3,
    imap_unordered: 3,
    resize: 1,
    look: 1,
}
EXECUTOR: dict[Story, int] = {
    submit: 6,
    submit_misbehaving: 2,
    submit_with_callbacks: 3,
    options: 2,
    cancel_future: 2,
    executor_map: 4,
    resize: 1,
    look: 1,
}
